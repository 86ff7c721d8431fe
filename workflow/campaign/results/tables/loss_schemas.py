"""The tables of where each second of a step goes: every column with its unit and meaning."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema
from bnn.records.parts import HIDDEN, PARTS, UNEXPLAINED
from campaign.results.tables.identity import IDENTITY, LABELS, POINT

STEP = "step"
# What the compute of a point is made of, by other cells: differences between measured seconds of whole cells.
CONVENTIONAL, BAYESIAN, INFLATION = "conventional", "bayesian", "inflation"
COMPARED = {
    CONVENTIONAL: ("compute of the CNN on the baseline's nodes", "forward and backward pass of the CNN there"),
    BAYESIAN: ("extra compute of the BNN", "what the BNN's take longer on the baseline's nodes"),
    INFLATION: ("compute inflation", "what they take longer here: caches, memory bandwidth, shared cores"),
}
# Every row of table `losses` of a point, in this order: its words.
WORDS = {
    **{name: part.words for name, part in PARTS.items()},
    UNEXPLAINED: UNEXPLAINED,
    STEP: "wall time of a step",
    HIDDEN: "hidden communication",
    **{name: words for name, (words, _) in COMPARED.items()},
}

CELL_LOSSES = TableSchema(
    name="cell_losses",
    version=1,
    columns=(
        *IDENTITY,
        *LABELS,
        Column("verdict", "string", "", "the cell's verdict"),
        Column("counted", "bool", "", "whether it enters aggregates (OK and WARN do)"),
        Column("rank", "int64", "", "rank; empty: the cell has no value"),
        Column("steps", "int64", "steps", "steady steps that the means below are of"),
        Column("seconds", "float64", "s per step", "wall time of a step, from its start to the next one's"),
        *(Column(name, "float64", "s per step", f"{part.words}: {part.meaning}") for name, part in PARTS.items()),
        Column(UNEXPLAINED, "float64", "s per step", "wall time less all parts that have a value; empty: not measured"),
        Column(HIDDEN, "float64", "s per step", "data travelled while the backward pass went on; empty: not measured"),
        Column("late_share", "float64", "fraction", "of the steps: this rank's last gradients came last of all"),
        Column("clock_error", "float64", "s", "by which hosts' clocks may be off to one another; empty: not measured"),
        Column("reason_split", "string", "", "why waiting is not split, or not fully; empty when it is"),
        Column("reason_wall", "string", "", "why nothing is known to be unexplained; empty when it is"),
        Column("reason_hidden", "string", "", "why hidden communication is not measured; empty when it is"),
        Column("reason", "string", "", "why there is no value at all; empty when there is one"),
    ),
)

LOSSES = TableSchema(
    name="losses",
    version=1,
    columns=(
        *POINT,
        *LABELS,
        Column("verdict", "string", "", "the worst of the counted repeats' verdicts, INVALID without any"),
        Column("repeats", "int64", "", "repeats with a value"),
        Column("part", "string", "", f"one of: {', '.join(WORDS)}"),
        Column("group", "string", "", "compute, exposed communication, other; empty: of no sum"),
        Column("adds", "bool", "", "whether it is one of the parts whose sum is compared with the wall time"),
        Column("seconds", "float64", "s per step", "mean over ranks, then repeats; empty: not measured"),
        Column("low", "float64", "s per step", "lower end of its 95% interval over repeats"),
        Column("high", "float64", "s per step", "upper end of that interval"),
        Column("share", "float64", "fraction", "of the wall time"),
        Column("largest", "bool", "", "whether it is the largest part of its point"),
        Column("reason", "string", "", "why it is not measured; empty when it is"),
        Column("interval_method", "string", "", "how the interval was made"),
    ),
)
