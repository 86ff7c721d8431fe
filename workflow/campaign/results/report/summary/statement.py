"""A sentence with the numbers that it rests on, and the words that several sentences share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from campaign.results.report.words import DASH, number, span

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Statement:
    """A sentence for people, and for machines the exact values that are in it."""

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON has it; what is not known (NaN, infinite) is null, as JSON has no such numbers."""
        return {"text": self.text, "values": {key: _plain(value) for key, value in self.values.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bool | str):
        return value
    if pd.isna(value):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and math.isfinite(value) else None


def absent(tables: Tables, *names: str) -> list[str]:
    """Those of these tables that were not made."""
    return [name for name in names if name not in tables]


def count(many: int, one: str, more: str = "") -> str:
    """'1 cell', '2 cells'."""
    return f"{many:,} {one if many == 1 else more or f'{one}s'}"


def listed(words: Iterable[Any], most: int = 0) -> str:
    """'a', 'a and b', 'a, b and c'; of more than `most` the first ones, and how many more."""
    found = [str(word) for word in words]
    if most and len(found) > most:
        found = [*found[:most], f"{len(found) - most} more"]
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)


def between(values: Iterable[float]) -> str:
    """'16', or '16 to 128'."""
    low, high = min(found := list(values)), max(found)
    return number(low) if low == high else span(low, high)


def with_interval(value: float, low: float, high: float) -> str:
    """A value with its 95% interval, or with the word that it has none."""
    interval = span(low, high)
    return f"{number(value)} ({f'95% interval {interval}' if interval != DASH else 'no interval'})"
