"""Statistics of repeated measurements: what bnn.metrics defines, applied to tables of cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from bnn.metrics import Interval, ratio_interval, repeats_interval

NO_INTERVAL = Interval(math.nan, math.nan, math.nan, "")


def pooled_std(stds: Iterable[float], counts: Iterable[int]) -> float:
    """Standard deviation within groups: sqrt(sum((n-1) s^2) / sum(n-1)); NaN when no group has two values."""
    weighted = degrees = 0.0
    for std, count in zip(stds, counts, strict=True):
        if count > 1 and not math.isnan(std):
            weighted += (count - 1) * std**2
            degrees += count - 1
    return math.sqrt(weighted / degrees) if degrees else math.nan


def interval_or_nan(values: Sequence[float]) -> Interval:
    """`repeats_interval`, or NaN when nothing was measured."""
    return repeats_interval(values) if len(values) else NO_INTERVAL


def paired(numerators: Mapping[int, float], denominators: Mapping[int, float]) -> Interval:
    """Ratio of two measurements, paired by repeat; NaN when no repeat has both.

    Repeats are interleaved in time, so pairing takes the machine's slow drift out of the interval.
    """
    common = sorted(set(numerators) & set(denominators))
    if not common:
        return NO_INTERVAL
    return ratio_interval([numerators[r] for r in common], [denominators[r] for r in common])


def ratio_sigma(ratio: float, a: float, sigma_a: float, b: float, sigma_b: float) -> float:
    """First-order standard deviation of a/b for independent a and b (the 1-sigma bars of the paper's Fig. 3)."""
    return ratio * math.hypot(sigma_a / a, sigma_b / b)


def worse(*verdicts: str) -> str:
    """The worst of some verdicts."""
    order = ("OK", "WARN", "INVALID", "MISSING")
    return max(verdicts, key=order.index)
