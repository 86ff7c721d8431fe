"""The table that `campaign project cells` prints: a projection of each family, its parts in per cent of a step."""

from __future__ import annotations

import pandas as pd
from rich.table import Table
from rich.text import Text

from campaign.results.tables.projection_schemas import LOSSES

KEYS = ["dataset", "model", "kind", "batch_size", "variant"]
SHORT = {
    "inflation": "inflation", "straggler": "late rank", "negotiation": "negotiation", "latency": "latency",
    "bandwidth": "bandwidth",
}  # fmt: skip


def family_tables(rows: pd.DataFrame) -> list[Table]:
    """One table per family, a row per number of nodes."""
    return [_table(family) for _, family in rows.groupby(KEYS, sort=True)]


def _table(rows: pd.DataFrame) -> Table:
    first = rows.iloc[0]
    what = f"{first['dataset']} {first['model']} {first['kind'].upper()}"
    name = f"{what}, batch {first['batch_size']}, {first['variant']}"
    table = Table(title=Text(f"{name}; {first['source']}"), caption=Text(f"assumed: {first['assumed']}"))
    table.title_justify = table.caption_justify = "left"
    for heading in ("nodes", "step", "95% interval", "range", "samples/s", "efficiency", *SHORT.values()):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for _, row in rows.iterrows():
        table.add_row(*map(Text, _cells(row)))
    return table


def _cells(row: pd.Series) -> list[str]:
    if pd.isna(row["step_seconds"]):
        return [str(row["nodes"]), *[""] * (5 + len(LOSSES)), str(row["verdict"])]
    return [
        str(row["nodes"]),
        f"{1000 * row['step_seconds']:.2f} ms",
        _pair(row["low"], row["high"]),
        _pair(row["range_low"], row["range_high"]),
        f"{row['throughput']:.5g}",
        f"{row['efficiency']:.3f}",
        *(f"{100 * row[name] / row['model_seconds']:.1f}%" for name in SHORT),
        str(row["verdict"]),
    ]


def _pair(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"{1000 * low:.2f} to {1000 * high:.2f}"
