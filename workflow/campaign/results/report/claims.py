"""What became of a publication's claims: the report's part on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.names.cell import Cell
from campaign.results.claims.judge import (
    AGREES,
    DIFFERS,
    FAILS_HERE,
    HOLDS_HERE,
    NOT_COMPARABLE,
    NOT_TESTED,
    UNDECIDED,
    VERDICTS,
)
from campaign.results.claims.words import said, totals
from campaign.results.report.cells import anchor
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH, number, printed, span
from campaign.results.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
# How a verdict is coloured: as that of a cell.
LOOKS = {AGREES: "OK", HOLDS_HERE: "OK", DIFFERS: "INVALID", FAILS_HERE: "INVALID", UNDECIDED: "WARN"}
OPEN = (NOT_COMPARABLE, NOT_TESTED)
STATEMENT = Column("claim", "statement", "statement", "wide", beside="where")
PRINTED = Column("printed", "printed", "paper", "n", "What the publication prints, on its scale.")
WHY = Column("why", "reason", "reason", "wide")
JUDGED_COLUMNS = (
    Column("verdict", "verdict", "verdict", "verdict"), STATEMENT, PRINTED,
    Column("here", "ours", "ours", "n strong", "Measured here, of implementations like the paper's, on its scale."),
    Column("95% interval", "interval", "low high", "n"), Column("repeats", "repeats", "repeats", "n"),
    Column("ours beside", "beside", "beside", "n", "The same of this project's own implementations.",
           tip="beside_interval"),
    Column("margin", "margin", "margin", "n", "By which what is measured may differ and still agree; fixed before.",
           tip="margin_reason"),
    WHY, Column("cells", "resting", look="rests"),
)  # fmt: skip
OPEN_COLUMNS = (STATEMENT, PRINTED, WHY)


def claims_section(tables: Mapping[str, pd.DataFrame]) -> Row | None:
    """Claims that this campaign has numbers on, by verdict, and the others with the reason; None without a ledger.

    `tables` are those of the page, with the table `claims` where it was made.
    """
    claims = tables.get("claims")
    if claims is None or claims.empty:
        return None
    counts = claims["verdict"].value_counts().to_dict()
    named = by_name(tables["cells"])
    rows = [claim_row(row, named) for row in claims.to_dict("records")]
    judged = sorted((row for row in rows if row["verdict"] not in OPEN), key=lambda row: VERDICTS.index(row["verdict"]))
    return {
        "ledger": claims["ledger"].iloc[0],
        "sha256": claims["ledger_sha256"].iloc[0],
        "count": len(claims),
        "totals": totals({verdict: counts.get(verdict, 0) for verdict in VERDICTS}),
        "judged": grid("claims-table", "Claims that were judged", JUDGED_COLUMNS, judged),
        "open": [
            (verdict, grid(f"claims-{verdict.replace(' ', '-')}", f"Claims {verdict}", OPEN_COLUMNS, found))
            for verdict in OPEN
            if (found := [row for row in rows if row["verdict"] == verdict])
        ],
    }


def by_name(cells: pd.DataFrame) -> dict[str, Row]:
    """Rows of table `cells` by the cells' names."""
    rows = cells.to_dict("records")
    return {Cell(**{key: row[key] for key in IDENTITY_KEYS}).name: row for row in rows}


def claim_row(row: Mapping[str, Any], cells: Mapping[str, Row]) -> Row:
    """A claim as the page shows it: numbers on the publication's scale, and the cells that it rests on."""
    names = [name for name in row["cells"].split("; ") if name]
    owned = {name: own for name in names if (own := _own(name, cells)) is not None}
    judged = row["verdict"] not in OPEN
    return {
        "id": f"claim-{row['id']}", "record": row, "records": list(owned.values()),
        "claim": row["verdict"], "verdict": row["verdict"], "look": LOOKS.get(row["verdict"], "MISSING"),
        "statement": row["statement"], "where": f"{place(row)}; {row['definition']}" if judged else place(row),
        "reason": row["reason"], "printed": " ".join(filter(None, (said(row, printed), row["unit"]))),
        "ours": number(row["ours"]), "interval": span(row["low"], row["high"]),
        "beside": number(row["beside"]),
        "beside_interval": f"95% interval {span(row['beside_low'], row['beside_high'])}",
        "repeats": row["repeats"] or DASH, "margin": f"{100 * row['margin']:g}%", "margin_reason": row["margin_reason"],
        "resting": [(name, anchor(owned[name]) if name in owned else "") for name in names],
    }  # fmt: skip


def _own(name: str, cells: Mapping[str, Row]) -> Row | None:
    """The row of one of this site's cells; None of another site's (SITE/NAME)."""
    site, _, inner = name.rpartition("/")
    found = cells.get(inner)
    return found if found is not None and site in ("", found["site"]) else None


def place(row: Mapping[str, Any]) -> str:
    """Where the publication says it."""
    section = f"section {row['section']}" if row["section"][:1].isdigit() else row["section"]
    return ", ".join(filter(None, (section, row["place"])))
