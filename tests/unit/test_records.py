"""Record schemas: what is written comes back, with units; anything else is refused by name."""

import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bnn.errors import UserError
from bnn.records import STEPS, Column, TableSchema, read_table, write_table

SMALL = TableSchema("small", 3, (Column("n", "int64", "", "a count"), Column("t", "float64", "s", "a time")))


def test_a_table_comes_back_with_its_units(tmp_path):
    frame = pd.DataFrame({"t": [0.5, 1.5], "n": [1, 2]})
    write_table(frame, tmp_path / "small.parquet", SMALL)
    pd.testing.assert_frame_equal(read_table(tmp_path / "small.parquet", SMALL), frame[["n", "t"]])
    assert pq.read_schema(tmp_path / "small.parquet").field("t").metadata[b"unit"] == b"s"
    assert [p.name for p in tmp_path.iterdir()] == ["small.parquet"]


def test_missing_and_unknown_columns_are_refused(tmp_path):
    with pytest.raises(ValueError, match="missing columns"):
        write_table(pd.DataFrame({"n": [1], "x": [2]}), tmp_path / "small.parquet", SMALL)
    assert not list(tmp_path.iterdir())


def test_absent_damaged_and_foreign_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.parquet: no such file"):
        read_table(tmp_path / "none.parquet", SMALL)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"bad\.parquet: not a readable Parquet file"):
        read_table(tmp_path / "bad.parquet", SMALL)
    write_table(pd.DataFrame({"n": [1], "t": [2.0]}), tmp_path / "small.parquet", SMALL)
    with pytest.raises(UserError, match="holds table small version 3, expected steps"):
        read_table(tmp_path / "small.parquet", STEPS)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"n": [1]}, "column t: missing"),
        ({"n": ["a"], "t": [0.5]}, "column n: (large_)?string, expected int64"),
        ({"n": [None], "t": [0.5]}, "column n: null, expected int64"),
    ],
)
def test_a_table_that_says_it_is_one_and_lacks_a_column_or_its_type_is_named(tmp_path, frame, words):
    table = pa.Table.from_pandas(pd.DataFrame(frame), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(SMALL.arrow().metadata), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=rf"x\.parquet: {words}"):
        read_table(tmp_path / "x.parquet", SMALL)


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="a named pipe"):
        read_table(tmp_path / "x.parquet", SMALL)


def test_every_second_has_its_unit():
    assert all(column.unit == "s" for column in STEPS.columns if column.name.startswith("seconds"))
    with pytest.raises(KeyError):
        STEPS.unit("speed")
