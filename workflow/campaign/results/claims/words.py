"""Claims in words: what a publication prints, for tables that people read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Number = Callable[[float], str]


def said(row: Mapping[str, Any], number: Number) -> str:
    """What the publication prints, by a row of table `claims`; of an ordering or trend its bound."""
    if row["type"] not in ("ordering", "trend"):
        return number(row["paper"]) + (" (implied)" if row["implied"] else "")
    above = math.isnan(row["paper_low"])
    return f"at most {number(row['paper_high'])}" if above else f"at least {number(row['paper_low'])}"


def totals(verdicts: Mapping[str, int]) -> str:
    """How many claims have each verdict, in words."""
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count)
