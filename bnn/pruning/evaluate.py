"""Held-out predictions of one level of pruning, and its accuracy beside the unpruned network's, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnn.errors import UserError
from bnn.inference.heldout import HeldOut
from bnn.inference.measures import PredictiveStatistics
from bnn.inference.predictor import Predictor


@dataclass(frozen=True)
class Evaluated:
    """`statistics` over all draws; `of_truth`: the true class's softmax values (draws, images shown)."""

    statistics: PredictiveStatistics
    of_truth: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the Monte-Carlo mean's prediction is right, by image."""
        correct: NDArray[np.bool_] = self.statistics.probability.argmax(axis=1) == self.statistics.labels
        return correct


def evaluate(predictor: Predictor, images: HeldOut, draws: int, seed: int, drawn: Callable[[int], object]) -> Evaluated:
    """Predict all images, draw by draw: memory does not grow with draws; `drawn` is told how many more are made.

    Raises UserError for non-finite values.
    """
    statistics = PredictiveStatistics(len(images), images.classes, images.labels)
    shown = images.first_of_classes()
    of_truth = np.empty((draws, len(shown)), np.float32)
    blocks = images.blocks(predictor.block, predictor.device)
    for draw, probabilities in enumerate(predictor.probabilities(seed, 0, draws, blocks)):
        values = probabilities.cpu().numpy()
        if not np.isfinite(values).all():
            raise UserError(f"draw {draw}: probabilities that are not finite")
        statistics.add(draw, values[None])
        of_truth[draw] = values[shown, images.labels[shown]]
        drawn(1)
    return Evaluated(statistics, of_truth)


def accuracy_loss(unpruned: NDArray[np.bool_], pruned: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Loss of accuracy in points with its 95% interval, paired by image.

    Of images that only one of both has right, one more is added on each side, and two to all: Bonett and Price, British
    Journal of Mathematical and Statistical Psychology 65 (2012). Without such images that is 2.8 / N, about the rule of
    three.
    """
    lost, won, count = int((unpruned & ~pruned).sum()), int((pruned & ~unpruned).sum()), len(unpruned)
    centre, total = (lost - won) / (count + 2), count + 2
    half = 1.959964 * math.sqrt(((lost + won + 2) / total - centre**2) / total)
    return 100 * (lost - won) / count, 100 * max(centre - half, -1.0), 100 * min(centre + half, 1.0)
