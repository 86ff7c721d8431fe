"""What cells measured on held-out images while they trained, and how long they had trained until then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.results.statistics import interval_or_nan
from campaign.results.tables.cells import LoadedCell

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
NOT_MEASURED = "no time to an NLL: nothing was measured while it trained (setting evaluate_steps)"
OF_OTHERS = "no time to an NLL: what was measured in training is of networks by themselves, at temperature 1"


def evaluation_rows(loaded: LoadedCell) -> list[Row]:
    """The rows of table `evaluations` of one cell; none when it does not count."""
    if not loaded.counted or loaded.summary is None or loaded.steps is None or not loaded.summary.evaluations:
        return []
    steps = loaded.by_step.sort_values("step")
    done, trained = steps["step"].to_numpy() + 1, steps["seconds"].cumsum().to_numpy()
    head = loaded.identity | {"implementation": loaded.labels["implementation"], "verdict": loaded.verdict}
    return [
        head
        | {name: getattr(found, name) for name in ("step", "epoch", "draws", "images", "accuracy", "nll")}
        | {"seconds": float(trained[done <= found.step][-1]), "seconds_evaluation": found.seconds}
        for found in loaded.summary.evaluations
    ]


def time_to_nll(evaluations: pd.DataFrame, target: float, repeats: int) -> tuple[Row, str]:
    """Training time until a point's NLL is first measured at `target` or below, its interval, and why there is none.

    `evaluations` are the rows of that table of the point's cells, of which `repeats` count. A time is told only where
    all of them reached it: the mean of those that did would flatter what often does not.
    """
    row: Row = {"nll_target": target, "nll_reached": 0}
    row |= dict.fromkeys(("seconds_to_nll", "seconds_to_nll_low", "seconds_to_nll_high"), math.nan)
    if evaluations.empty:
        return row, NOT_MEASURED
    there = evaluations[evaluations["nll"] <= target].groupby("repeat")["seconds"].min()
    row["nll_reached"] = len(there)
    if len(there) < repeats:
        lowest, steps = evaluations["nll"].min(), evaluations["step"].max()
        reached = f"NLL {target:g} was reached in {len(there)} of {repeats} repeats"
        return row, f"{reached} (lowest in {steps} steps: {lowest:.3g})"
    found = interval_or_nan([float(seconds) for seconds in there])
    ends: Mapping[str, float] = {"": found.value, "_low": found.low, "_high": found.high}
    return row | {f"seconds_to_nll{end}": value for end, value in ends.items()}, ""
