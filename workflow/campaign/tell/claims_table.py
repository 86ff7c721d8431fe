"""The table that `campaign claims` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd


def claims_table(claims: pd.DataFrame) -> Table:
    """Id, verdict, ours with its interval, and what the paper prints, of each row of table `claims`."""
    table = Table("claim", "verdict", "ours", "95% interval", "paper", "scale", title="Claims")
    for row in claims.to_dict("records"):
        interval = f"{_number(row['low'])} to {_number(row['high'])}" if not math.isnan(row["low"]) else ""
        cells = (row["id"], row["verdict"], _number(row["ours"]), interval, _paper(row), row["scale"])
        table.add_row(*map(Text, cells))
    return table


def totals(claims: pd.DataFrame) -> str:
    """How many claims have each verdict, and the ledger that they are of."""
    if claims.empty:
        return "no claims"
    counts = claims["verdict"].value_counts()
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    first = claims.iloc[0]
    return f"{len(claims)} claims of {first['ledger']} (sha256 {first['ledger_sha256'][:12]}): {said}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _paper(row: dict[str, Any]) -> str:
    if row["type"] in ("ordering", "trend"):
        return f"at most {_number(row['paper_high'])}" if _is_above(row) else f"at least {_number(row['paper_low'])}"
    return _number(row["paper"])


def _is_above(row: dict[str, Any]) -> bool:
    return math.isnan(row["paper_low"])
