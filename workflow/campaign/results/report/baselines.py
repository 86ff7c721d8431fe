"""Every scaling point against baselines that a reader chooses: on how many nodes, and which implementation.

All answers are made here, by the definitions that the tables have, and stand in the page; its script only chooses among
them. Against one node, and against the CNN of the same variant, they are those of the tables `scaling` and `ratios`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bnn.metrics import Interval
from campaign.results.figures.catalogue import LARGE_BATCH, SCALING
from campaign.results.report.grid import Column, exact, grid
from campaign.results.report.headline import BATCH, DATASET, INTERVAL, MODEL, NODES, VARIANT, serving
from campaign.results.report.words import number, span
from campaign.results.statistics import NO_INTERVAL, paired
from campaign.results.tables.compare import step_seconds
from campaign.results.tables.schemas import POINT_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Key = tuple[Any, ...]
KEYS = list(POINT_KEYS)
MOST = 3_000
SAME = "cnn"  # name of the choice: the CNN of the same variant
COLUMNS = (
    MODEL, DATASET, VARIANT, Column("implementation", "implementation", "implementation"), BATCH, NODES,
    Column("steady (samples/s)", "rate", "throughput_steady throughput_low throughput_high", "n",
           "Samples divided by seconds after the warm-up steps, with its 95% interval over repeats."),
    Column("efficiency", "efficiency", "efficiency efficiency_low efficiency_high", "n strong",
           "Time of an epoch at the baseline's number of nodes, over that at N, times their ratio: n Tn / (N TN)."),
    Column("95% interval", "efficiency_interval", look="n", meaning=INTERVAL),
    Column("step time / baseline", "ratio", "ratio ratio_low ratio_high", "n strong",
           "Time of a steady step over that of the chosen implementation at the same point, paired by repeat."),
    Column("95% interval", "ratio_interval", look="n", meaning=INTERVAL),
    Column("verdict", "verdict", "verdict", "verdict", "Of this point; a baseline's stands in its own row."),
)  # fmt: skip


def baselines_section(tables: Mapping[str, pd.DataFrame]) -> Row | None:
    """`table`, choices of `nodes` and of `sides` (name and words), and `json`: every choice's numbers for each row.

    None where no point serves a figure of scaling. Of more than MOST numbers to choose among only `why`, since these
    would make the page too large.
    """
    points = serving(tables["throughput"], SCALING, LARGE_BATCH)
    points = points.sort_values(["dataset", "model", "variant", "batch_size", "kind", "nodes"],
                                ascending=[False, False, True, True, True, True])  # fmt: skip
    if points.empty:
        return None
    cells = tables["cells"]
    counted = {key: Counted.of(rows[rows["counted"].astype(bool)]) for key, rows in cells.groupby(KEYS)}
    keys = [tuple(point[KEYS]) for _, point in points.iterrows()]
    nodes = sorted({int(key[KEYS.index("nodes")]) for key in keys})
    implementations = {(point["kind"], point["variant"]): point["implementation"] for _, point in points.iterrows()}
    sides = {SAME: "the CNN of the same variant"} | {
        f"{kind} {variant}": f"{name} ({variant})" for (kind, variant), name in sorted(implementations.items())
    }
    count = len(points) * (len(nodes) + len(sides))
    if count > MOST:
        too_many = f"{count:,} ratios of {len(points):,} points, to every baseline there is, do not fit on this page"
        return {"why": f"{too_many} (limit {MOST:,}): tables scaling and ratios have those to one node and to the CNN."}
    against = {str(n): [efficiency(counted, key, n) for key in keys] for n in nodes}
    over = {name: [ratio(counted, key, name) for key in keys] for name in sides}
    rows = [
        {"index": index} | _row(point, against[str(nodes[0])][index], over[SAME][index])
        for index, (_, point) in enumerate(points.iterrows())
    ]
    numbers = {"efficiency": _plain(against), "ratio": _plain(over)}
    return {
        "table": grid("points-table", "Every point against a baseline", COLUMNS, rows),
        "nodes": [(str(n), f"{n} node{'' if n == 1 else 's'}") for n in nodes], "sides": list(sides.items()),
        "json": Markup(_safe(json.dumps(numbers, separators=(",", ":"), allow_nan=False))),  # noqa: S704
    }  # fmt: skip


@dataclass(frozen=True)
class Counted:
    """Of a point's repeats that count: sizes of their training sets, ranks, seconds of an epoch and of a step."""

    train_sizes: frozenset[int]
    ranks: int
    epoch_seconds: dict[int, float]
    step_seconds: dict[int, float]

    @staticmethod
    def of(rows: pd.DataFrame) -> Counted:
        known = rows.dropna(subset=["epoch_seconds"])
        epochs = dict(zip(known["repeat"].tolist(), known["epoch_seconds"].tolist(), strict=True))
        ranks = int(rows["ranks"].iloc[0]) if len(rows) else 0
        return Counted(frozenset(rows["train_size"].tolist()), ranks, epochs, step_seconds(rows))


def efficiency(counted: Mapping[Key, Counted], key: Key, nodes: int) -> Interval:
    """n Tn / (N TN) of a point against the same on n `nodes`, T being an epoch's time from steady throughput."""
    ours, theirs = counted.get(key), counted.get(_with(key, nodes=nodes))
    if ours is None or theirs is None or not ours.train_sizes or not theirs.train_sizes:
        return NO_INTERVAL
    if ours.train_sizes != theirs.train_sizes:
        return NO_INTERVAL  # epochs of different lengths are not compared
    scale = ours.ranks / theirs.ranks
    return paired(theirs.epoch_seconds, {repeat: scale * value for repeat, value in ours.epoch_seconds.items()})


def ratio(counted: Mapping[Key, Counted], key: Key, side: str) -> Interval:
    """Step time of a point over that of a side ('KIND VARIANT', or SAME) at the same nodes and batch."""
    kind, _, variant = side.partition(" ")
    other = _with(key, kind=kind) if side == SAME else _with(key, kind=kind, variant=variant)
    if key not in counted or other not in counted:
        return NO_INTERVAL
    return paired(counted[key].step_seconds, counted[other].step_seconds)


def _with(key: Key, **changes: Any) -> Key:
    return tuple(changes.get(name, value) for name, value in zip(KEYS, key, strict=True))


def _row(point: pd.Series, efficiency: Interval, ratio: Interval) -> Row:
    record = dict(point)
    for name, interval in (("efficiency", efficiency), ("ratio", ratio)):
        record |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    rate = number(point["throughput_steady"])
    return {
        "record": record, "model": point["model"], "dataset": point["dataset"], "variant": point["variant"],
        "implementation": point["implementation"], "batch": point["batch_size"], "nodes": point["nodes"],
        "rate": rate, "verdict": point["verdict"],
        "efficiency": number(efficiency.value), "efficiency_interval": span(efficiency.low, efficiency.high),
        "ratio": number(ratio.value), "ratio_interval": span(ratio.low, ratio.high),
    }  # fmt: skip


def _plain(found: Mapping[str, list[Interval]]) -> dict[str, list[list[str]]]:
    """Each choice's intervals as the page writes them: text, text of the interval, and the exact values."""
    return {
        name: [
            [number(each.value), span(each.low, each.high), " ".join(map(exact, (each.value, each.low, each.high)))]
            for each in intervals
        ]
        for name, intervals in found.items()
    }


def _safe(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
