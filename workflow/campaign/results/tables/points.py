"""One row per point (a cell's identity without its repeat): throughput over repeats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bnn.metrics import epoch_seconds
from campaign.results.statistics import interval_or_nan, pooled_std
from campaign.results.tables.schemas import LABEL_KEYS, POINT_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def throughput_rows(cells: pd.DataFrame) -> list[Row]:
    """The rows of table `throughput`; INVALID and MISSING repeats are numbered but not counted."""
    return [_point(group) for _, group in cells.groupby(list(POINT_KEYS), sort=True)]


def _point(group: pd.DataFrame) -> Row:
    counted = group[group["counted"]]
    # a point is described by its counted repeats; a repeat that never ran only knows what was asked for
    first = (counted if len(counted) else group).iloc[0]
    row: Row = {key: first[key] for key in (*POINT_KEYS, *LABEL_KEYS)}
    measured = counted.dropna(subset=["throughput_steady"])
    interval = interval_or_nan(measured["throughput_steady"].to_list())
    warned = int((counted["verdict"] == "WARN").sum())
    row |= {
        "repeats": len(counted),
        "repeats_planned": len(group),
        "warned": warned,
        "excluded": len(group) - len(counted),
        "verdict": "INVALID" if counted.empty else "WARN" if warned else "OK",
        "throughput_steady": interval.value,
        "throughput_low": interval.low,
        "throughput_high": interval.high,
        "interval_method": interval.method,
        "throughput_std": pooled_std(measured["throughput_steady_std"], measured["steady_steps"]),
        "steady_steps": int(measured["steady_steps"].sum()),
        "throughput_all": counted["throughput_all"].mean(),
        "throughput_paper": counted["throughput_paper"].mean(),
        "throughput_paper_std": pooled_std(counted["throughput_paper_std"], counted["steps"]),
        "total_seconds": counted["seconds_total"].mean(),
        "startup_seconds": counted["seconds_startup"].mean(),
        "complete": bool(len(counted)) and bool((counted["epochs_completed"] >= counted["epochs_asked"]).all()),
        "steps": counted["steps"].min() if len(counted) else None,
        "epochs_asked": first["epochs_asked"],
        "train_size": first["train_size"],
    }
    known = not math.isnan(interval.value)
    size = int(first["train_size"]) if known else 0
    row["step_seconds"] = first["batch_size"] * first["ranks"] / interval.value if known else math.nan
    # the faster end of the throughput's interval is the shorter end of the epoch's
    row["epoch_seconds"] = epoch_seconds(interval.value, size) if known else math.nan
    row["epoch_seconds_low"] = epoch_seconds(interval.high, size) if known else math.nan
    row["epoch_seconds_high"] = epoch_seconds(interval.low, size) if known else math.nan
    return row
