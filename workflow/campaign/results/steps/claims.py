"""The workflow's step that judges the claims of a ledger by the campaign's tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.errors import UserError
from bnn.records.columns import write_table
from campaign.results.claims.ledger import load_ledger
from campaign.results.claims.rows import claim_rows
from campaign.results.steps.common import read_tables
from campaign.results.tables.build import frame
from campaign.results.tables.claims import CLAIMS

if TYPE_CHECKING:
    import pandas as pd


def read_others(files: str | Iterable[str]) -> list[dict[str, pd.DataFrame]]:
    """Tables of each other site. One that cannot be read is left out with a line: this site is judged all the same."""
    folders: dict[Path, list[str]] = {}
    for file in [files] if isinstance(files, str) else files:
        folders.setdefault(Path(file).parent, []).append(file)
    read = []
    for folder, paths in folders.items():
        try:
            read.append(read_tables(paths))
        except UserError as error:
            print(f"site {folder.parent.name} is left out: {error}", file=sys.stderr)
    return read


def main(snakemake: Any) -> None:
    """Inputs `ledger`, `tables` (Parquet files called after tables) and `others`, those of the sites beside this one.

    Output: the table `claims`.
    """
    others = read_others(snakemake.input.get("others", []))
    rows = claim_rows(load_ledger(Path(snakemake.input.ledger)), read_tables(snakemake.input.tables), others)
    write_table(frame(rows, CLAIMS), Path(snakemake.output[0]), CLAIMS)
