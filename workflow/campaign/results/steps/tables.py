"""The workflow's steps that make the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnn.records.columns import write_table
from campaign.plan.read import read_plan
from campaign.results.tables.build import build_tables
from campaign.results.tables.schemas import TABLES


def main(snakemake: Any) -> None:
    """Parameters `plan` and `results` (the folder above the site's); outputs: Parquet files called after tables."""
    paths = [Path(path) for path in snakemake.output]
    names = [path.stem for path in paths]
    built = build_tables(read_plan(Path(snakemake.params.plan)), Path(snakemake.params.results), names)
    for path in paths:
        write_table(built[path.stem], path, TABLES[path.stem])
