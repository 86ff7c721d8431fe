"""The tables of where a cell's time goes: every column with its unit and meaning."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema
from campaign.results.tables.identity import IDENTITY, LABELS, POINT

# The efficiencies of table `efficiencies` by column: its words, and what they mean.
EFFICIENCIES = {
    "load_balance": ("load balance", "mean useful seconds of a rank / the largest of any rank"),
    "communication": ("communication efficiency", "largest useful seconds of a rank / wall time"),
    "parallel": ("parallel efficiency", "load balance x communication efficiency"),
    "computation": ("computation scaling", "useful seconds per sample of the baseline / of this point"),
    "global": ("global efficiency", "parallel efficiency x computation scaling"),
}
# Of these the others are made: what can limit a point.
FACTORS = ("load_balance", "communication", "computation")

CELL_EFFICIENCIES = TableSchema(
    name="cell_efficiencies",
    version=1,
    columns=(
        *IDENTITY,
        *LABELS,
        Column("verdict", "string", "", "the cell's verdict"),
        Column("counted", "bool", "", "whether it enters aggregates (OK and WARN do)"),
        Column(
            "useful_seconds", "float64", "s", "input, forward, backward and update, sum over ranks and steady steps"
        ),
        Column("useful_seconds_largest", "float64", "s", "of these: the rank with the most"),
        Column("steady_seconds", "float64", "s", "wall time of the steady steps, of the slowest rank in each"),
        Column("steady_samples", "int64", "samples", "training examples of all ranks in them"),
        Column("load_balance", "float64", "", EFFICIENCIES["load_balance"][1]),
        Column("communication", "float64", "", EFFICIENCIES["communication"][1]),
        Column("parallel", "float64", "", EFFICIENCIES["parallel"][1]),
        Column("reason", "string", "", "why there is no value; empty when there is one"),
    ),
)

POINT_EFFICIENCIES = TableSchema(
    name="efficiencies",
    version=1,
    columns=(
        *POINT,
        *LABELS,
        Column("baseline_nodes", "int64", "nodes", "nodes of the baseline point; empty: baseline missing"),
        Column("verdict", "string", "", "worse of the two points' verdicts"),
        Column("repeats", "int64", "", "repeats with a value"),
        Column("pairs", "int64", "", "of these: with a value of the baseline, too"),
        *(
            column
            for name, (words, meaning) in EFFICIENCIES.items()
            for column in (
                Column(name, "float64", "", f"{words}: {meaning}"),
                Column(f"{name}_low", "float64", "", f"lower end of its 95% interval over repeats: {words}"),
                Column(f"{name}_high", "float64", "", f"upper end of that interval: {words}"),
            )
        ),
        Column(
            "serialization", "float64", "", "part of communication that an ideal network leaves; empty: not measured"
        ),
        Column("transfer", "float64", "", "communication / serialization; empty: not measured"),
        Column(
            "limited_by", "string", "", "the lowest factor, with those whose intervals meet its own; empty: unknown"
        ),
        Column("reason", "string", "", "why a value is missing; empty when all are there"),
        Column("reason_split", "string", "", "why communication is not split; empty when it is"),
        Column("interval_method", "string", "", "how the intervals were made"),
    ),
)
