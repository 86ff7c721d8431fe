"""Table `steps`: the one that grows with steps. It is written and read cell by cell, and never held as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.atomic import atomic_file
from bnn.errors import UserError
from bnn.records.columns import open_table
from campaign.results.tables.schemas import IDENTITY_KEYS, STEPS_OF_CELLS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import pyarrow as pa

Key = tuple[Any, ...]
Rows = tuple[dict[str, Any], "pd.DataFrame"]  # of one cell: what all its rows have in common, and the other columns
GROUP = 100_000  # rows, at least, of a row group in the file; those of a cell are in one


@contextmanager
def steps_writer(path: Path) -> Iterator[Callable[[Rows], None]]:
    """What takes the rows of one cell after another; the file is there, whole, when the block ends."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = STEPS_OF_CELLS.arrow()
    waiting: list[pa.Table] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as aside, pq.ParquetWriter(aside, schema) as file:

        def flush() -> None:
            file.write_table(pa.concat_tables(waiting))
            waiting.clear()

        def take(rows: Rows) -> None:
            common, columns = rows
            arrays = [
                pa.repeat(pa.scalar(common[field.name], field.type), len(columns)) if field.name in common
                else pa.array(columns[field.name], field.type, from_pandas=True)
                for field in schema
            ]  # fmt: skip
            waiting.append(pa.Table.from_arrays(arrays, schema=schema))
            if sum(map(len, waiting)) >= GROUP:
                flush()

        yield take
        if waiting:
            flush()


class StepsFile:
    """Table `steps` in its file, of which a row group is read at a time.

    Raises UserError as `open_table` does.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, open_table(path, STEPS_OF_CELLS)

    def __len__(self) -> int:
        """Rows."""
        return int(self._file.metadata.num_rows)

    def by_cell(self, columns: Iterable[str]) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Identity and rows of each cell, these `columns` of them, in the order of the file."""
        import pandas as pd
        import pyarrow as pa

        names = [*IDENTITY_KEYS, *columns]
        last: tuple[Key, pd.DataFrame] | None = None
        for number in range(self._file.num_row_groups):
            try:
                group = self._file.read_row_group(number, columns=names).to_pandas()
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{self.path}: not a readable Parquet file ({error})") from None
            for key, rows in _runs(group):
                if last and last[0] == key:  # another writer may begin a row group within a cell
                    last = (key, pd.concat([last[1], rows], ignore_index=True))
                    continue
                if last:
                    yield last
                last = (key, rows)
        if last:
            yield last


def _runs(rows: pd.DataFrame) -> Iterator[tuple[Key, pd.DataFrame]]:
    """Rows of one identity after another, as they stand."""
    identity = rows[list(IDENTITY_KEYS)]
    starts = [int(at) for at in (identity != identity.shift()).any(axis=1).to_numpy().nonzero()[0]]
    for start, stop in pairwise([*starts, len(rows)]):
        yield tuple(identity.iloc[start]), rows.iloc[start:stop]


def by_cell(steps: pd.DataFrame | StepsFile, columns: Iterable[str]) -> Iterator[tuple[Key, pd.DataFrame]]:
    """As `StepsFile.by_cell`, of a table that is in memory or in its file."""
    if isinstance(steps, StepsFile):
        return steps.by_cell(columns)
    return _runs(steps[[*IDENTITY_KEYS, *columns]])


def in_order(cells: Iterable[Key], found: Iterator[tuple[Key, pd.DataFrame]]) -> Iterator[pd.DataFrame | None]:
    """The steps of each cell; None of one without any. `found` has them in the order of `cells`.

    Raises UserError where it has not: the two tables are not of one making.
    """
    ahead = next(found, None)
    for key in cells:
        if ahead and ahead[0] == key:
            yield ahead[1]
            ahead = next(found, None)
        else:
            yield None
    if ahead:
        name = " ".join(map(str, ahead[0]))
        raise UserError(f"table steps: {name} is not where table cells has it: make the tables again")
