"""How far each candidate's predictions are off at scales that were held out: weights and intervals rest on that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from campaign.results.projection.algorithms import ALGORITHMS, fit, times
from campaign.results.projection.curves import Curve, Floats, Points
from campaign.results.projection.regimes import Regime

TINY = float(np.finfo(float).tiny)
FEWEST = 3  # measured scales: two fit a line, and no third says whether it is one


@dataclass(frozen=True)
class Candidate:
    """A way to extend a curve: an algorithm's fit as it is, or its growth from the largest scale's measured times.

    The latter (`anchored`) keeps what of a size no smooth model explains, and that measurement's noise as well.
    """

    algorithm: str
    anchored: bool

    def logarithms(self, curve: Curve, scales: slice, regime: Regime, targets: list[Points]) -> list[Floats]:
        """Logarithms of microseconds at targets of the regime's sizes, fitted to some of the scales; (sizes,) each."""
        measured = curve.microseconds[scales, regime]
        costs = fit(self.algorithm, curve.points(scales, regime), measured.ravel())
        offset = np.zeros(measured.shape[1])
        if self.anchored:
            last = range(len(curve.ranks))[scales][-1]
            fitted = times(self.algorithm, costs, curve.points(slice(last, last + 1), regime))
            offset = np.log(measured[-1] / fitted)
        # a fit that says nothing of the targets predicts 0: its error is beyond all others', and so it weighs nothing
        return [np.log(np.maximum(times(self.algorithm, costs, points), TINY)) + offset for points in targets]


CANDIDATES = tuple(Candidate(algorithm, anchored) for algorithm, anchored in product(ALGORITHMS, (False, True)))


def holdouts(curve: Curve) -> list[int]:
    """Numbers of smaller scales that a fit can be made of to predict the others: two or more.

    Where the others cross a network, two of them do so, too, as one shows no growth; or one of them, where two would
    leave nothing to hold out. Empty where fewer than FEWEST scales were measured.
    """
    if len(curve.ranks) < FEWEST:
        return []
    numbers = range(2, len(curve.ranks))
    if curve.nodes[-1] == 1:
        return [*numbers]
    networked = {k: sum(nodes > 1 for nodes in curve.nodes[:k]) for k in numbers}
    return [k for k in numbers if networked[k] >= 2] or [k for k in numbers if networked[k]]


def doublings(more: float, fewer: float) -> float:
    """How far an extrapolation goes: factor of the rank count, as its binary logarithm."""
    return math.log2(more / fewer)


def heldout_errors(curve: Curve, regime: Regime) -> Floats:
    """Errors of the logarithm at scales held out, predicted from smaller ones, per doubling between them.

    (candidates, pairs of a fit and a scale held out, sizes of the regime); no pairs where `holdouts` has none.
    """
    errors = []
    for candidate in CANDIDATES:
        rows = []
        for k in holdouts(curve):
            targets = [curve.points(slice(scale, scale + 1), regime) for scale in range(k, len(curve.ranks))]
            found = candidate.logarithms(curve, slice(0, k), regime, targets)
            for scale, logarithms in zip(range(k, len(curve.ranks)), found, strict=True):
                error = logarithms - np.log(curve.microseconds[scale, regime])
                rows.append(error / growth(doublings(curve.ranks[scale], curve.ranks[k - 1])))
        errors.append(np.array(rows).reshape(-1, regime.stop - regime.start))
    return np.array(errors)


def growth(distance: float) -> float:
    """How errors grow with the doublings of an extrapolation, 1 for one: as those of a walk, a step per doubling.

    That candidates grow apart the further they go comes on top of it.
    """
    return math.sqrt(distance)
