"""Faults of tables: each against its schema, names, order, types, units and meanings, and against the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnn.records.columns import TableSchema
from campaign.names.layout import Layout
from campaign.results.tables.schemas import CELL_TABLES, IDENTITY_KEYS, OF_REPORT

if TYPE_CHECKING:
    import pyarrow as pa

Identity = tuple[Any, ...]  # the values of a row's identity keys
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
    """A line per fault of one table's file, of which a row group is held at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            found = list(_head_faults(file.schema_arrow, schema))
            by_cell = not found and "site" in schema.names
            keys = [key for key in IDENTITY_KEYS if key in schema.names] if by_cell else []
            rows: list[tuple[int, Identity]] = []
            first, every = 0, schema.name in ONE_ROW_EACH
            for number in range(file.num_row_groups):  # all of it: what is damaged has to show
                group = file.read_row_group(number)
                rows += [(first + at, row) for at, row in _identities(group, keys, every)]
                first += len(group)
    except (pa.ArrowException, OSError) as error:
        yield f"{path}: not a readable Parquet file ({' '.join(str(error).split())})"
        return
    if not every:  # a row group may begin within a cell
        rows = [next(same) for _, same in groupby(rows, key=itemgetter(1))]
    found += _identity_faults(rows, keys, schema, plan) if by_cell else []
    yield from (f"{path}: {fault}" for fault in found)


def _head_faults(found: pa.Schema, schema: TableSchema) -> Iterator[str]:
    """Where a file is another table or version; else where its columns are not the schema's."""
    name, version = ((found.metadata or {}).get(key, b"?").decode() for key in (b"schema", b"schema_version"))
    if (name, version) != (schema.name, str(schema.version)):
        yield f"holds table {name} version {version}, this version of the program has {schema.version}"
    else:
        yield from schema_faults(found, schema)


def _identities(group: pa.Table, keys: Sequence[str], every: bool) -> list[tuple[int, Identity]]:
    """Number and identity of rows: of `every` row, else of those whose identity is not that of the row before."""
    import pyarrow.compute as pc

    if not keys or not len(group):
        return []
    columns = group.select(keys)
    if not every:
        begins = np.ones(len(group), dtype=bool)
        begins[1:] = False
        for column in columns.columns:
            differs = pc.not_equal(column.slice(1), column.slice(0, len(column) - 1))
            begins[1:] |= pc.fill_null(differs, True).to_numpy()
        numbers = np.flatnonzero(begins)
    else:
        numbers = np.arange(len(group))
    values = (column.to_pylist() for column in columns.take(numbers).columns)
    return list(zip(numbers.tolist(), zip(*values, strict=True), strict=True))


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


def _identity_faults(
    rows: Sequence[tuple[int, Identity]], keys: Sequence[str], schema: TableSchema, plan: Mapping[str, Any]
) -> Iterator[str]:
    """Rows of no cell or point of the plan, cells that are there twice, cells of the plan that are not there."""
    planned: dict[Identity, bool] = {}
    for cell in plan["cells"]:
        place = tuple(cell[key] for key in keys)
        planned[place] = planned.get(place, True) and bool(cell.get("target"))  # a target of its own may not have run
    for number, row in rows:
        if row not in planned and None not in row:
            yield f"row {number}: {_words(row)} is not in plan.json"
        elif None in row and "kind" in keys:
            yield f"row {number}: column {keys[row.index(None)]}: empty"
    if schema.name in ONE_ROW_EACH:
        counts = Counter(row for _, row in rows)
        yield from (f"{_words(row)}: {count} rows" for row, count in counts.items() if count > 1)
        yield from (
            f"{_words(row)}: no row of this cell of plan.json"
            for row, may_lack in planned.items()
            if row not in counts and not may_lack
        )


def _words(row: Identity) -> str:
    return " ".join(map(str, row))
