"""The workflow's step that judges the claims of a ledger by the campaign's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnn.records.columns import write_table
from campaign.results.claims.ledger import load_ledger
from campaign.results.claims.rows import claim_rows
from campaign.results.steps.common import read_tables
from campaign.results.tables.build import frame
from campaign.results.tables.claims import CLAIMS


def main(snakemake: Any) -> None:
    """Inputs `ledger` and `tables` (Parquet files called after tables); output: the table `claims`."""
    rows = claim_rows(load_ledger(Path(snakemake.input.ledger)), read_tables(snakemake.input.tables))
    write_table(frame(rows, CLAIMS), Path(snakemake.output[0]), CLAIMS)
