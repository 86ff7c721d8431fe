"""The workflow's steps that make the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campaign.plan.read import read_plan
from campaign.results.tables.build import write_tables


def main(snakemake: Any) -> None:
    """Parameters `plan` and `results` (the folder above the site's); outputs: Parquet files called after tables."""
    paths = {path.stem: path for path in map(Path, snakemake.output)}
    write_tables(read_plan(Path(snakemake.params.plan)), Path(snakemake.params.results), paths)
