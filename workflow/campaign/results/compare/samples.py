"""The repeats of a metric, cell by cell, as a campaign's tables have them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnn.metrics import scaling_efficiency
from campaign.results.compare.metrics import SCALING, Metric
from campaign.results.tables.scaling import BASELINE_NODES
from campaign.results.tables.schemas import POINT_KEYS

if TYPE_CHECKING:
    import pandas as pd

GOOD = ("OK", "WARN")
# What tells cells of one site apart, without their repeat.
PLACE_KEYS = tuple(key for key in POINT_KEYS if key != "site")
Place = tuple[Any, ...]


@dataclass
class Sample:
    """Values by repeat. `counted` repeats are valid, `warned` of them WARN; `conditions` are theirs, by repeat."""

    values: dict[int, float] = field(default_factory=dict)
    counted: int = 0
    warned: int = 0
    conditions: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def why_none(self) -> str:
        """Why this side cannot be compared; empty where it can.

        Repeats without a value are often those that did worst: the others alone would not stand for the cell.
        """
        if not self.counted:
            return "no repeat counts"
        if not self.values:
            return "no value"
        if len(self.values) < self.counted:
            return f"only {len(self.values)} of {self.counted} repeats have a value"
        if any(value <= 0 for value in self.values.values()):
            return "a value that is not positive has no ratio"
        return ""

    @property
    def logs(self) -> list[float]:
        return [math.log(value) for value in self.values.values()]


def samples(tables: Mapping[str, pd.DataFrame], metric: Metric) -> dict[tuple[Place, str], Sample]:
    """Every cell's repeats by (place, what of the cell): words of the columns `within`, empty for the cell itself.

    A cell whose images are made up is left out of a metric that would say nothing then.
    """
    table = tables.get(metric.source.table)
    rows = [] if table is None else table[_columns(table, metric)].to_dict("records")
    bases = {_base(row): row for row in rows if row["nodes"] == BASELINE_NODES and counts(row)}
    found: dict[tuple[Place, str], Sample] = {}
    for row in sorted(rows, key=lambda row: int(row["repeat"])):  # in order of time
        if row["synthetic"] and not metric.made_up:
            continue
        if metric.name == SCALING and row["nodes"] == BASELINE_NODES:
            continue
        what = " ".join(str(row[column]) for column in metric.source.within)
        sample = found.setdefault((place_of(row), what), Sample())
        if not counts(row):
            continue
        repeat = int(row["repeat"])
        sample.counted += 1
        sample.warned += "WARN" in (row["verdict"], row.get("status"))
        sample.conditions[repeat] = {key: row[key] for key in metric.source.conditions}
        value = _efficiency(row, bases.get(_base(row))) if metric.name == SCALING else row[metric.column]
        if value is not None and not math.isnan(value):
            sample.values[repeat] = float(value)
    return found


def place_of(row: Mapping[str, Any]) -> Place:
    """The cell of a row, without site and repeat."""
    return tuple(row[key] for key in PLACE_KEYS)


def counts(row: Mapping[str, Any]) -> bool:
    """Whether a row of cells or of jobs is valid, by whatever columns its table says it with."""
    return bool(row.get("counted", True)) and all(row.get(key, "OK") in GOOD for key in ("verdict", "status"))


def _columns(table: pd.DataFrame, metric: Metric) -> list[str]:
    """The columns that are looked at: a table has many others."""
    judged = ("counted", "verdict", "status", "synthetic", "repeat", "train_size", "ranks")
    wanted = {*PLACE_KEYS, *judged, *metric.source.within, *metric.source.conditions, metric.column}
    return [name for name in table.columns if name in wanted]


def _base(row: Mapping[str, Any]) -> Place:
    """What a repeat has in common with its baseline on one node."""
    return (*(row[key] for key in PLACE_KEYS if key != "nodes"), row["repeat"])


def _efficiency(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> float | None:
    """Scaling efficiency of one repeat, as table `scaling` pairs it with the same repeat on one node."""
    if base is None or base["train_size"] != row["train_size"]:
        return None
    return scaling_efficiency(base["epoch_seconds"], row["epoch_seconds"], row["ranks"] / base["ranks"])
