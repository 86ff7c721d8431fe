"""Where each second of a step goes: of every rank of every cell, and of every point, BNN beside CNN (bnn.losses)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bnn.losses import SPLITS, RankLosses, rank_losses
from bnn.metrics import Interval, mean_interval
from bnn.records.parts import HIDDEN, OTHER, PARTS, UNEXPLAINED
from campaign.results.statistics import NO_INTERVAL, worse
from campaign.results.tables.cells import WITHOUT_BETWEEN, LoadedCell
from campaign.results.tables.loss_schemas import BAYESIAN, CELL_LOSSES, CONVENTIONAL, INFLATION, STEP
from campaign.results.tables.scaling import BASELINE_NODES, WITHOUT_NODES
from campaign.results.tables.schemas import LABEL_KEYS, POINT_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
NEVER_NEGATIVE = {*PARTS, STEP, HIDDEN, CONVENTIONAL}  # by definition: their intervals end at 0
EARLIER = "not measured: recorded by an earlier version"
ON_GPU = "not measured: on a GPU the device waits, and the host runs ahead"
NO_CLOCK = "not measured: the clocks of the hosts could not be compared"
OFF = "not measured: the clocks of the hosts may be off to one another by {error:.3g} s"
RESUMED = "not measured: an earlier attempt made these steps"
UNDATED = "not measured: no MPI profile says when data travelled"
APART = "told apart: see negotiation and transfer"
SPLIT = "split: see its parts"
IN_TOTAL = "not told apart: see negotiation and transfer"
SOME = "not measured in every repeat"


def cell_loss_rows(loaded: LoadedCell) -> list[Row]:
    """The rows of table `cell_losses` of one cell: one per rank, or one that says why there is none."""
    row: Row = dict.fromkeys(CELL_LOSSES.names)
    row |= loaded.identity | loaded.labels | {"verdict": loaded.verdict, "counted": loaded.counted}
    row |= dict.fromkeys(("reason_split", "reason_wall", "reason_hidden", "reason"), "")
    if loaded.steps is None or loaded.summary is None:
        return [row | {"reason": "the cell has not finished"}]
    if loaded.steps["seconds_between"].isna().any():
        return [row | {"reason": WITHOUT_BETWEEN}]
    error = loaded.summary.clock_error_seconds if loaded.summary.ranks > 1 else 0.0
    ranks = rank_losses(loaded.steps, error, loaded.chosen)
    if not ranks:
        return [row | {"reason": "no steady steps"}]
    gpu = loaded.settings.device == "cuda"
    earlier = bool(loaded.steps["ended_at"].isna().all())
    known = not earlier and bool(loaded.steps["seconds_late"].notna().any())
    return [row | _rank(each) | _reasons(each, gpu, earlier, known, error) for each in ranks]


def _rank(losses: RankLosses) -> Row:
    return losses.parts | {
        "rank": losses.rank,
        "steps": losses.steps,
        "seconds": losses.seconds,
        UNEXPLAINED: losses.unexplained,
        HIDDEN: losses.hidden,
        "late_share": losses.late_share,
    }


def _reasons(losses: RankLosses, gpu: bool, earlier: bool, known: bool, error: float | None) -> Row:
    """Why some of a rank's values are missing. `earlier`: no second clock was read; `known`: who was late is."""
    split = ""
    if "late" not in losses.parts:
        off = OFF.format(error=error) if error is not None else NO_CLOCK
        split = ON_GPU if gpu else EARLIER if earlier else off if known else RESUMED if error is not None else NO_CLOCK
    elif "transfer" not in losses.parts:
        split = UNDATED
    wall = "" if not math.isnan(losses.wall) else ON_GPU if gpu else EARLIER
    hidden = "" if not math.isnan(losses.hidden) else ON_GPU if gpu else EARLIER if earlier else UNDATED
    return {
        "clock_error": math.nan if error is None else error,
        "reason_split": split,
        "reason_wall": wall,
        "reason_hidden": hidden,
    }


def loss_rows(cells: pd.DataFrame) -> list[Row]:
    """The rows of table `losses`, from table `cell_losses`: the same parts in the same order of every point."""
    rows = []
    for _, pair in cells.groupby([key for key in WITHOUT_NODES if key != "kind"], sort=True):
        compute = {kind: _compute(side[side["nodes"] == BASELINE_NODES]) for kind, side in pair.groupby("kind")}
        for _, point in pair.groupby(["kind", "nodes"], sort=True):
            rows += _point(point, compute)
    return rows


def _compute(cells: pd.DataFrame) -> dict[int, float]:
    """Seconds of forward and backward pass per step, mean over ranks, by counted repeat."""
    known = cells.loc[cells["counted"].astype(bool) & cells["seconds"].notna(), ["repeat", "forward", "backward"]]
    means = known.groupby("repeat").mean().sum(axis=1)
    return {int(repeat): float(value) for repeat, value in means.items()}


def _point(point: pd.DataFrame, baseline: dict[str, dict[int, float]]) -> list[Row]:
    counted = point[point["counted"].astype(bool)]
    known = counted.dropna(subset=["seconds"])
    means = known.groupby("repeat")[["seconds", *PARTS, UNEXPLAINED, HIDDEN]].mean(skipna=False)
    first = (counted if len(counted) else point).iloc[0]
    base: Row = {key: first[key] for key in (*POINT_KEYS, *LABEL_KEYS)}
    base |= {"verdict": worse("OK", *counted["verdict"]) if len(counted) else "INVALID", "repeats": len(means)}
    whole = _interval(list(means["seconds"]))
    nothing = "; ".join(sorted({why for why in point["reason"] if why})) or "no repeat counts"
    rows = []
    for name, part in PARTS.items():
        values = [float(value) for value in means[name]]
        absent = [math.isnan(value) for value in values]
        reason = nothing if means.empty else "" if not any(absent) else _why_not(name, known) if all(absent) else SOME
        rows.append(_row(name, part.group, values, reason))
    values = [float(value) for value in means[UNEXPLAINED]]
    reason = nothing if means.empty else _first(known["reason_wall"])
    rows.append(_row(UNEXPLAINED, OTHER, values, reason))
    largest = max((row for row in rows if row["adds"]), key=lambda row: row["seconds"], default=None)
    rows.append(_row(STEP, "", list(means["seconds"]), nothing if means.empty else ""))
    reason = nothing if means.empty else _first(known["reason_hidden"])
    rows.append(_row(HIDDEN, "", [float(value) for value in means[HIDDEN]], reason))
    rows += _compared(str(first["kind"]), int(first["nodes"]), _compute(point), baseline)
    for row in rows:
        row["share"] = row["seconds"] / whole.value
        row["largest"] = row is largest
    return [base | row for row in rows]


def _first(reasons: pd.Series) -> str:
    return next((str(reason) for reason in reasons if reason), "")


def _why_not(name: str, known: pd.DataFrame) -> str:
    """Why a part has no value in every repeat: another stands for it, or it was not measured."""
    split = _first(known["reason_split"])
    if name in SPLITS[0]:
        return split if name == "late" or split != UNDATED else f"{split}; {IN_TOTAL}"
    if name == "reduction":
        return split if split and split != UNDATED else APART
    return SPLIT


def _row(name: str, group: str, values: list[float], reason: str) -> Row:
    interval = NO_INTERVAL if reason or not values else _interval(values)
    low = max(0.0, interval.low) if name in NEVER_NEGATIVE and not math.isnan(interval.low) else interval.low
    return {
        "part": name,
        "group": group,
        "adds": bool(group) and not math.isnan(interval.value),
        "seconds": interval.value,
        "low": low,
        "high": interval.high,
        "reason": reason,
        "interval_method": interval.method,
    }


def _interval(values: list[float]) -> Interval:
    return mean_interval(values) if values else NO_INTERVAL


def _compared(kind: str, nodes: int, here: dict[int, float], baseline: dict[str, dict[int, float]]) -> list[Row]:
    """What the compute of a point is made of: the CNN's and what a BNN adds on the baseline's nodes, and inflation."""
    ours, cnn = baseline.get(kind, {}), baseline.get("cnn", {})
    missing = f"no counted repeat on {BASELINE_NODES} node"
    rows = [_row(CONVENTIONAL, "", list(cnn.values()), "" if cnn else f"not measured: of the CNN, {missing}")]
    both = sorted(set(ours) & set(cnn))
    if kind == "bnn":
        lacking = f"not measured: of BNN and CNN, {missing} of the same number"
        rows.append(_row(BAYESIAN, "", [ours[r] - cnn[r] for r in both], "" if both else lacking))
    else:
        rows.append(_row(BAYESIAN, "", [], "a CNN has none"))
    pairs = sorted(set(here) & set(ours))
    if nodes == BASELINE_NODES:
        rows.append(_row(INFLATION, "", [], "this is the baseline"))
    else:
        lacking = f"not measured: of the same settings, {missing}"
        rows.append(_row(INFLATION, "", [here[r] - ours[r] for r in pairs], "" if pairs else lacking))
    return rows
