"""The table `claims`: what a publication claims, and what became of it here."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema

# Numbers are on the scale that the publication prints (column `scale` says how it is made from what is measured).
CLAIMS = TableSchema(
    name="claims",
    version=3,
    columns=(
        Column("id", "string", "", "name of the claim in its ledger"),
        Column("section", "string", "", "section of the publication"),
        Column("place", "string", "", "figure, table or passage there"),
        Column("statement", "string", "", "the claim in our words"),
        Column("type", "string", "", "value, ratio, ordering, trend or count"),
        Column(
            "scope", "string", "", "where it is said to hold: anywhere, ratio (any hardware may try), same hardware"
        ),
        Column("scale", "string", "", "scale of the numbers beside: plain, percent, minutes, ..."),
        Column("unit", "string", "", "unit of the numbers beside, on that scale; empty: a ratio, or a bare number"),
        Column("definition", "string", "", "what is measured to judge it"),
        Column("paper", "float64", "", "what is printed, on its scale; empty: no number is"),
        Column("implied", "bool", "", "whether no number is printed: it is what the words come to"),
        Column(
            "paper_low",
            "float64",
            "",
            "least number that is printed so; of an ordering or trend its bound, as measured",
        ),
        Column(
            "paper_high",
            "float64",
            "",
            "greatest number that is printed so; of an ordering or trend its bound, as measured",
        ),
        Column("ours", "float64", "", "what was measured or computed, on the same scale; empty: nothing"),
        Column(
            "low", "float64", "", "lower end of its 95% interval (of an exact number: of what rounding leaves open)"
        ),
        Column("high", "float64", "", "upper end"),
        Column("repeats", "int64", "", "repeats that it is of"),
        Column("beside", "float64", "", "the same of our own implementations; empty: nothing, or no other side"),
        Column("beside_low", "float64", "", "lower end of its 95% interval"),
        Column("beside_high", "float64", "", "upper end"),
        Column("margin", "float64", "fraction", "by which what is measured may differ and still agree"),
        Column("margin_reason", "string", "", "why this margin"),
        Column(
            "verdict",
            "string",
            "",
            "agrees, differs, undecided, holds here, does not hold here, not comparable or not tested",
        ),
        Column("reason", "string", "", "why"),
        Column("cells", "string", "", "names of the cells that it rests on, separated by '; '"),
        Column("ledger", "string", "", "name of the ledger"),
        Column("ledger_sha256", "string", "", "sha256 of the ledger's file, margins included"),
    ),
)
