"""The prediction of all candidates: a mixture of distributions, each as wide as its errors at held-out scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from campaign.results.projection.curves import Floats

FREEDOM = 4  # of Student's t: each scale is estimated from a handful of sizes, whose errors go together
PROBABILITIES = np.array([0.025, 0.5, 0.975])
HALVINGS = 60


@dataclass(frozen=True)
class Prediction:
    """Microseconds: median and the ends of the central 95%."""

    microseconds: float
    low: float
    high: float


@dataclass(frozen=True)
class Evidence:
    """What held-out scales of a curve say of its candidates at a size."""

    squares: Floats  # mean square errors of the logarithm per doubling, (candidates,), each above 0
    tests: int  # scales that were held out


def weights(evidence: list[Evidence]) -> Floats:
    """Of the candidates, (candidates,), summing to 1: the product over all tests of the inverse mean square error.

    `evidence` is of all curves of a library: it chooses its algorithm by the size, whatever the node, so that each
    curve is a test of its own, as is each scale. Errors at neighbouring sizes go together and are one test.
    """
    logarithms = -np.sum([each.tests * np.log(each.squares) for each in evidence], axis=0)
    found: Floats = np.exp(logarithms - logarithms.max())
    return found / found.sum()


def predict(weight: Floats, logarithms: Floats, scales: Floats, freedom: int = FREEDOM) -> Prediction:
    """Quantiles of the mixture of t distributions around candidates' logarithms, (candidates,) each, by bisection."""
    low = np.full(len(PROBABILITIES), np.min(logarithms - 100 * scales))
    high = np.full(len(PROBABILITIES), np.max(logarithms + 100 * scales))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = weight @ stats.t.cdf((middle - logarithms[:, None]) / scales[:, None], freedom) < PROBABILITIES
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    at = np.exp((low + high) / 2)
    return Prediction(microseconds=float(at[1]), low=float(at[0]), high=float(at[2]))
