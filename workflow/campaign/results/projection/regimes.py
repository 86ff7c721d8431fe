"""Ranges of sizes that one algorithm and one protocol explain: the best division of a curve by BIC."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from campaign.results.projection.algorithms import ALGORITHMS, fit, times
from campaign.results.projection.curves import Curve

SHORTEST = 3  # sizes: fewer tell latency and bandwidth from noise no more
EXACT = 0.03  # relative error: below it no fit is called better, as no collective keeps to its model more exactly

Regime = slice  # of a curve's sizes


def regimes(curve: Curve, cuts: Iterable[int]) -> list[Regime]:
    """Consecutive regimes of all sizes, each of SHORTEST sizes or more unless two of `cuts` are closer.

    `cuts`: places in `sizes` at which a regime has to begin. The division minimizes the sum over regimes of
    n log(mean square error) + k log(n of the curve), n in sizes, as errors at one size go together, with the best
    algorithm in each, k its positive costs and the regime's beginning; dynamic programming finds it.
    """
    count = len(curve.sizes)
    fixed = sorted({0, *cuts, count})
    best: dict[int, tuple[float, list[Regime]]] = {0: (0.0, [])}
    for low, high in pairwise(fixed):
        for end in range(low + 1, high + 1):
            options = []
            for begin in [low, *range(low + SHORTEST, end - SHORTEST + 1)]:
                whole = begin == low and end == high
                if begin in best and (whole or end - begin >= SHORTEST):
                    before, divided = best[begin]
                    options.append((before + _criterion(curve, slice(begin, end)), [*divided, slice(begin, end)]))
            if options:
                best[end] = min(options, key=lambda option: option[0])
    return best[count][1]


def _criterion(curve: Curve, regime: Regime) -> float:
    points, measured = curve.points(slice(None), regime), curve.microseconds[:, regime].ravel()
    penalty, count = math.log(len(curve.sizes)), regime.stop - regime.start
    found = math.inf
    for algorithm in ALGORITHMS:
        costs = fit(algorithm, points, measured)
        errors = times(algorithm, costs, points) / measured - 1
        square = float(np.mean(errors**2)) + EXACT**2
        found = min(found, count * math.log(square) + (1 + np.count_nonzero(costs)) * penalty)
    return found
