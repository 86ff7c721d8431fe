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
from campaign.results.tables.build import frame, write_tables
from campaign.results.tables.claims import CLAIMS
from campaign.results.tables.projection_schemas import PROJECTION_TABLES
from campaign.results.tables.schemas import OF_REPORT, TABLES
from campaign.results.tables.steps import StepsFile

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

HERE = "by this version of the program"
WINDOW = 100_000  # rows that are looked through at once
Tables = Mapping[str, Any]  # frames by name; `steps`, the one that grows with steps, as its file


def tables_of_records(layout: Layout, plan: dict[str, Any]) -> Iterator[str]:
    """Tables that are not what the records come to."""
    there = [path for name in TABLES if (path := layout.table(name)).exists()]
    with tempfile.TemporaryDirectory() as folder:
        made = {path.stem: Path(folder) / path.name for path in there}
        try:
            write_tables(plan, layout.results, made)
        except UserError as error:
            yield f"{layout.root}: tables cannot be made of the records: {error}"
            return
        for path in there:
            yield from file_differs(path, made[path.stem], "its records come to")


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
    """As `file_differs`, of a table in memory."""
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / path.name
        write_table(made, beside, schema)
        yield from file_differs(path, beside, words)


def file_differs(path: Path, made: Path, words: str) -> Iterator[str]:
    """A line naming the first row and column in which a table's file is not what was made; nothing where it is.

    Both have the columns of the table's schema, of which one is held at a time.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as old, pq.ParquetFile(made) as new:
        rows, wanted = old.metadata.num_rows, new.metadata.num_rows
        if rows != wanted:
            yield f"{path}: {rows} rows, {words} {wanted} {HERE}"
            return
        for name in new.schema_arrow.names:
            one, two = (file.read(columns=[name]).column(name) for file in (old, new))
            if found := _first_difference(one, two):
                row, is_, should = found
                yield f"{path}: row {row}, column {name}: {is_!r}, {words} {should!r} {HERE}"
                return


def _first_difference(one: pa.ChunkedArray, two: pa.ChunkedArray) -> tuple[int, Any, Any] | None:
    """Row and both values; NaN is NaN's equal here."""
    for start in range(0, len(one), WINDOW):
        some, others = one.slice(start, WINDOW), two.slice(start, WINDOW)
        if some.equals(others):
            continue
        for row, (a, b) in enumerate(zip(some.to_pylist(), others.to_pylist(), strict=True), start):
            if a != b and not (a != a and b != b):  # noqa: PLR0124
                return row, a, b
    return None


def read_all(layout: Layout) -> dict[str, Any]:
    """All tables that are there. Raises UserError naming one that cannot be read."""
    there = {name: path for name in OF_REPORT if (path := layout.table(name)).exists()}
    return {
        name: StepsFile(path) if name == "steps" else read_table(path, OF_REPORT[name]) for name, path in there.items()
    }


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
    """A report, or a page that it leads to, that is not what the tables and the figures come to."""
    from campaign.results.report.page import write_report

    if not layout.report.exists():
        return
    if missing := sorted(set(OF_REPORT) - set(tables)):
        yield f"{layout.report}: cannot be made anew without table {missing[0]}"
        return
    paths = {name: layout.figure(name, "svg") for name in available(plan, others)}
    figures = {name: path for name, path in paths.items() if path.exists()}
    with tempfile.TemporaryDirectory() as folder:
        anew = Layout(Path(folder), layout.site)
        try:
            write_report(plan, tables, figures, anew.report, others=others, cells=anew.report_cells)
        except UserError as error:
            yield f"{layout.report}: cannot be made anew: {error}"
            return
        here, there = (_pages(each) for each in (layout, anew))
        for name in sorted(here.keys() | there.keys()):
            path = layout.root / name
            if name not in here:
                yield f"{path}: no such file, and the report leads to it"
            elif name not in there:
                yield f"{path}: a page that the report does not lead to"
            elif here[name].read_bytes() != there[name].read_bytes():
                yield f"{path}: not what tables and figures come to {HERE}"


def _pages(layout: Layout) -> dict[str, Path]:
    """The report and the pages that it leads to, by their names in the site's folder."""
    found = [layout.report, *layout.report_cells.parent.rglob("*.html")]
    return {path.relative_to(layout.root).as_posix(): path for path in found}
