"""A page for each cell: its steps, every value with its meaning, MPI calls, where it ran, how to run it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2

from bnn.records.files import write_text
from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.results.report.cells import SUFFIX, anchor, page_of
from campaign.results.report.charts import CHARTED, charts
from campaign.results.report.claims import LOOKS
from campaign.results.report.grid import exact
from campaign.results.report.mpi import routine_table
from campaign.results.report.origin import facts
from campaign.results.report.series import rerun
from campaign.results.report.words import DASH
from campaign.results.tables.schemas import CELLS, IDENTITY_KEYS
from campaign.results.tables.steps import by_cell, in_order

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Tables = Mapping[str, "pd.DataFrame"]


def write_pages(tables: Tables, folder: Path, environment: jinja2.Environment, css: Row) -> list[Path]:
    """Write a page for each row of table `cells`, each atomically, and remove those of cells that are no more.

    `folder` is two below that of the report, to which the pages lead back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for cell in cell_pages(tables):
        written.append(folder / cell["file"])
        write_text(written[-1], environment.get_template("cell.html.j2").render(css=css, **cell))
    for path in set(folder.glob(f"*{SUFFIX}")) - set(written):
        path.unlink()
    return written


def cell_pages(tables: Tables) -> Iterator[Row]:
    """What the template shows of each cell."""
    groups = {name: _by_cell(tables[name]) for name in ("provenance", "mpi", "mpi_ranks")}
    claims = _claims(tables)
    cells = tables["cells"]
    keys = list(cells[list(IDENTITY_KEYS)].itertuples(index=False, name=None))
    steps = in_order(keys, by_cell(tables["steps"], CHARTED))
    for cell, key, charted in zip(cells.to_dict("records"), keys, steps, strict=True):
        mine = {name: found.get(key, tables[name].iloc[:0]) for name, found in groups.items()}
        shared, different = facts(mine["provenance"])
        calls = None if mine["mpi"].empty else routine_table(mine["mpi"], len(mine["mpi_ranks"]), "mpi")
        name = page_of(cell).removesuffix(SUFFIX)
        yield {
            "file": page_of(cell), "name": name, "verdict": cell["verdict"], "reasons": cell["reasons"],
            "anchor": anchor(cell), "values": values(cell), "charts": [] if charted is None else charts(charted),
            "shared": shared, "different": different, "mpi": calls, "mpi_state": cell["mpi"],
            "claims": [*claims.get(name, []), *claims.get(f"{cell['site']}/{name}", [])],
            "again": rerun(cell, [int(cell["repeat"])]),
            # the cell's records, from the page's folder
            **{what: quote(path, safe="/=.") for what, path in _told(cell).items()},
            "records": quote(f"../../{PurePosixPath(*PurePosixPath(cell['folder']).parts[1:]).as_posix()}", safe="/=."),
        }  # fmt: skip


def _told(cell: Mapping[str, Any]) -> dict[str, str]:
    """A cell's script and settings, from its page's folder."""
    layout, own = Layout(Path(), cell["site"]), Cell(**{key: cell[key] for key in IDENTITY_KEYS})
    paths = {"script": layout.script(own), "settings": layout.settings(own)}
    return {what: f"../../{path.relative_to(layout.root).as_posix()}" for what, path in paths.items()}


def values(cell: Mapping[str, Any] | pd.Series) -> list[Row]:
    """Every column of table `cells` with its value, unit and meaning."""
    return [
        {"name": column.name, "value": exact(cell[column.name]) or DASH, "unit": column.unit, "meaning": column.meaning}
        for column in CELLS.columns
    ]


def _by_cell(table: pd.DataFrame) -> dict[tuple[Any, ...], pd.DataFrame]:
    return {tuple(key): rows for key, rows in table.groupby(list(IDENTITY_KEYS), sort=False)}


def _claims(tables: Tables) -> dict[str, list[Row]]:
    """The claims that rest on a cell, by its name."""
    found: dict[str, list[Row]] = {}
    claims = tables.get("claims")
    for claim in [] if claims is None else claims.to_dict("records"):
        for name in filter(None, claim["cells"].split("; ")):  # another site's, SITE/NAME, has no page here
            look = LOOKS.get(claim["verdict"], "MISSING")
            found.setdefault(name, []).append(
                {key: claim[key] for key in ("id", "statement", "verdict")} | {"look": look}
            )
    return found
