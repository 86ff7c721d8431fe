"""The table `comparison`: what one campaign has to another, metric by metric."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema
from campaign.results.tables.identity import POINT

BETTER, WORSE, SAME, UNDECIDED = "better", "worse", "same", "undecided"
VERDICTS = (WORSE, UNDECIDED, SAME, BETTER)

COMPARISON = TableSchema(
    name="comparison",
    version=1,
    columns=(
        *(column for column in POINT if column.name != "site"),
        Column("site_a", "string", "", "site of A, or of the references"),
        Column("site_b", "string", "", "site of B"),
        Column("what", "string", "", "what of the cell: a sweep's semantics, scope and by; empty: the cell itself"),
        Column("metric", "string", "", "what is compared; docs/compare.md says how each is made"),
        Column("unit", "string", "", "unit of a and b"),
        Column("better", "string", "", "which way is better: higher or lower"),
        Column("a", "float64", "", "value of A, in the unit beside"),
        Column("b", "float64", "", "value of B, in the unit beside"),
        Column("repeats_a", "int64", "", "repeats of A that count"),
        Column("repeats_b", "int64", "", "repeats of B that count"),
        Column("warned", "int64", "", "of these, those with verdict WARN"),
        Column("ratio", "float64", "", "B / A"),
        Column("ratio_low", "float64", "", "lower end of its 95% interval over repeats; empty: not estimable"),
        Column("ratio_high", "float64", "", "upper end of that interval"),
        Column("interval_method", "string", "", "how that interval was made"),
        Column("same_from", "float64", "", "ratios from here on are the same; empty: all lower ones"),
        Column("same_to", "float64", "", "ratios up to here are the same; empty: all higher ones"),
        Column(
            "noise_floor", "float64", "fraction", "how far from 1 a ratio is by chance, by all cells' repeats pooled"
        ),
        Column("chance", "float64", "", "p-value of being the same, adjusted for all rows of the table; empty: none"),
        Column("verdict", "string", "", "worse, better, same or undecided: B against A"),
        Column("reason", "string", "", "why it is undecided, or what has to be known of the verdict"),
    ),
)
