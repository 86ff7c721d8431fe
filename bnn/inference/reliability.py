"""Whether a confidence of 80% is right 80% of the time: the reliability table and the calibration errors.

Guo et al., "On calibration of modern neural networks" (2017): BINS equal bins (low, high] of the largest predictive
probability. torchmetrics 1.9 bins [low, high) and puts a confidence of exactly 1 into a bin of its own (its issue
3510); its multiclass form also sums in float32, which 10,000 confident images notice. Hence the care below.

Of few images per bin that error is too large: a bin's accuracy is off its expectation by chance, and every deviation
counts as an error. The debiased one (Broecker, "Estimating reliability and resolution of probability forecasts through
decomposition of the empirical score", 2012; Kumar, Liang and Ma, "Verified uncertainty calibration", 2019) takes the
squares of the same bins' differences, whose excess is known to be the variance of the accuracy, and subtracts it.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

BINS = 15


def judged(probability: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, right), both (images,): largest probability and whether its class, the first in a tie, is true."""
    probability = probability.astype(np.float64)
    return probability.max(axis=1), probability.argmax(axis=1) == labels


def calibration_error(probability: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error: mean over images of their bin's |accuracy - confidence|.

    `probability`: (images, classes), predictive probabilities; `labels`: integers (images,).
    """
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    confidence, right = judged(probability, labels)
    # The binary form takes confidences as they are and stays in float64. The next number below lies in [low, high)
    # where the confidence lies in (low, high].
    below = torch.from_numpy(np.nextafter(confidence, 0))
    return float(binary_calibration_error(below, torch.from_numpy(right).long(), n_bins=BINS, norm="l1"))


def debiased_calibration_error(table: pd.DataFrame) -> float:
    """Root mean square calibration error without what chance adds. Of many images it is no less than the mean error.

    `table`: that of `reliability`. An estimate of the square that is below zero, as half of those are where nothing is
    wrong, gives 0. A bin of one image tells nothing of its variance and counts as 0, as in Kumar's program.
    """
    return math.sqrt(max(0.0, squared_calibration_error(table)))


def squared_calibration_error(table: pd.DataFrame) -> float:
    """Mean over images of their bin's (accuracy - confidence)^2, free of bias; below zero by chance alone.

    Its expectation is right for bins of two images and more whose images have the same chance of being right.
    """
    several = table[table["count"] > 1]
    count, accuracy = several["count"], several["accuracy"]
    excess = accuracy * (1 - accuracy) / (count - 1)
    return float((count * ((accuracy - several["confidence"]) ** 2 - excess)).sum() / table["count"].sum())


def reliability(probability: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """The table RELIABILITY: one row per bin. Arguments as of `calibration_error`, which it adds up to."""
    import torch

    confidence, right = judged(probability, labels)
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64).numpy()  # torchmetrics' own: numpy rounds one otherwise
    bins = np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0)
    count = np.bincount(bins, minlength=BINS)
    some = np.where(count > 0, count, np.nan)  # the means of an empty bin are null
    return pd.DataFrame(
        {
            "bin": np.arange(BINS),
            "low": edges[:-1],
            "high": edges[1:],
            "count": count,
            "confidence": np.bincount(bins, confidence, minlength=BINS) / some,
            "accuracy": np.bincount(bins, right, minlength=BINS) / some,
        }
    )
