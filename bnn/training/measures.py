"""Sums over held-out images from which an evaluation's measures are made; the ranks' sums are added up."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bnn.training.task import Classification, Regression


class ClassSums:
    """Of a classification, or of a segmentation's pixels: right ones, right ones of single draws, NLL and spread."""

    def __init__(self, task: Classification) -> None:
        self.task = task
        self.values = [0.0, 0.0, 0.0, 0.0]

    def add(self, outputs: Iterable[Tensor], targets: Tensor, draws: int) -> None:
        """Add the images of one block; `outputs` are those of its draws, logits of the task's shape."""
        labels = self.task.flat_labels(targets)
        mean = torch.zeros((), device=targets.device)
        of_truth = []
        for output in outputs:
            probability = functional.softmax(self.task.flat_logits(output).double(), dim=1)
            self.values[1] += float((probability.argmax(1) == labels).sum()) / draws
            mean = mean + probability / draws
            of_truth.append(probability.gather(1, labels[:, None])[:, 0])
        self.values[0] += int((mean.argmax(1) == labels).sum())
        self.values[2] -= float(mean.gather(1, labels[:, None]).clamp_min(1e-300).log().sum())
        self.values[3] += float(torch.stack(of_truth).std(dim=0).sum()) if draws > 1 else 0.0

    def measures(self, totals: Any, images: int, draws: int) -> dict[str, float | None]:
        """The fields of an Evaluation from the sums over all ranks, (4,)."""
        judged = images * prod(self.task.shapes(1)[0][2:])  # images, or pixels
        return {
            "accuracy": totals[0] / judged,
            "accuracy_single_draw": totals[1] / judged,
            "nll": totals[2] / images if np.isfinite(totals[2]) else None,
            "draw_spread": totals[3] / judged if draws > 1 and np.isfinite(totals[3]) else None,
        }


class RegressionSums:
    """Of a regression: NLL of the mixture of the draws' Gaussians, and squared errors of the mean over the draws."""

    def __init__(self, task: Regression) -> None:
        self.task = task
        self.values = [0.0, 0.0]

    def add(self, outputs: Iterable[Tensor], targets: Tensor, draws: int) -> None:
        """Add the images of one block; `outputs` are those of its draws, (N, D) or (N, 2 D)."""
        targets = targets.double()
        means, likelihoods = [], []
        for output in outputs:
            means.append(self.task.gaussian(output.double())[0])
            likelihoods.append(self.task.log_likelihood(output.double(), targets))
        mixture = torch.stack(likelihoods).logsumexp(0) - np.log(draws)
        self.values[0] -= float(mixture.sum())
        self.values[1] += float((torch.stack(means).mean(0) - targets).square().sum())

    def measures(self, totals: Any, images: int, _draws: int) -> dict[str, float | None]:
        """The fields of an Evaluation from the sums over all ranks, (2,)."""
        rmse = float(np.sqrt(totals[1] / (images * self.task.values)))
        return {
            "accuracy": None,
            "accuracy_single_draw": None,
            "nll": totals[0] / images if np.isfinite(totals[0]) else None,
            "draw_spread": None,
            "rmse": rmse if np.isfinite(rmse) else None,
        }
