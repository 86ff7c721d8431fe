"""Whether tables, figures and report are what they are made from: all is made once more, and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.errors import UserError
from bnn.records.columns import TableSchema, read_table, write_table
from campaign.names.layout import Layout
from campaign.results.figures.catalogue import FIGURES, available
from campaign.results.figures.sites import OtherSite
from campaign.results.tables.build import build_tables, frame
from campaign.results.tables.claims import CLAIMS
from campaign.results.tables.projection_schemas import PROJECTION_TABLES
from campaign.results.tables.schemas import OF_REPORT, TABLES

if TYPE_CHECKING:
    import pandas as pd

HERE = "by this version of the program"
Tables = Mapping[str, "pd.DataFrame"]


def tables_of_records(layout: Layout, plan: dict[str, Any]) -> Iterator[str]:
    """Tables that are not what the records come to."""
    there = [name for name in TABLES if layout.table(name).exists()]
    try:
        built = build_tables(plan, layout.results, there)
    except UserError as error:
        yield f"{layout.root}: tables cannot be made of the records: {error}"
        return
    for name in there:
        yield from table_differs(layout.table(name), built[name], TABLES[name], "its records come to")


def claims_of_tables(layout: Layout, ledger: Path, tables: Tables, others: Sequence[OtherSite]) -> Iterator[str]:
    """A table of claims that is not what the ledger and the tables come to, and those of the sites beside."""
    from campaign.results.claims.expressions import TABLES as CLAIMED
    from campaign.results.claims.ledger import load_ledger
    from campaign.results.claims.rows import claim_rows
    from campaign.results.steps.claims import read_others

    given = {name: table for name, table in tables.items() if name in CLAIMED}
    beside = read_others([str(file) for other in others for file in other.tables(CLAIMED)])
    judged = frame(claim_rows(load_ledger(ledger), given, beside), CLAIMS)
    yield from table_differs(layout.table(CLAIMS.name), judged, CLAIMS, "ledger and tables come to")


def projections_of_records(layout: Layout, plan: dict[str, Any], ledger: Path) -> Iterator[str]:
    """Tables of projections that are not what the records come to."""
    from campaign.results.claims.ledger import load_ledger
    from campaign.results.projection.site import project_site

    there = [name for name in PROJECTION_TABLES if layout.table(name).exists()]
    try:
        made = project_site(plan, layout.results, load_ledger(ledger)) if there else {}
    except UserError as error:
        yield f"{layout.root}: projections cannot be made of the records: {error}"
        return
    for name in there:
        yield from table_differs(layout.table(name), made[name], PROJECTION_TABLES[name], "its records come to")


def table_differs(path: Path, made: pd.DataFrame, schema: TableSchema, words: str) -> Iterator[str]:
    """A line naming the first row and column in which a file is not what was made; nothing where it is."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / path.name
        write_table(made, beside, schema)
        old, new = pq.read_table(path), pq.read_table(beside)
    if old.equals(new):
        return
    if len(old) != len(new):
        yield f"{path}: {len(old)} rows, {words} {len(new)} {HERE}"
        return
    for name in new.column_names:
        one, two = (table.column(name).to_pylist() for table in (old, new))
        for row, (a, b) in enumerate(zip(one, two, strict=True)):
            if a != b and not (a != a and b != b):  # noqa: PLR0124
                yield f"{path}: row {row}, column {name}: {a!r}, {words} {b!r} {HERE}"
                return


def read_all(layout: Layout) -> dict[str, pd.DataFrame]:
    """All tables that are there. Raises UserError naming one that cannot be read."""
    paths = {name: layout.table(name) for name in OF_REPORT}
    return {name: read_table(path, OF_REPORT[name]) for name, path in paths.items() if path.exists()}


def figures_of_tables(
    layout: Layout, plan: dict[str, Any], tables: Tables, others: Sequence[OtherSite]
) -> Iterator[str]:
    """Figures that are not what the tables come to, and those of the sites beside."""
    from campaign.results.figures.context import Context
    from campaign.results.figures.draw import draw_figure
    from campaign.results.figures.select import NothingToDrawError
    from campaign.results.figures.style import notice, save
    from campaign.results.steps.figure import read_others

    with tempfile.TemporaryDirectory() as folder:
        for name in available(plan, others):
            path, spec = layout.figure(name, "svg"), FIGURES[name]
            if not path.exists():
                continue
            files = [str(file) for other in others for file in other.files] if spec.devices else []
            context = Context.from_plan(plan, *read_others(files))
            if missing := [table for table in spec.tables if table not in tables]:
                yield f"{path}: made of table {missing[0]}, which is not there"
                continue
            try:
                figure = draw_figure(name, {table: tables[table] for table in spec.tables}, context)
            except NothingToDrawError as reason:
                figure = notice(spec.title, str(reason))
            svg, png = Path(folder) / path.name, Path(folder) / f"{name}.png"
            save(figure, svg, png)
            for made, beside in ((path, svg), (layout.figure(name, "png"), png)):
                if made.exists() and made.read_bytes() != beside.read_bytes():
                    yield f"{made}: not what the tables come to {HERE}"


def report_of_tables(
    layout: Layout, plan: dict[str, Any], tables: Tables, others: Sequence[OtherSite]
) -> Iterator[str]:
    """A report that is not what the tables and the figures come to."""
    from campaign.results.report.folded import Folded
    from campaign.results.report.page import render

    if not layout.report.exists():
        return
    if missing := sorted(set(OF_REPORT) - set(tables)):
        yield f"{layout.report}: cannot be made anew without table {missing[0]}"
        return
    paths = {name: layout.figure(name, "svg") for name in available(plan, others)}
    figures = {name: path for name, path in paths.items() if path.exists()}
    try:
        text = render(plan, tables, figures, others=others, folded=Folded())
    except UserError as error:
        yield f"{layout.report}: cannot be made anew: {error}"
        return
    if layout.report.read_text(encoding="utf-8") != text:
        yield f"{layout.report}: not what tables and figures come to {HERE}"
