"""How much longer the slowest of many ranks takes than their mean, from what one or a few ranks were measured to take.

Synchronous steps last as long as their slowest rank. The expected maximum over n ranks, each drawn alike and by itself,
is the integral of 1 - F^n. F is the sample's own up to its largest tenth, and exponential beyond, as mean excesses are
there (peaks over threshold, shape 0: Davison and Smith, J. R. Statist. Soc. B 52, 1990): it grows with log n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from campaign.results.projection.curves import Floats

FEWEST = 30  # values: of three its tail has an interval from 0.4 to 4.8 times the estimate, of fewer a wider one
TAIL = 0.1  # share of values by which the tail is fitted


class Excess(NamedTuple):
    """Seconds by which the slowest of some ranks is expected to be behind their mean, with its 95% interval."""

    seconds: float
    low: float
    high: float


class Spread:
    """Deviations of ranks' seconds per step from their mean.

    `apart`: whether they were told apart from what all ranks have in common; where they were not (one rank), they
    may all be common, and then no rank is late: the interval begins at 0. Raises ValueError below FEWEST values.
    """

    def __init__(self, deviations: Floats, apart: bool) -> None:
        if len(deviations) < FEWEST:
            raise ValueError(f"{len(deviations)} values, {FEWEST} needed")
        self.apart = apart
        values = np.sort(deviations - deviations.mean())
        self._beyond = math.ceil(TAIL * len(values))
        self._share = self._beyond / len(values)
        self._body = values[: -self._beyond]
        self._below = np.arange(1, len(self._body)) / len(values)
        self._mean_excess = float(values[-self._beyond :].mean() - self._body[-1])

    def excess(self, ranks: float) -> Excess:
        """Of the slowest of so many ranks; nothing for one."""
        if ranks <= 1:
            return Excess(0.0, 0.0, 0.0)
        body = float(self._body[0] + np.diff(self._body) @ (1 - self._below**ranks))
        tail = self._mean_excess * _peaks(ranks, self._share)
        # 2 k estimate / truth of an exponential's mean is chi-squared with 2 k degrees of freedom
        count = 2 * self._beyond
        low, high = (tail * count / float(special.chdtri(count, side)) for side in (0.025, 0.975))
        return Excess(max(0.0, body + tail), max(0.0, body + low) if self.apart else 0.0, max(0.0, body + high))


def _peaks(ranks: float, share: float) -> float:
    """The integral of 1 - (1 - share e^-y)^ranks over y >= 0: sum over j <= ranks of (1 - (1 - share)^j) / j."""
    harmonic = float(special.digamma(ranks + 1)) + float(np.euler_gamma)
    terms = np.arange(1, int(min(ranks, 60 / share)) + 1)
    return harmonic - float(((1 - share) ** terms / terms).sum())


def between_ranks(seconds: Floats) -> Floats:
    """Deviations of ranks from their steps' means, as large as those of single ranks would be; (steps x ranks,).

    `seconds`: (steps, ranks), two ranks or more. What all ranks of a step have in common is in none of them.
    """
    count = seconds.shape[1]
    centred = seconds - seconds.mean(axis=1, keepdims=True)
    return np.asarray(centred.ravel() * math.sqrt(count / (count - 1)))
