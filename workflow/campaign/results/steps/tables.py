"""The workflow's steps that make the tables."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bnn.records.columns import write_table
from campaign.plan.read import read_plan
from campaign.results.tables.build import build_tables
from campaign.results.tables.schemas import TABLES
from campaign.results.tables.steps import steps_writer


def main(snakemake: Any) -> None:
    """Parameters `plan` and `results` (the folder above the site's); outputs: Parquet files called after tables."""
    paths = {path.stem: path for path in map(Path, snakemake.output)}
    steps = paths.pop("steps", None)
    with steps_writer(steps) if steps else nullcontext() as take:
        plan, results = read_plan(Path(snakemake.params.plan)), Path(snakemake.params.results)
        built = build_tables(plan, results, [*paths, "steps"] if steps else paths, take)
    for name, path in paths.items():
        write_table(built[name], path, TABLES[name])
