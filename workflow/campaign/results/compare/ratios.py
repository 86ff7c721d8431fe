"""Ratios of two campaigns' repeats with their 95% intervals, and tests on them. docs/compare.md has their error rates.

Everything is on the logarithm, so that B / A and A / B agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnn.metrics import FEW_REPEATS, Interval
from campaign.results.statistics import interval_or_nan, paired, pooled_std

WELCH, COMBINED = "Welch's t on log", "both intervals combined"
SINGLE = "single value"
CONFIDENCE = 0.975  # of each end
MOST_WRONG = 0.05  # share of the verdicts better and worse that may be wrong


@dataclass(frozen=True)
class Ratio:
    """B / A. `down` and `up` are the standard errors of its logarithm towards either end, read on Student's t."""

    interval: Interval
    down: float = math.nan
    up: float = math.nan
    degrees: float = math.nan

    @property
    def estimable(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.interval.low)


@dataclass(frozen=True)
class Noise:
    """How repeats of a metric scatter, pooled over cells: standard deviation of logarithms, degrees of freedom."""

    sigma: float
    degrees: float

    def error(self, repeats: Sequence[int]) -> float:
        """Standard error of a logarithm of a ratio between sides of so many repeats (one number: of pairs)."""
        return self.sigma * math.sqrt(sum(1 / count for count in repeats))

    def floor(self, repeats: Sequence[int]) -> float:
        """How far from 1 the ratio of two sides that are the same is by chance, in 19 of 20 cases: a fraction."""
        return math.expm1(quantile(self.degrees) * self.error(repeats))


def quantile(degrees: float) -> float:
    """Of Student's t, at the end of a 95% interval."""
    from scipy import special

    return float(special.stdtrit(degrees, CONFIDENCE))


def unpaired(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """The ratio of what `repeats_interval` calls the value of each side, of repeats that are independent of each other.

    Fewer than FEW_REPEATS on both sides: Welch's t-interval. More: the sides' own intervals combined as independent
    errors (Zou and Donner, Statistics in Medicine 27, 2008), so that it rests on medians as they do.

    Raises ValueError for a value that is not positive, and without values.
    """
    one, two = interval_or_nan(a), interval_or_nan(b)
    if math.isnan(one.value) or math.isnan(two.value):
        raise ValueError("a ratio needs values on both sides")
    ratio = two.value / one.value
    if min(len(a), len(b)) < 2:
        return Ratio(Interval(ratio, math.nan, math.nan, SINGLE))
    if max(len(a), len(b)) < FEW_REPEATS:
        parts = [float(np.var(np.log(side), ddof=1)) / len(side) for side in (a, b)]
        total = sum(parts)
        spread = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
        degrees = total**2 / spread if spread > 0 else len(a) + len(b) - 2
        error = math.sqrt(total)
        half = quantile(degrees) * error
        return Ratio(Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half), WELCH), error, error, degrees)
    down = math.hypot(math.log(two.value / two.low), math.log(one.high / one.value))
    up = math.hypot(math.log(two.high / two.value), math.log(one.value / one.low))
    degrees = min(len(a), len(b)) - 1
    interval = Interval(ratio, ratio * math.exp(-down), ratio * math.exp(up), COMBINED)
    return Ratio(interval, down / quantile(degrees), up / quantile(degrees), degrees)


def against(values: Sequence[float], reference: float) -> Ratio:
    """The ratio of the value of repeats to a number without error. Raises ValueError as `unpaired` does."""
    return by_repeat(dict.fromkeys(range(len(values)), reference), dict(enumerate(values)))


def by_repeat(a: Mapping[int, float], b: Mapping[int, float]) -> Ratio:
    """The ratio of repeats that belong together: those with the same seed. Raises ValueError as `unpaired` does."""
    interval = paired(b, a)
    count = len(set(a) & set(b))
    if not count:
        raise ValueError("a ratio needs a repeat that both sides have")
    if count < 2:
        return Ratio(interval)
    down, up = math.log(interval.value / interval.low), math.log(interval.high / interval.value)
    return Ratio(interval, down / quantile(count - 1), up / quantile(count - 1), count - 1)


def noise(samples: Sequence[Sequence[float]]) -> Noise:
    """Pooled over samples of logarithms, each of one cell; NaN without two values in any."""
    stds = [float(np.std(logs, ddof=1)) if len(logs) > 1 else math.nan for logs in samples]
    counts = [len(logs) for logs in samples]
    return Noise(pooled_std(stds, counts), sum(count - 1 for count in counts if count > 1))


def chance(ratio: Ratio, same: tuple[float, float], floor: Noise, repeats: Sequence[int]) -> float:
    """Two-sided p-value of "the ratio lies within `same`" (from, to), by the larger of its own and the pooled error.

    Few repeats may agree by luck and many cells hold one that did: the pooled error keeps it from looking certain.
    """
    from scipy import special

    low, high = (math.log(edge) if edge > 0 else -math.inf for edge in same)
    at, pooled = math.log(ratio.interval.value), floor.error(repeats)
    above, below = at - high, low - at
    away, own = (above, ratio.down) if above > below else (below, ratio.up)
    error = max(own, pooled)
    if error == 0 or math.isinf(away):
        return 0.0 if away > 0 else 1.0
    return min(1.0, 2 * float(special.stdtr(floor.degrees, -away / error)))


def adjusted(chances: Sequence[float]) -> list[float]:
    """P-values by Benjamini and Hochberg (Journal of the Royal Statistical Society B 57, 1995), in the same order.

    Of those that are at most 5% then, 5% are wrong in the mean; where nothing differs, any is there in 5% of cases.
    """
    values = np.asarray(chances, dtype=float)
    count = len(values)
    if not count:
        return []
    order = np.argsort(values)
    scaled = values[order] * count / np.arange(1, count + 1)
    found = np.empty(count)
    found[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return [float(value) for value in found]
