"""Many settings measured in the same repeats: the ratio of any two, with intervals that hold for all of them at once.

Randomised blocks: log rate = setting + repeat + noise, by least squares. The noise is taken to be of one spread, pooled
over all settings: three repeats of one alone would tell nothing at this confidence. Intervals are Tukey's, Kramer's
where repeats are missing (Kramer 1956; Hayter 1984): for all pairs, since the best is chosen by looking.
docs/intervals.md says how often they hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from bnn.metrics import Interval
from campaign.results.statistics import NO_INTERVAL

CALLED = "Tukey's interval of all pairs, on the logarithm"
LEAST = 2  # degrees of freedom that an interval needs: one says nothing


class Blocks:
    """`rates`: of each setting, by repeat. Settings without any are as if they were not there."""

    def __init__(self, rates: Mapping[str, Mapping[int, float]]) -> None:
        self._rates = {name: values for name, values in rates.items() if values}
        self._names = list(self._rates)
        repeats = sorted({repeat for values in self._rates.values() for repeat in values})
        measured = [(name, repeat, rate) for name, values in self._rates.items() for repeat, rate in values.items()]
        design = np.zeros((len(measured), len(self._names) + len(repeats)))
        for row, (name, repeat, _) in zip(design, measured, strict=True):
            row[[self._names.index(name), len(self._names) + repeats.index(repeat)]] = 1.0
        logs = np.array([math.log(rate) for *_, rate in measured])
        rank = int(np.linalg.matrix_rank(design)) if measured else 0
        self._covariance = np.linalg.pinv(design.T @ design)  # of the effects, over the noise's variance
        self._effects = self._covariance @ design.T @ logs
        self._degrees = len(measured) - rank
        self._squares = float(np.sum((logs - design @ self._effects) ** 2))
        self._linked = rank == design.shape[1] - 1

    def best(self) -> str:
        """The setting of the highest rate; empty of one alone, and where repeats do not link all of them."""
        if len(self._names) < 2 or not self._linked:
            return ""
        return self._names[int(np.argmax(self._effects[: len(self._names)]))]

    def ratio(self, one: str, other: str) -> Interval:
        """Of two settings' rates; NaN where no repeat has both. Without an interval where too little was measured."""
        if not set(self._rates.get(one, ())) & set(self._rates.get(other, ())):
            return NO_INTERVAL
        if one == other:
            return Interval(1.0, 1.0, 1.0, CALLED)
        contrast = np.zeros(len(self._effects))
        contrast[self._names.index(one)], contrast[self._names.index(other)] = 1.0, -1.0
        centre = float(contrast @ self._effects)
        if self._degrees < LEAST:
            return Interval(math.exp(centre), math.nan, math.nan, "")
        variance = self._squares / self._degrees * float(contrast @ self._covariance @ contrast)
        half = _tukey(len(self._names), self._degrees) / math.sqrt(2) * math.sqrt(variance)
        value, low, high = (math.exp(centre + sign * half) for sign in (0, -1, 1))
        return Interval(value, low, high, CALLED)


@lru_cache
def _tukey(settings: int, degrees: int) -> float:
    """95% quantile of the studentised range."""
    from scipy import stats

    return float(stats.studentized_range.ppf(0.95, settings, degrees))
