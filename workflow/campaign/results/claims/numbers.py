"""Numbers as a publication prints them: what their rounding leaves open, and the scale that they are printed on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from bnn.metrics import Interval

Change = Callable[[float], float]
PRINTED = "as printed"
# A scale's name -> from what is measured to what is printed, and back. Each is monotone.
SCALES: dict[str, tuple[Change, Change]] = {
    "plain": (lambda x: x, lambda y: y),
    "percent": (lambda x: 100 * x, lambda y: y / 100),
    "percent less": (lambda x: 100 * (1 - x), lambda y: 1 - y / 100),
    "percent more": (lambda x: 100 * (x - 1), lambda y: 1 + y / 100),
    "minutes": (lambda x: x / 60, lambda y: 60 * y),
    "thousands": (lambda x: x / 1e3, lambda y: 1e3 * y),
    "millions": (lambda x: x / 1e6, lambda y: 1e6 * y),
}


def rounded(text: str) -> Interval:
    """What a printed number may have been: half its last digit's unit either way ("3.37": 3.365 to 3.375; "=2": 2)."""
    if text.startswith("="):
        return Interval(float(text[1:]), float(text[1:]), float(text[1:]), PRINTED)
    number = Decimal(text)
    half = Decimal((0, (5,), int(number.as_tuple().exponent) - 1))
    return Interval(float(number), float(number - half), float(number + half), PRINTED)


def printed(given: Mapping[str, Any] | None) -> Interval:
    """Interval of a claim's `printed`: one number, or a range from `low` to `high`; NaN without."""
    if given is None:
        return Interval(math.nan, math.nan, math.nan, "")
    if "value" in given:
        return rounded(given["value"])
    low, high = rounded(given["low"]), rounded(given["high"])
    return Interval((low.value + high.value) / 2, low.low, high.high, PRINTED)


def changed(interval: Interval, change: Change) -> Interval:
    """An interval by a monotone change of scale."""
    ends = [change(interval.low), change(interval.high)]
    return Interval(change(interval.value), min(ends), max(ends), interval.method)
