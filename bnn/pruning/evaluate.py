"""Held-out predictions of one level of pruning, and its accuracy beside the unpruned network's, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress, TaskID
from scipy import stats

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


def evaluate(predictor: Predictor, images: HeldOut, draws: int, seed: int, bar: Progress, task: TaskID) -> Evaluated:
    """Predict all images, draw by draw: memory does not grow with draws. Raises UserError for non-finite values."""
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
        bar.advance(task)
    return Evaluated(statistics, of_truth)


def accuracy_loss(unpruned: NDArray[np.bool_], pruned: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Loss of accuracy in points with its 95% interval, from the images' differences (paired, t-interval).

    Where no image differs the interval is that of the rule of three: up to 3 / N of them may.
    """
    difference = unpruned.astype(float) - pruned.astype(float)
    count, loss = len(difference), 100 * float(difference.mean())
    if count < 2 or not difference.any():
        return loss, loss - 300 / count, loss + 300 / count
    half = 100 * float(stats.t.ppf(0.975, count - 1) * difference.std(ddof=1) / np.sqrt(count))
    return loss, loss - half, loss + half
