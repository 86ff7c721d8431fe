"""Where the time of every cell goes, by the standard efficiencies (bnn.metrics.UsefulWork), and of every point."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bnn.metrics import Interval, UsefulWork, useful_work
from campaign.results.statistics import interval_or_nan, worse
from campaign.results.tables.cells import WITHOUT_BETWEEN, LoadedCell
from campaign.results.tables.efficiency_schemas import CELL_EFFICIENCIES, EFFICIENCIES, FACTORS
from campaign.results.tables.scaling import BASELINE_NODES, WITHOUT_NODES
from campaign.results.tables.schemas import LABEL_KEYS, POINT_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
AT_MOST_ONE = ("load_balance", "communication", "parallel")  # by definition: their intervals end there
NOT_SPLIT = "not measured: an ideal network is a replay of the cell, and none was run"


def cell_efficiency_row(loaded: LoadedCell) -> Row:
    """The row of table `cell_efficiencies`."""
    row: Row = dict.fromkeys(CELL_EFFICIENCIES.names)
    row |= loaded.identity | loaded.labels | {"verdict": loaded.verdict, "counted": loaded.counted, "reason": ""}
    if loaded.steps is None:
        return row | {"reason": "the cell has not finished"}
    if loaded.steps["seconds_between"].isna().any():
        return row | {"reason": WITHOUT_BETWEEN}
    work = useful_work(loaded.steps, loaded.chosen)
    if work is None:
        return row | {"reason": "no steady steps"}
    return row | {
        "useful_seconds": work.total,
        "useful_seconds_largest": work.largest,
        "steady_seconds": work.seconds,
        "steady_samples": work.samples,
        "load_balance": work.load_balance,
        "communication": work.communication_efficiency,
        "parallel": work.parallel_efficiency,
    }


def efficiency_rows(cells: pd.DataFrame) -> list[Row]:
    """The rows of table `efficiencies`, from table `cell_efficiencies`."""
    rows = []
    for _, family in cells.groupby(WITHOUT_NODES, sort=True):
        baseline = family[family["nodes"] == BASELINE_NODES]
        for _, point in family.groupby("nodes", sort=True):
            rows.append(_row(point, baseline))
    return rows


def _row(point: pd.DataFrame, baseline: pd.DataFrame) -> Row:
    ours, theirs = _works(point), _works(baseline)
    pairs = sorted(set(ours) & set(theirs))
    values = {
        "load_balance": [work.load_balance for work in ours.values()],
        "communication": [work.communication_efficiency for work in ours.values()],
        "parallel": [work.parallel_efficiency for work in ours.values()],
        "computation": [ours[repeat].computation_scaling(theirs[repeat]) for repeat in pairs],
        "global": [ours[repeat].global_efficiency(theirs[repeat]) for repeat in pairs],
    }
    intervals = {name: _interval(name, found) for name, found in values.items()}
    first = point.iloc[0]
    row: Row = {key: first[key] for key in (*POINT_KEYS, *LABEL_KEYS)}
    for name, interval in intervals.items():
        row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row | {
        "baseline_nodes": None if baseline.empty else BASELINE_NODES,
        "verdict": worse(_verdict(point), "OK" if baseline.empty else _verdict(baseline)),
        "repeats": len(ours),
        "pairs": len(pairs),
        "serialization": math.nan,
        "transfer": math.nan,
        "limited_by": limited_by({name: intervals[name] for name in FACTORS}),
        "reason": _reason(point, baseline, ours, theirs),
        "reason_split": NOT_SPLIT,
        "interval_method": next((found.method for found in intervals.values() if found.method), ""),
    }


def _works(point: pd.DataFrame) -> dict[int, UsefulWork]:
    """The useful work of the counted repeats of a point that have a value."""
    known = point["counted"].astype(bool) & point["useful_seconds"].notna()
    names = ["repeat", "useful_seconds", "useful_seconds_largest", "steady_seconds", "ranks", "steady_samples"]
    return {
        int(row.repeat): UsefulWork(
            total=row.useful_seconds,
            largest=row.useful_seconds_largest,
            seconds=row.steady_seconds,
            ranks=int(row.ranks),
            samples=int(row.steady_samples),
        )
        for row in point.loc[known, names].itertuples()
    }


def _interval(name: str, values: list[float]) -> Interval:
    found = interval_or_nan(values)
    if name not in AT_MOST_ONE or math.isnan(found.high):
        return found
    return Interval(found.value, found.low, min(1.0, found.high), found.method)


def limited_by(factors: dict[str, Interval]) -> str:
    """The words of the lowest factor and of those that cannot be told from it, by their intervals; empty: unknown.

    A factor without an interval (a single repeat) is told by its value alone.
    """
    if any(math.isnan(factor.value) for factor in factors.values()):
        return ""
    lowest = min(factors.values(), key=lambda factor: factor.value)
    ceiling = lowest.value if math.isnan(lowest.high) else lowest.high
    floor = {name: found.value if math.isnan(found.low) else found.low for name, found in factors.items()}
    return " or ".join(EFFICIENCIES[name][0] for name in factors if floor[name] <= ceiling)


def _verdict(point: pd.DataFrame) -> str:
    """The verdict of a point: the worst of its counted repeats', INVALID without any."""
    counted = point[point["counted"].astype(bool)]
    return worse("OK", *counted["verdict"]) if len(counted) else "INVALID"


def _reason(point: pd.DataFrame, baseline: pd.DataFrame, ours: dict[int, Any], theirs: dict[int, Any]) -> str:
    """Why a value of the point is missing; empty when none is."""
    if not ours:
        return "; ".join(sorted({why for why in point["reason"] if why})) or "no repeat counts"
    if baseline.empty:
        return f"baseline missing: no point on {BASELINE_NODES} node with otherwise the same settings"
    if not set(ours) & set(theirs):
        return "no repeat has steady steps on both sides"
    return ""
