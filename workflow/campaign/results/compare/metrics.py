"""What is compared: each metric with the table that it is of, which way is better, and how far is no difference.

Units are those of the tables' schemas. A metric of speed is compared between the repeats of both campaigns, which are
independent of each other; one of learning is paired by repeat, as a repeat of a cell has the same seed in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnn.errors import UserError
from campaign.io.schema import did_you_mean
from campaign.results.tables.schemas import TABLES

HIGHER, LOWER = "higher", "lower"
# Two campaigns on one machine differ by some percent on different days, whatever was changed between them.
SPEED_TOLERANCE = 0.10
LEARNING_TOLERANCE = 0.05
ACCURACY_TOLERANCE = 0.01
SCALING = "scaling_efficiency"


@dataclass(frozen=True)
class Source:
    """A table with a cell's identity in its rows. `within` tells apart rows of one repeat of one cell.

    `conditions`: what has to be the same in both campaigns, besides what identifies the cell. `words`: what of a cell
    it has, empty where that is the cell itself.
    """

    table: str
    within: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    words: str = ""


@dataclass(frozen=True)
class Metric:
    """One metric. `made_up`: whether it says anything of made-up images. `tolerance`: a ratio within it is the same."""

    name: str
    source: Source
    column: str
    better: str
    tolerance: float = SPEED_TOLERANCE
    paired: bool = False
    made_up: bool = True

    @property
    def unit(self) -> str:
        return TABLES[self.source.table].unit(self.column)


CELLS = Source("cells")
EFFICIENCIES = Source("cell_efficiencies")
INFERENCE = Source("inference", (), ("split", "images", "draws", "mode", "form", "ranks", "threads"), "predictions")
PRUNING = Source(
    "pruning_summary", ("semantics", "scope", "by"), ("split", "images", "draws", "levels", "threads"), "pruning"
)


def _learnt(name: str, source: Source, column: str, better: str, tolerance: float = LEARNING_TOLERANCE) -> Metric:
    return Metric(name, source, column, better, tolerance, paired=True, made_up=False)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("throughput", CELLS, "throughput_steady", HIGHER),
        Metric("step_seconds", CELLS, "step_seconds", LOWER),
        Metric("startup_seconds", CELLS, "seconds_startup", LOWER),
        Metric("peak_memory", CELLS, "peak_memory_bytes", LOWER),
        # made of this column by repeat and of the cell's point on one node
        Metric(SCALING, Source("cells"), "epoch_seconds", HIGHER),
        Metric("parallel_efficiency", EFFICIENCIES, "parallel", HIGHER),
        _learnt("loss", CELLS, "loss", LOWER),
        _learnt("training_accuracy", CELLS, "accuracy_last_epoch", HIGHER, ACCURACY_TOLERANCE),
        _learnt("held_out_nll", CELLS, "held_out_nll", LOWER),
        _learnt("held_out_accuracy", CELLS, "held_out_accuracy", HIGHER, ACCURACY_TOLERANCE),
        Metric("predict_seconds", INFERENCE, "seconds_draws", LOWER),
        _learnt("predict_nll", INFERENCE, "nll", LOWER),
        _learnt("predict_accuracy", INFERENCE, "accuracy", HIGHER, ACCURACY_TOLERANCE),
        Metric("sweep_seconds", PRUNING, "seconds_total", LOWER),
        Metric("pruned_percent", PRUNING, "largest_percent", HIGHER),
        Metric("pruned_speedup", PRUNING, "largest_speedup", HIGHER),
    )
}


def unit_of(metric: Metric) -> str:
    """The metric's unit; a scaling efficiency is a number, though it is made of seconds."""
    return "" if metric.name == SCALING else metric.unit


def chosen(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names, or of tables of these names; all without any. Raises UserError for an unknown one."""
    known = {*METRICS, *(metric.source.table for metric in METRICS.values())}
    for name in names:
        if name not in known:
            raise UserError(f"--metric: {name!r} is no metric, nor a table of some{did_you_mean(name, known)}")
    return [metric for metric in METRICS.values() if not names or {metric.name, metric.source.table} & set(names)]


def tolerances(given: Sequence[str]) -> dict[str, float]:
    """The tolerance of every metric, by `PERCENT` (of all) and `METRIC=PERCENT`; percent, so 5 is a ratio of 1.05.

    Raises UserError for what is no such word.
    """
    found = {name: metric.tolerance for name, metric in METRICS.items()}
    for word in sorted(given, key=lambda each: "=" in each):  # what names a metric overrides what names none
        name, is_of_one, text = word.rpartition("=")
        if is_of_one and name not in METRICS:
            raise UserError(f"--tolerance: {name!r} is no metric{did_you_mean(name, METRICS)}")
        try:
            percent = float(text.removesuffix("%"))
        except ValueError:
            percent = -1.0
        if not 0 < percent < 1000:
            raise UserError(f"--tolerance: {word!r} is no percentage above 0 (5, or {name or 'throughput'}=5)")
        found |= dict.fromkeys([name] if is_of_one else found, percent / 100)
    return found
