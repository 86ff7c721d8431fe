"""Numbers and times as a reader sees them. What is not there reads as a dash, never as nan."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd

DASH = "–"


def number(value: Any, digits: int = 3) -> str:
    """Significant digits; thousands separated; whole numbers whole."""
    if value is None or pd.isna(value):
        return DASH
    value = float(value)
    if value == int(value) and abs(value) >= 1000:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def printed(value: Any) -> str:
    """A number of a publication, with every digit that it prints."""
    return number(value, digits=8)


def span(low: Any, high: Any, digits: int = 3) -> str:
    """An interval."""
    if pd.isna(low) or pd.isna(high):
        return DASH
    return f"{number(low, digits)} to {number(high, digits)}"


def with_spread(value: Any, std: Any) -> str:
    """A value and its standard deviation, as far as it has one."""
    return number(value) + ("" if number(std) == DASH else f" ± {number(std, 2)}")


def percent(value: Any) -> str:
    return DASH if value is None or pd.isna(value) else f"{100 * float(value):.1f}%"


def mebibytes(value: Any) -> str:
    return DASH if value is None or pd.isna(value) else f"{float(value) / 2**20:,.0f}"


def moment(seconds: Any) -> str:
    """A time since 1970 as UTC."""
    if seconds is None or pd.isna(seconds):
        return DASH
    return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M UTC")


def text(value: Any) -> str:
    """A value of a record as text."""
    return (
        DASH if value is None or (not isinstance(value, list | dict) and pd.isna(value)) or value == "" else str(value)
    )
