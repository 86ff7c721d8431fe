"""The workflow's step that draws one figure."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.figures.catalogue import FIGURES
from campaign.results.figures.context import Context, SiteRecords
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.select import NothingToDrawError
from campaign.results.figures.sites import COMPARED_TABLES, read_devices
from campaign.results.figures.style import notice, save
from campaign.results.steps.common import read_tables


def main(snakemake: Any) -> None:
    """Parameters `figure` and `plan`, inputs `tables` and, of several sites, the `others` with their plans and tables.

    Outputs `svg` and `png`, which say why where no cell has a value to draw.
    """
    name = snakemake.params.figure
    others, unusable = read_others(_files(snakemake.input.get("others", [])))
    context = Context.from_plan(read_plan(Path(snakemake.params.plan)), others, unusable)
    tables = read_tables(_files(snakemake.input.get("tables", [])))
    try:
        figure = draw_figure(name, tables, context)
    except NothingToDrawError as reason:
        figure = notice(FIGURES[name].title, str(reason))
    save(figure, Path(snakemake.output.svg), Path(snakemake.output.png))


def _files(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def read_others(files: Iterable[str]) -> tuple[tuple[SiteRecords, ...], tuple[str, ...]]:
    """Other sites' records from their files, and a line for each site whose files cannot be read.

    This site's figure is drawn all the same: another's damage is said, in the figure and on stderr.
    """
    folders: dict[Path, None] = {}
    for file in map(Path, files):
        folders[file.parent if file.name == "plan.json" else file.parent.parent] = None
    read, unusable = [], []
    for folder in folders:
        layout = Layout(folder.parent, folder.name)
        try:
            plan, devices = read_devices(layout.plan)
            tables = read_tables([str(layout.table(name)) for name in COMPARED_TABLES])
        except UserError as error:
            unusable.append(str(error))
            print(f"site {folder.name} is left out: {error}", file=sys.stderr)
        else:
            title = str(plan["site"].get("title") or plan["site"]["name"])
            read.append(SiteRecords(folder.name, title, devices, tables))
    return tuple(read), tuple(unusable)
