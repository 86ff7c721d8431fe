"""Parquet tables with a schema version, a unit and a meaning per column."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bnn.atomic import atomic_file
from bnn.errors import UserError
from bnn.regular import require_regular

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

MANY = 10_000  # rows
MAGIC = b"PAR1"  # the first and the last bytes of a Parquet file


@dataclass(frozen=True)
class Column:
    """One column: Arrow type by name (`int64`, `float64`, `string`, `bool`), unit (empty if it has none), meaning."""

    name: str
    type: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class TableSchema:
    """A Parquet table: name, version (raised when a column changes its meaning) and columns.

    `oldest`: files from this version on are read, too; columns that they lack are null. None: this version only.
    """

    name: str
    version: int
    columns: tuple[Column, ...]
    oldest: int | None = None

    def reads(self, name: str, version: str) -> bool:
        """Whether a file that says so of itself can be read as this table."""
        return name == self.name and version in map(str, range(self.oldest or self.version, self.version + 1))

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def unit(self, column: str) -> str:
        """Unit of a column, for axis labels. Raises KeyError for a column the table does not have."""
        for candidate in self.columns:
            if candidate.name == column:
                return candidate.unit
        raise KeyError(f"table {self.name} has no column {column}")

    @cache  # noqa: B019  (schemas are few, and last as long as the program)
    def arrow(self) -> pa.Schema:
        """As Arrow has it. (Made once: of a large campaign's records some thousands are opened.)"""
        import pyarrow as pa

        fields = [
            pa.field(c.name, pa.type_for_alias(c.type), metadata={"unit": c.unit, "meaning": c.meaning})
            for c in self.columns
        ]
        return pa.schema(fields, metadata={"schema": self.name, "schema_version": str(self.version)})


def write_table(frame: pd.DataFrame, path: Path, schema: TableSchema) -> None:
    """Write `frame` with exactly the schema's columns, atomically.

    Raises ValueError when a column is missing or unknown, or does not fit its type: both are bugs of the caller.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if set(frame.columns) != set(schema.names):
        missing, unknown = set(schema.names) - set(frame.columns), set(frame.columns) - set(schema.names)
        raise ValueError(f"table {schema.name}: missing columns {sorted(missing)}, unknown columns {sorted(unknown)}")
    table = pa.Table.from_pandas(frame[schema.names], schema=schema.arrow(), preserve_index=False)
    # from_pandas adds pandas' own metadata; ours is put back so that a file says what it is
    table = table.replace_schema_metadata(schema.arrow().metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as aside:
        pq.write_table(table, aside)


def is_whole(path: Path) -> bool:
    """Whether a Parquet file ends as one does: what was cut or emptied does not. True if it cannot be opened now."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(MAGIC)))
            return file.read() == MAGIC
    except OSError:
        return True


def read_table(path: Path, schema: TableSchema) -> pd.DataFrame:
    """Read a table written by `write_table`. Raises UserError as `read_arrow`."""
    return read_arrow(path, schema).to_pandas()


def read_arrow(path: Path, schema: TableSchema) -> pa.Table:
    """The same as a table of Arrow's.

    Raises UserError as `open_table`.
    """
    import pyarrow as pa

    with open_table(path, schema) as file:
        try:
            table = file.read(use_threads=file.metadata.num_rows > MANY)  # of a small file they cost half of the time
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None
    there = set(table.column_names)
    for column in schema.columns:  # of an earlier version
        if column.name not in there:
            table = table.append_column(column.name, pa.nulls(len(table), pa.type_for_alias(column.type)))
    return table


def open_table(path: Path, schema: TableSchema) -> pq.ParquetFile:
    """A table's file, none of its rows read yet.

    Raises UserError naming the file when it is absent, no file, damaged, another table or another version, and when a
    column is missing, there twice or of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_regular(path)
        file = pq.ParquetFile(path)  # not as a data set: that costs more than to read a small file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    found = file.schema_arrow
    name, version = ((found.metadata or {}).get(key, b"?").decode() for key in (b"schema", b"schema_version"))
    if not schema.reads(name, version):
        file.close()
        raise UserError(
            f"{path}: holds table {name} version {version}, expected {schema.name} version {schema.version}"
        )
    names = found.names
    for field in schema.arrow() if not found.equals(schema.arrow()) else ():
        count = names.count(field.name)
        what = "missing" if not count and version == str(schema.version) else "there twice" if count > 1 else ""
        if count == 1 and found.field(field.name).type != field.type:
            what = f"{found.field(field.name).type}, expected {field.type}"
        if what:
            file.close()
            raise UserError(f"{path}: column {field.name}: {what}")
    return file


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable Parquet file ({' '.join(str(error).split())})")
