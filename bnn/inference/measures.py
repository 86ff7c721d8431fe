"""What S Monte-Carlo draws say about N images, accumulated draw by draw: S x N x C values are never held at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import entr

from bnn.errors import UserError
from bnn.inference.reliability import calibration_error, debiased_calibration_error, reliability
from bnn.inference.selective import accuracy_at_coverage, area_under_risks, risks

# A probability of zero counts as this: its logarithm stays finite (as in bnn/training/evaluation.py).
SMALLEST = 1e-300


def negative_log(probability: np.ndarray) -> np.ndarray:
    """-log of probabilities of the true class, nats; at most 690.8, which is what a probability of zero gives."""
    return -np.log(np.maximum(probability, SMALLEST))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy in nats over the last axis: (..., classes) -> (...). A probability of zero adds nothing."""
    return entr(probabilities).sum(axis=-1)


class PredictiveStatistics:
    """Predictive distribution (the paper's eq. 4), its uncertainty and its scores, of one pass over the draws.

    Draws are added one by one and in order, in float64, so that the results are the same bits however the draws are
    divided over calls of `add`. Memory: four arrays of (images, classes), and three numbers per draw.
    """

    def __init__(self, images: int, classes: int, labels: np.ndarray) -> None:
        """`labels`: integers (images,). Raises UserError for a label that is not one of the classes."""
        if images < 1 or classes < 2 or labels.shape != (images,) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels {labels.dtype} {labels.shape} for {images} images and {classes} classes")
        outside = np.flatnonzero((labels < 0) | (labels >= classes))
        if outside.size:
            raise UserError(f"label {labels[outside[0]]} of image {outside[0]}: the posterior has {classes} classes")
        self.labels = labels.astype(np.int64)
        self.classes = classes
        self.count = 0  # draws so far
        self._rows = np.arange(images)
        self._draw = np.zeros((images, classes))  # the draw at hand, in float64
        self._sum = np.zeros((images, classes))
        self._squares = np.zeros((images, classes))  # sum over draws of (p - mean)^2
        self._votes = np.zeros((images, classes), dtype=np.int64)
        self._entropy = np.zeros(images)  # mean over draws
        self._accuracy: list[float] = []
        self._nll: list[float] = []
        self._nll_so_far: list[float] = []

    def add(self, first_draw: int, probabilities: np.ndarray) -> None:
        """Add the draws first_draw, first_draw + 1, ...: `probabilities` float32 (draws, images, classes).

        Raises ValueError when they are not the next draws or not of that shape, UserError naming the draw when a
        probability is not between 0 and 1 (NaN: the posterior is damaged, or its training diverged).
        """
        if first_draw != self.count:
            raise ValueError(f"draw {first_draw} added where draw {self.count} is next")
        if probabilities.ndim != 3 or probabilities.shape[1:] != self._sum.shape:
            raise ValueError(f"probabilities {probabilities.shape}, expected (draws, *{self._sum.shape})")
        for draw in probabilities:
            if not (draw.min() >= 0 and draw.max() <= 1):  # so written, NaN fails too
                raise UserError(f"draw {self.count}: predicted probabilities are not between 0 and 1")
            self._draw[...] = draw
            self._add()

    def _add(self) -> None:
        self.count += 1
        self._sum += self._draw
        if self.count > 1:
            # Youngs and Cramer's updating formula (1971): Welford's, from sums. Sums of float32 are (nearly) exact in
            # float64, so draws that are alike have a variance of exactly 0, and ties of the mean stay ties.
            deviation = self.count * self._draw - self._sum
            self._squares += deviation * deviation / (self.count * (self.count - 1))
        self._entropy += (entropy(self._draw) - self._entropy) / self.count
        vote = self._draw.argmax(axis=1)
        self._votes[self._rows, vote] += 1
        self._accuracy.append(float((vote == self.labels).mean()))
        self._nll.append(float(negative_log(self._of_truth(self._draw)).mean()))
        self._nll_so_far.append(float(negative_log(self._of_truth(self._sum) / self.count).mean()))

    def _of_truth(self, values: np.ndarray) -> np.ndarray:
        return values[self._rows, self.labels]

    @property
    def probability(self) -> np.ndarray:
        """Predictive probabilities: mean of the softmax over the draws, float64 (images, classes)."""
        if not self.count:
            raise ValueError("no draws yet")
        return self._sum / self.count

    @property
    def probability_std(self) -> np.ndarray:
        """Standard deviation of the softmax over the draws (n - 1), (images, classes); NaN for one draw."""
        if self.count < 2:
            return np.full_like(self._squares, np.nan)
        return np.sqrt(self._squares / (self.count - 1))

    def images(self) -> pd.DataFrame:
        """One row per image: the columns of IMAGES but `image`. The first class wins a tie."""
        probability = self.probability
        total = entropy(probability)
        return pd.DataFrame(
            {
                "label": self.labels,
                "predicted": probability.argmax(axis=1),
                "probability_label": self._of_truth(probability),
                "predictive_entropy": total,
                "mutual_information": np.maximum(total - self._entropy, 0),  # below 0 by rounding alone
                "variation_ratio": 1 - self._votes.max(axis=1) / self.count,
                "accuracy_single_draw": self._of_truth(self._votes) / self.count,
            }
        )

    def predictions(self) -> pd.DataFrame:
        """One row per image and class: the columns of PREDICTIONS, with the position 0, 1, ... as `image`."""
        probability = self.probability
        return pd.DataFrame(
            {
                "image": np.repeat(self._rows, self.classes),
                "class": np.tile(np.arange(self.classes), len(self._rows)),
                "probability": probability.ravel(),
                "probability_std": self.probability_std.ravel(),
            }
        )

    def draws(self) -> pd.DataFrame:
        """One row per draw: the columns draw, accuracy, nll and nll_so_far of DRAWS."""
        told = {"accuracy": self._accuracy, "nll": self._nll, "nll_so_far": self._nll_so_far}
        return pd.DataFrame({"draw": np.arange(self.count), **told})

    def summary(self) -> dict[str, Any]:
        """The measures of an InferenceSummary by their names there; None for a spread of one draw."""
        probability, images, several = self.probability, self.images(), self.count > 1
        errors = probability.copy()
        errors[self._rows, self.labels] -= 1
        nll = float(negative_log(self._of_truth(probability)).mean())
        risk = risks(probability, self.labels)
        return {
            "accuracy": float((images["predicted"] == images["label"]).mean()),
            "accuracy_single_draw": float(np.mean(self._accuracy)),
            "accuracy_single_draw_std": float(np.std(self._accuracy, ddof=1)) if several else None,
            "nll": nll,
            "nll_single_draw": float(np.mean(self._nll)),
            "log_probability": -nll,
            "brier": float((errors**2).sum(axis=1).mean()),
            "calibration_error": calibration_error(probability, self.labels),
            "calibration_error_debiased": debiased_calibration_error(reliability(probability, self.labels)),
            "aurc": area_under_risks(risk),
            "accuracy_at_90_coverage": accuracy_at_coverage(risk),
            "predictive_entropy": float(images["predictive_entropy"].mean()),
            "mutual_information": float(images["mutual_information"].mean()),
            "variation_ratio": float(images["variation_ratio"].mean()),
            "softmax_spread": float(self._of_truth(self.probability_std).mean()) if several else None,
        }
