"""What `campaign claims` prints: verdicts as they were last judged, or of a ledger judged now."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from bnn.errors import UserError
from bnn.records.columns import read_table
from campaign.names.layout import Layout
from campaign.results.claims import words
from campaign.results.claims.expressions import TABLES
from campaign.results.claims.ledger import Ledger, load_ledger
from campaign.results.claims.measures import selections
from campaign.results.claims.rows import claim_rows
from campaign.results.figures.sites import other_sites
from campaign.results.steps.claims import read_others
from campaign.results.tables.build import frame
from campaign.results.tables.claims import CLAIMS
from campaign.results.tables.schemas import TABLES as SCHEMAS

if TYPE_CHECKING:
    import pandas as pd


def last_judged(layout: Layout, profile: Path) -> pd.DataFrame:
    """The table `claims` of a site. Raises UserError where none was made yet."""
    path = layout.table(CLAIMS.name)
    if not path.exists():
        raise UserError(f"{path}: no claim was judged yet: snakemake --profile {profile} all_figures makes it")
    return read_table(path, CLAIMS)


def judged_now(ledger: Path, layout: Layout) -> pd.DataFrame:
    """Claims of a ledger by a site's tables as they are, and those beside; of a table not made yet none is tested."""
    paths = {name: layout.table(name) for name in TABLES}
    tables = {name: read_table(path, SCHEMAS[name]) for name, path in paths.items() if path.exists()}
    others = read_others([str(file) for other in other_sites(layout) for file in other.tables(TABLES)])
    return frame(claim_rows(load_ledger(ledger), tables, others), CLAIMS)


def described(ledger: Ledger) -> str:
    """How many claims a ledger has of each type, and how many are judged by tables."""
    types = Counter(claim.type for claim in ledger.claims)
    measured = sum(any(selections(claim.expression)) for claim in ledger.claims)
    said = words.totals(dict(sorted(types.items())))
    return f"{len(ledger.claims)} claims ({said}), {measured} of them judged by tables; sha256 {ledger.sha256[:12]}"


def claims_table(claims: pd.DataFrame) -> Table:
    """Id, verdict, ours with its interval, and what the paper prints, of each row of table `claims`."""
    table = Table("claim", "verdict", "ours", "95% interval", "paper", "unit", title="Claims")
    for row in claims.to_dict("records"):
        interval = f"{_number(row['low'])} to {_number(row['high'])}" if not math.isnan(row["low"]) else ""
        cells = (row["id"], row["verdict"], _number(row["ours"]), interval, words.said(row, _number), row["unit"])
        table.add_row(*map(Text, cells))
    return table


def totals(claims: pd.DataFrame) -> str:
    """How many claims have each verdict, and the ledger that they are of."""
    if claims.empty:
        return "no claims"
    said = words.totals(claims["verdict"].value_counts().to_dict())
    first = claims.iloc[0]
    return f"{len(claims)} claims of {first['ledger']} (sha256 {first['ledger_sha256'][:12]}): {said}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
