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
from campaign.results.report.headline import anchor
from campaign.results.report.words import DASH, number, span
from campaign.results.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
# How a verdict is coloured: as that of a cell.
LOOKS = {AGREES: "OK", HOLDS_HERE: "OK", DIFFERS: "INVALID", FAILS_HERE: "INVALID", UNDECIDED: "WARN"}
OPEN = (NOT_COMPARABLE, NOT_TESTED)


def claims_section(tables: Mapping[str, pd.DataFrame]) -> Row | None:
    """Claims that this campaign has numbers on, by verdict, and the others with the reason; None without a ledger.

    `tables` are those of the page, with the table `claims` where it was made.
    """
    claims = tables.get("claims")
    if claims is None or claims.empty:
        return None
    counts = claims["verdict"].value_counts().to_dict()
    cells = links(tables["cells"])
    rows = [claim_row(row, cells) for row in claims.to_dict("records")]
    judged = sorted((row for row in rows if row["verdict"] not in OPEN), key=lambda row: VERDICTS.index(row["verdict"]))
    return {
        "ledger": claims["ledger"].iloc[0],
        "sha256": claims["ledger_sha256"].iloc[0],
        "count": len(claims),
        "totals": totals({verdict: counts.get(verdict, 0) for verdict in VERDICTS}),
        "judged": judged,
        "open": [(verdict, found) for verdict in OPEN if (found := [r for r in rows if r["verdict"] == verdict])],
    }


def links(cells: pd.DataFrame) -> dict[str, str]:
    """The ids of the page's rows of cells, by the cells' names."""
    rows = cells.to_dict("records")
    return {Cell(**{key: row[key] for key in IDENTITY_KEYS}).name: anchor(row) for row in rows}


def claim_row(row: Mapping[str, Any], cells: Mapping[str, str]) -> Row:
    """A claim as the page shows it: numbers on the publication's scale."""
    unit = "" if row["scale"] == "plain" else row["scale"]
    return {
        "id": row["id"], "where": place(row), "statement": row["statement"],
        "definition": row["definition"], "unit": unit, "verdict": row["verdict"],
        "look": LOOKS.get(row["verdict"], "MISSING"), "reason": row["reason"],
        "paper": said(row, number), "ours": number(row["ours"]), "interval": span(row["low"], row["high"]),
        "beside": number(row["beside"]), "beside_interval": span(row["beside_low"], row["beside_high"]),
        "repeats": row["repeats"] or DASH, "margin": f"{100 * row['margin']:g}%", "margin_reason": row["margin_reason"],
        "cells": [(name, cells.get(name, "")) for name in filter(None, row["cells"].split("; "))],
    }  # fmt: skip


def place(row: Mapping[str, Any]) -> str:
    """Where the publication says it."""
    section = f"section {row['section']}" if row["section"][:1].isdigit() else row["section"]
    return ", ".join(filter(None, (section, row["place"])))
