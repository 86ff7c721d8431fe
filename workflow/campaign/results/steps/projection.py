"""The workflow's step that projects cells onto the networks that the site names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnn.records.columns import write_table
from campaign.plan.read import read_plan
from campaign.results.claims.ledger import load_ledger
from campaign.results.projection.site import project_site
from campaign.results.tables.projection_schemas import PROJECTION_TABLES


def main(snakemake: Any) -> None:
    """Parameters `plan` and `results` (the folder above the site's), input `ledger`; outputs: Parquet files called
    after tables."""
    plan, ledger = read_plan(Path(snakemake.params.plan)), load_ledger(Path(snakemake.input.ledger))
    made = project_site(plan, Path(snakemake.params.results), ledger)
    for path in map(Path, snakemake.output):
        write_table(made[path.stem], path, PROJECTION_TABLES[path.stem])
