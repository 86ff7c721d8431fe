"""The workflow's step that writes the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.figures.sites import other_sites
from campaign.results.report.page import write_report
from campaign.results.steps.common import read_tables
from campaign.results.tables.steps import StepsFile


def main(snakemake: Any) -> None:
    """Parameter `plan`, inputs `tables` and `figures` (SVG files called after figures); outputs `html` and `pages`."""
    paths = snakemake.input.get("figures", [])
    figures = {Path(path).stem: Path(path) for path in ([paths] if isinstance(paths, str) else paths)}
    files = {Path(path).stem: path for path in snakemake.input.tables}
    tables: dict[str, Any] = {"steps": StepsFile(Path(files.pop("steps")))}  # read cell by cell
    tables |= read_tables(files.values())
    path = Path(snakemake.params.plan)
    here = Layout(path.parent.parent, path.parent.name)
    others = other_sites(here)
    write_report(read_plan(path), tables, figures, Path(snakemake.output.html), others=others, cells=here.report_cells)
