"""Faults of tables: each against its schema, names, order, types, units and meanings, and against the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.records.columns import TableSchema
from campaign.names.layout import Layout
from campaign.results.tables.schemas import CELL_TABLES, IDENTITY_KEYS, OF_REPORT

if TYPE_CHECKING:
    import pyarrow as pa

# One row per cell in these; in others a cell may have several or none.
ONE_ROW_EACH = ("cells", "cell_efficiencies")


def table_faults(layout: Layout, plan: Mapping[str, Any]) -> Iterator[str]:
    """A line per fault of the tables in a site's folder: those that are missing, too many or not as their schema."""
    folder = layout.table("x").parent
    there = sorted(folder.glob("*.parquet"))
    for name in CELL_TABLES:
        if not layout.table(name).exists():
            yield f"{layout.table(name)}: no such file, though every campaign has this table"
    for path in sorted(path for path in folder.iterdir() if path not in there) if folder.is_dir() else ():
        if not path.name.startswith("."):
            yield f"{path}: no table"
    for path in there:
        if path.stem not in OF_REPORT:
            yield f"{path}: no table is called {path.stem}"
        else:
            yield from file_faults(path, OF_REPORT[path.stem], plan)


def file_faults(path: Path, schema: TableSchema, plan: Mapping[str, Any]) -> Iterator[str]:
    """A line per fault of one table's file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        yield f"{path}: not a readable Parquet file ({' '.join(str(error).split())})"
        return
    metadata = table.schema.metadata or {}
    name, version = (metadata.get(key, b"?").decode() for key in (b"schema", b"schema_version"))
    if (name, version) != (schema.name, str(schema.version)):
        yield f"{path}: holds table {name} version {version}, this version of the program has {schema.version}"
        return
    found = list(schema_faults(table.schema, schema))
    yield from (f"{path}: {fault}" for fault in found)
    if not found and "site" in schema.names:
        yield from (f"{path}: {fault}" for fault in _identity_faults(table, schema, plan))


def schema_faults(found: pa.Schema, schema: TableSchema) -> Iterator[str]:
    """Where a file's columns are not the schema's."""
    wanted = schema.arrow()
    for name in sorted(set(wanted.names) - set(found.names)):
        yield f"column {name}: missing"
    for name in sorted(set(found.names) - set(wanted.names)):
        yield f"column {name}: not of this table"
    if len(set(found.names)) < len(found.names):
        yield "a column is there twice"
        return
    if set(found.names) == set(wanted.names) and found.names != wanted.names:
        yield f"columns in another order, from {next(a for a, b in zip(found.names, wanted.names) if a != b)} on"  # noqa: B905
    for field in wanted:
        if field.name not in found.names:
            continue
        mine = found.field(field.name)
        if mine.type != field.type:
            yield f"column {field.name}: type {mine.type}, expected {field.type}"
        for key in (b"unit", b"meaning"):
            is_, should = ((of.metadata or {}).get(key, b"").decode() for of in (mine, field))
            if is_ != should:
                yield f"column {field.name}: {key.decode()} {is_!r}, expected {should!r}"


def _identity_faults(table: pa.Table, schema: TableSchema, plan: Mapping[str, Any]) -> Iterator[str]:
    """Rows of no cell or point of the plan, cells that are there twice, cells of the plan that are not there."""
    keys = [key for key in IDENTITY_KEYS if key in schema.names]
    rows = list(zip(*(table.column(key).to_pylist() for key in keys), strict=True))
    planned: dict[tuple[Any, ...], bool] = {}
    for cell in plan["cells"]:
        place = tuple(cell[key] for key in keys)
        planned[place] = planned.get(place, True) and bool(cell.get("target"))  # a target of its own may not have run
    for number, row in enumerate(rows):
        if row not in planned and None not in row:
            yield f"row {number}: {_words(row)} is not in plan.json"
        elif None in row and "kind" in keys:
            yield f"row {number}: column {keys[row.index(None)]}: empty"
    if schema.name in ONE_ROW_EACH:
        yield from (f"{_words(row)}: {rows.count(row)} rows" for row in _twice(rows))
        yield from (
            f"{_words(row)}: no row of this cell of plan.json"
            for row, may_lack in planned.items()
            if row not in set(rows) and not may_lack
        )


def _twice(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    seen: dict[tuple[Any, ...], int] = {}
    for row in rows:
        seen[row] = seen.get(row, 0) + 1
    return [row for row, count in seen.items() if count > 1]


def _words(row: tuple[Any, ...]) -> str:
    return " ".join(map(str, row))
