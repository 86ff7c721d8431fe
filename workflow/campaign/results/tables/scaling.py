"""Scaling efficiency T1 / (N TN) of every point against the same point on one node (the paper, section 4.2).

With a fixed batch per rank and a fixed number of epochs the total work is fixed too: it is strong scaling in total
work, though the paper calls it weak.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bnn.metrics import Interval, scaling_efficiency
from campaign.results.statistics import NO_INTERVAL, paired, ratio_sigma, worse
from campaign.results.tables.schemas import LABEL_KEYS, POINT_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
BASELINE_NODES = 1
WITHOUT_NODES = [key for key in POINT_KEYS if key != "nodes"]


def scaling_rows(cells: pd.DataFrame, throughput: pd.DataFrame) -> list[Row]:
    """The rows of table `scaling`: NaN with a reason wherever a definition does not apply."""
    counted = cells[cells["counted"].to_numpy(dtype=bool)]
    repeats = dict(iter(counted.groupby(list(POINT_KEYS))))

    def of(point: pd.Series) -> pd.DataFrame:
        return repeats.get(tuple(point[list(POINT_KEYS)]), counted.iloc[:0])

    rows = []
    for _, family in throughput.groupby(WITHOUT_NODES, sort=True):
        ordered = [point for _, point in family.sort_values("nodes").iterrows()]
        baseline = next((point for point in ordered if point["nodes"] == BASELINE_NODES), None)
        theirs = None if baseline is None else of(baseline)
        rows += [_row(point, of(point), baseline, theirs) for point in ordered]
    return rows


def _row(point: pd.Series, ours: pd.DataFrame, baseline: pd.Series | None, theirs: pd.DataFrame | None) -> Row:
    """`ours` and `theirs`: the counted repeats of the point and of its baseline."""
    row: Row = {key: point[key] for key in (*POINT_KEYS, *LABEL_KEYS)}
    reason = _no_baseline(point, baseline)
    steady, reason_steady, sigma = NO_INTERVAL, reason, math.nan
    total, reason_total, total_sigma = NO_INTERVAL, reason, math.nan
    if not reason and baseline is not None and theirs is not None:
        n = point["ranks"] / baseline["ranks"]
        steady, values = _efficiency(theirs, ours, "epoch_seconds", n)
        reason_steady = "" if values else "no repeat has steady steps on both sides"
        if values and point["nodes"] != BASELINE_NODES:
            sigma = ratio_sigma(
                steady.value,
                *point[["throughput_steady", "throughput_std"]],
                *baseline[["throughput_steady", "throughput_std"]],
            )
        reason_total = _not_complete(ours, theirs)
        if not reason_total:
            total, values = _efficiency(theirs, ours, "seconds_total", n)
            reason_total = "" if values else "no repeat counts on both sides"
            total_sigma = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return row | {
        "baseline_nodes": None if baseline is None else baseline["nodes"],
        "baseline": "" if baseline is None else _name(baseline),
        "verdict": worse(point["verdict"], point["verdict"] if baseline is None else baseline["verdict"]),
        "pairs": 0 if theirs is None else len(set(ours["repeat"]) & set(theirs["repeat"])),
        "efficiency_steady": steady.value,
        "steady_low": steady.low,
        "steady_high": steady.high,
        "steady_sigma": sigma,
        "reason_steady": reason_steady,
        "efficiency_total": total.value,
        "total_low": total.low,
        "total_high": total.high,
        "total_sigma": total_sigma,
        "reason_total": reason_total,
        "interval_method": steady.method or total.method,
    }


def _no_baseline(point: pd.Series, baseline: pd.Series | None) -> str:
    """Why the point cannot be compared at all; empty when it can."""
    if baseline is None:
        return f"baseline missing: no point on {BASELINE_NODES} node with otherwise the same settings"
    if baseline["repeats"] == 0:
        return f"baseline missing: no repeat of {_name(baseline)} counts"
    if point["repeats"] == 0:
        return "no repeat counts"
    if point["train_size"] != baseline["train_size"]:
        return f"not measurable: training sets of {point['train_size']} and {baseline['train_size']} images"
    return ""


def _efficiency(theirs: pd.DataFrame, ours: pd.DataFrame, column: str, n: float) -> tuple[Interval, list[float]]:
    """Efficiency paired by repeat from a column of seconds, and every pair's value."""
    one, many = (_known(side, column) for side in (theirs, ours))
    values = [scaling_efficiency(one[r], many[r], n) for r in sorted(set(one) & set(many))]
    return paired(one, {r: n * seconds for r, seconds in many.items()}), values


def _known(side: pd.DataFrame, column: str) -> dict[int, float]:
    values = side[column]
    known = values.notna()
    return dict(zip(side["repeat"][known], values[known], strict=True))


def _not_complete(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Why total times cannot be compared; empty when both sides did the same full epochs in one attempt."""
    for side in (ours, theirs):
        short = side[side["epochs_completed"] < side["epochs_asked"]]
        if len(short):
            return f"not measurable: the runs stop after {int(short['steps'].min())} steps, short of their epochs"
        if (side["attempts"] > 1).any():
            return "not measurable: a run was resumed, its total time has a gap"
    if set(ours["epochs_completed"]) != set(theirs["epochs_completed"]):
        return "not measurable: the two sides did different numbers of epochs"
    return ""


def _name(point: pd.Series) -> str:
    return (
        f"{point['dataset']} {point['model']} {point['kind']}, {point['nodes']} node, "
        f"batch {point['batch_size']}, {point['variant']}"
    )
