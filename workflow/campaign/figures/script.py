"""The workflow's step that draws one figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campaign.figures.catalogue import FIGURES
from campaign.figures.context import Context
from campaign.figures.draw import DRAW
from campaign.figures.select import NothingToDrawError
from campaign.figures.style import notice, save
from campaign.script_support import one_line_errors, read_plan, read_tables


@one_line_errors
def main(name: str, snakemake: Any) -> None:
    """Inputs `plan` and `tables`; outputs `svg` and `png`, which say why where no cell has a value to draw."""
    context = Context.from_plan(read_plan(Path(snakemake.input.plan)))
    paths = snakemake.input.get("tables", [])
    tables = read_tables([paths] if isinstance(paths, str) else paths)
    try:
        figure = DRAW[name](tables, context)
    except NothingToDrawError as reason:
        figure = notice(FIGURES[name].title, str(reason))
    save(figure, Path(snakemake.output.svg), Path(snakemake.output.png))
