"""The workflow's step that draws one figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campaign.figures.context import Context
from campaign.figures.draw import DRAW
from campaign.figures.style import save
from campaign.script_support import one_line_errors, read_plan, read_tables


@one_line_errors
def main(name: str, snakemake: Any) -> None:
    """Inputs `plan` and `tables`; outputs `svg` and `png`."""
    context = Context.from_plan(read_plan(Path(snakemake.input.plan)))
    paths = snakemake.input.get("tables", [])
    tables = read_tables([paths] if isinstance(paths, str) else paths)
    save(DRAW[name](tables, context), Path(snakemake.output.svg), Path(snakemake.output.png))
