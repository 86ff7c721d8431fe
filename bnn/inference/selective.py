"""Whether the most confident predictions are the right ones: risk against coverage, its area, accuracy at a coverage.

A classifier that may abstain answers the images whose confidence, the largest predictive probability, is highest. The
share that it answers is the coverage, the share of errors among those the (selective) risk (El-Yaniv and Wiener, "On
the foundations of noise-free selective classification", 2010; Geifman and El-Yaniv, "Selective classification for deep
neural networks", 2017). AURC is the mean of the risk over the coverages 1/n, 2/n, ..., 1 (Geifman, Uziel and El-Yaniv,
"Bias-reduced uncertainty estimation for deep neural classifiers", 2019); torch-uncertainty integrates the same curve by
the trapezoidal rule from 1/n on, which takes half of its first and of its last value.

Images of the same confidence have no order: each counts as the mean of all of them, which is what random orders give on
average. So nothing here depends on the order of the images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnn.inference.reliability import judged

COVERAGE_PERCENT = 90  # of `accuracy_at_90_coverage` in the records


def risks(probability: np.ndarray, labels: np.ndarray) -> NDArray[np.float64]:
    """Share of errors among the k most confident images for k = 1, ..., images: (images,).

    `probability`: (images, classes), predictive probabilities; `labels`: integers (images,).
    """
    confidence, right = judged(probability, labels)
    _, group, size = np.unique(-confidence, return_inverse=True, return_counts=True)  # the most confident first
    of_group = np.bincount(group, ~right) / size
    return np.asarray(np.cumsum(np.repeat(of_group, size)) / np.arange(1, len(right) + 1), dtype=np.float64)


def area_under_risks(risk: NDArray[np.float64]) -> float:
    """AURC, from 0 (no error at all) to 1; `risk` as `risks` gives it."""
    return float(risk.mean())


def accuracy_at_coverage(risk: NDArray[np.float64], percent: int = COVERAGE_PERCENT) -> float:
    """Accuracy of the most confident images, as few of them as are at least `percent` of all."""
    answered = -(-percent * len(risk) // 100)
    return float(1 - risk[answered - 1])
