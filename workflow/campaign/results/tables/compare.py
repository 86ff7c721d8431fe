"""Time to accuracy per cell, and the step-time ratio of BNN to CNN at every point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnn.metrics import LearningCurve
from campaign.results.statistics import NO_INTERVAL, paired, worse
from campaign.results.tables.cells import LoadedCell
from campaign.results.tables.schemas import LABEL_KEYS, POINT_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
# definition in the table -> column that bnn.metrics.LearningCurve judges
DEFINITIONS = {"running": "accuracy_running", "epoch": "accuracy"}
SIDE_KEYS = [key for key in POINT_KEYS if key != "kind"]
SHARED_LABELS = [key for key in LABEL_KEYS if key not in ("implementation", "rho_init")]


def accuracy_rows(loaded: LoadedCell, targets: Sequence[float]) -> list[Row]:
    """The rows of table `accuracy` of one cell with role accuracy; none when it does not count."""
    if "accuracy" not in loaded.roles or not loaded.counted or loaded.summary is None or loaded.steps is None:
        return []
    steps, completed = loaded.by_step, loaded.summary.epochs_completed
    curves = {name: LearningCurve.of(steps, column, completed) for name, column in DEFINITIONS.items()}
    rows = []
    for target in targets:
        for definition, curve in curves.items():
            seconds = curve.time_to(target)
            missed = f"not reached in {len(steps)} steps: the highest value is {curve.best:.3f}"
            if math.isnan(curve.best):
                missed = f"no epoch was completed in {len(steps)} steps"
            rows.append(
                loaded.identity
                | loaded.labels
                | {
                    "target": float(target),
                    "definition": definition,
                    "seconds": math.nan if seconds is None else seconds,
                    "reached": seconds is not None,
                    "best": curve.best,
                    "reason": missed if seconds is None else "",
                    "verdict": loaded.verdict,
                }
            )
    return rows


def ratio_rows(cells: pd.DataFrame) -> list[Row]:
    """The rows of table `ratios`: wherever the plan has both a BNN and a CNN with otherwise the same identity."""
    rows = []
    for _, group in cells.groupby(SIDE_KEYS, sort=True):
        sides = {kind: group[group["kind"] == kind] for kind in ("bnn", "cnn")}
        if not any(side.empty for side in sides.values()):
            rows.append(_ratio(sides["bnn"], sides["cnn"]))
    return rows


def _ratio(bnn: pd.DataFrame, cnn: pd.DataFrame) -> Row:
    row: Row = {key: bnn.iloc[0][key] for key in (*SIDE_KEYS, *SHARED_LABELS)}
    seconds = [step_seconds(side) for side in (bnn, cnn)]
    common = sorted(set(seconds[0]) & set(seconds[1]))
    interval = paired(*seconds) if common else NO_INTERVAL
    verdicts = [verdict for side in (bnn, cnn) for verdict in side.loc[side["counted"], "verdict"]]
    centres = [_mean([side[r] for r in common]) for side in seconds]
    return row | {
        "bnn_implementation": bnn.iloc[0]["implementation"],
        "cnn_implementation": cnn.iloc[0]["implementation"],
        "verdict": worse(*verdicts) if common else "INVALID",
        "pairs": len(common),
        "bnn_step_seconds": centres[0],
        "cnn_step_seconds": centres[1],
        "ratio": interval.value,
        "ratio_low": interval.low,
        "ratio_high": interval.high,
        "interval_method": interval.method,
        "reason": "" if common else "no repeat counts on both sides",
    }


def step_seconds(side: pd.DataFrame) -> dict[int, float]:
    """Seconds of a steady step by repeat, from the headline throughput; counted repeats only."""
    known = side["counted"] & side["throughput_steady"].notna()
    measured = side.loc[known, ["repeat", "batch_size", "ranks", "throughput_steady"]]
    seconds = measured["batch_size"] * measured["ranks"] / measured["throughput_steady"]
    return dict(zip(measured["repeat"], seconds, strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
