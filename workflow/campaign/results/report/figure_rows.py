"""The rows that a figure is drawn from, in the page, for its CSV file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from campaign.results.figures.catalogue import FIGURES, FigureSpec
from campaign.results.report.headline import serving

if TYPE_CHECKING:
    Tables = Mapping[str, pd.DataFrame]

# Tables that say of what the others' rows are; a figure's rows are of the first table that is none of these.
ABOUT = frozenset({"cells", "inference", "pruning_summary", "bench_runs"})
LARGEST = 40_000  # characters that the rows of one figure may add to the page; more are in the Parquet table only


def figure_rows(name: str, tables: Tables) -> dict[str, Any]:
    """`table`: the figure's table; `count` of its rows; `json`: these by column, empty where they are too many.

    A column of one value has that value in place of a list.
    """
    spec = FIGURES[name]
    table = next((each for each in spec.tables if each not in ABOUT), "")
    if not table or table not in tables or tables[table].empty:
        return {"table": "", "count": 0, "json": ""}
    rows = of_figure(spec, tables[table])
    if len(rows) * 2 > LARGEST:  # nor is it tried: of some column each row has a value and a comma
        return {"table": table, "count": len(rows), "json": ""}
    text = json.dumps({"count": len(rows), "columns": columns(rows)}, separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return {"table": table, "count": len(rows), "json": Markup(safe) if len(safe) <= LARGEST else ""}  # noqa: S704


def of_figure(spec: FigureSpec, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the figure's role and model; some figures leave out more, as their notes say."""
    rows = serving(table, spec.role) if spec.role and "roles" in table else table
    return rows[rows["model"] == spec.model] if spec.model and "model" in rows else rows


def columns(rows: pd.DataFrame) -> dict[str, Any]:
    """Values by column; null for none."""
    made = {}
    for name in rows.columns:
        values = [_plain(value) for value in rows[name].tolist()]
        made[str(name)] = values[0] if len(set(values)) == 1 else values
    return made


def _plain(value: Any) -> Any:
    return None if pd.isna(value) or value in (math.inf, -math.inf) else value
