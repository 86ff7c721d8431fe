"""What a network's outputs mean: class logits, class logits of every pixel, or the values of a regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bnn.data import Dataset
from bnn.errors import UserError
from bnn.settings import TrainSettings


@dataclass(frozen=True)
class Classification:
    """Logits (N, classes) against labels (N,): the categorical likelihood."""

    classes: int

    def shapes(self, count: int) -> list[tuple[int, ...]]:
        """The shapes that an output for `count` images may have."""
        return [(count, self.classes)]

    def nll(self, output: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of the targets, nats per example: the mean over the batch."""
        return functional.cross_entropy(output, target)

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        """Share of what is classified rightly, a single number."""
        return (output.argmax(1) == target).to(output.dtype).mean()

    def flat_logits(self, output: Tensor) -> Tensor:
        """Logits (M, classes) of everything that is classified."""
        return output

    def flat_labels(self, target: Tensor) -> Tensor:
        """Labels (M,) of everything that is classified."""
        return target


@dataclass(frozen=True)
class Segmentation(Classification):
    """Logits (N, classes, H, W) against a label of every pixel (N, H, W).

    The likelihood of an image is the product over its pixels, so that the NLL is their sum: as many nats per example as
    the evidence lower bound needs beside KL / n. Accuracy is per pixel.
    """

    height: int
    width: int

    def shapes(self, count: int) -> list[tuple[int, ...]]:
        return [(count, self.classes, self.height, self.width)]

    def nll(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target) * (self.height * self.width)

    def flat_logits(self, output: Tensor) -> Tensor:
        return output.permute(0, 2, 3, 1).reshape(-1, self.classes)

    def flat_labels(self, target: Tensor) -> Tensor:
        return target.reshape(-1)


@dataclass(frozen=True)
class Regression:
    """Values (N, D) under a Gaussian likelihood: means (N, D) with the standard deviation `noise`, or (N, 2 D).

    The second half of 2 D outputs are logarithms of variances, which the network then predicts (Nix and Weigend 1994;
    Kendall and Gal 2017). There is no accuracy: it is NaN, and evaluations have the root mean squared error.
    """

    values: int
    noise: float

    def shapes(self, count: int) -> list[tuple[int, ...]]:
        return [(count, self.values), (count, 2 * self.values)]

    def gaussian(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances, (N, D) each."""
        if output.shape[1] == self.values:
            return output, torch.full_like(output, 2 * math.log(self.noise))
        return output[:, : self.values], output[:, self.values :]

    def log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        """Of every example, (N,), nats: the sum over the D values."""
        mean, log_variance = self.gaussian(output)
        square = (target - mean).square() * torch.exp(-log_variance)
        return -0.5 * (math.log(2 * math.pi) + log_variance + square).sum(1)

    def nll(self, output: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of the targets, nats per example: the mean over the batch."""
        return -self.log_likelihood(output, target).mean()

    def accuracy(self, output: Tensor, _target: Tensor) -> Tensor:
        """NaN: values are not right or wrong."""
        return torch.full((), math.nan, dtype=output.dtype, device=output.device)


Task = Classification | Segmentation | Regression


def make_task(settings: TrainSettings, dataset: Dataset) -> Task:
    """The task of a run. Raises UserError for a data set with targets of another kind."""
    if dataset.task != settings.task:
        raise UserError(f"task {settings.task}: data set {dataset.name} has targets of {dataset.task}")
    if settings.task == "segmentation":
        return Segmentation(dataset.classes, *dataset.input_shape[1:])
    if settings.task == "regression":
        return Regression(dataset.classes, settings.observation_std)
    return Classification(dataset.classes)
