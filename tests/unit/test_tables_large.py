"""Tables of many cells: nothing that grows with steps is kept, and table `steps` is the same written in parts."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from bnn.errors import UserError
from bnn.records import STEPS_FILE
from bnn.records.columns import read_table, write_table
from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.results.steps.tables import main
from campaign.results.tables import build
from campaign.results.tables import steps as steps_table
from campaign.results.tables.build import build_tables
from campaign.results.tables.schemas import CELL_TABLES, IDENTITY_KEYS, STEPS_OF_CELLS
from campaign.results.tables.steps import StepsFile, by_cell, in_order, steps_writer
from tests.support.cells import SITE
from tests.support.large import large_campaign

CHARTED = ("attempt", "step", "phase", "seconds")


def make(results: Path) -> Layout:
    """Run the workflow's step for the tables of cells."""
    layout = Layout(results, SITE["name"])
    params = SimpleNamespace(plan=str(layout.plan), results=str(results))
    main(SimpleNamespace(params=params, output=[str(layout.table(name)) for name in CELL_TABLES]))
    return layout


def peak(results: Path) -> int:
    """Bytes that making the tables takes at most."""
    tracemalloc.start()
    try:
        make(results)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # of 4 and of 16 cells the rows of one are in memory at a time, and in table `steps` two of them are written at once
    monkeypatch.setattr(steps_table, "GROUP", 2000)
    cells = {4: (1,), 16: (1, 2, 4, 8)}
    peaks = {}
    for count, nodes in cells.items():
        made = large_campaign(tmp_path / str(count), ranks=4, steps=1000, nodes=nodes, batches=(16,), repeats=(1,))
        assert len(made["cells"]) == count
        make(tmp_path / str(count))  # what is imported and remembered at a first time
        peaks[count] = peak(tmp_path / str(count))
    of_a_cell = 4 * 1000 * 30 * 8  # rows x columns x bytes
    assert peaks[16] - peaks[4] < 2 * of_a_cell


def test_cells_that_several_processes_read_give_the_same_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = large_campaign(tmp_path, ranks=2, steps=12, nodes=(1, 2), batches=(16,), repeats=(1, 2))
    made["cells"][2]["repeat"] = 9  # unfinished
    alone = build_tables(made, tmp_path, CELL_TABLES)
    monkeypatch.setattr(build, "MANY", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    together = build_tables(made, tmp_path, CELL_TABLES)
    assert alone.keys() == together.keys()
    for name, table in alone.items():
        pd.testing.assert_frame_equal(together[name], table)
    first = tmp_path / Cell(**{key: made["cells"][5][key] for key in IDENTITY_KEYS}).folder / STEPS_FILE
    first.unlink()  # it may be a second name of a file: that one stays
    first.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        build_tables(made, tmp_path, CELL_TABLES)


@pytest.mark.parametrize("group", [1, 30, 10**9])
def test_steps_written_in_parts_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(steps_table, "GROUP", group)
    made = large_campaign(tmp_path, ranks=2, steps=12, nodes=(1,), batches=(16,), repeats=(1, 2))
    unfinished = made["cells"][3]
    unfinished["repeat"] = 9
    (tmp_path / "toy" / "plan.json").write_text(json.dumps(made))
    path = make(tmp_path).table("steps")
    whole = build_tables(made, tmp_path, ["steps"])["steps"]
    beside = tmp_path / "whole.parquet"
    write_table(whole, beside, STEPS_OF_CELLS)
    pd.testing.assert_frame_equal(read_table(path, STEPS_OF_CELLS), read_table(beside, STEPS_OF_CELLS))
    assert len(StepsFile(path)) == len(whole)
    of_file, of_frame = (list(by_cell(steps, CHARTED)) for steps in (StepsFile(path), whole))
    assert [key for key, _ in of_file] == [key for key, _ in of_frame]
    assert len(of_file) == 7
    for (_, one), (_, two) in zip(of_file, of_frame, strict=True):
        assert one["seconds"].tolist() == two["seconds"].tolist()
        assert one["phase"].tolist() == two["phase"].tolist()
    keys = [tuple(cell[key] for key in IDENTITY_KEYS) for cell in made["cells"]]
    shown = [None if rows is None else len(rows) for rows in in_order(keys, iter(of_file))]
    assert shown == [12, 12, 12, None, 12, 12, 12, 12]


def test_a_cell_that_row_groups_divide_is_read_whole(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    made = large_campaign(tmp_path, ranks=1, steps=12, nodes=(1,), batches=(16,), repeats=(1,))
    path = make(tmp_path).table("steps")
    pq.write_table(pq.read_table(path), path, row_group_size=5)
    assert [len(rows) for _, rows in StepsFile(path).by_cell(CHARTED)] == [12] * len(made["cells"])


def test_steps_of_another_making_are_refused(tmp_path: Path) -> None:
    made = large_campaign(tmp_path, ranks=1, steps=12, nodes=(1,), batches=(16,), repeats=(1,))
    found = by_cell(build_tables(made, tmp_path, ["steps"])["steps"], CHARTED)
    keys = [tuple(cell[key] for key in IDENTITY_KEYS) for cell in made["cells"]]
    with pytest.raises(UserError, match="make the tables again"):
        list(in_order(reversed(keys), found))


def test_a_file_of_steps_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "steps.parquet"
    with pytest.raises(UserError, match=r"steps\.parquet: no such file"):
        StepsFile(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"steps\.parquet: not a readable Parquet file"):
        StepsFile(path)
    with steps_writer(path):
        pass
    assert len(StepsFile(path)) == 0
    assert not list(StepsFile(path).by_cell(CHARTED))
    made = large_campaign(tmp_path, ranks=1, steps=12, nodes=(1,), batches=(16,), repeats=(1,))
    write_table(build_tables(made, tmp_path, ["cells"])["cells"], path, CELL_TABLES["cells"])
    with pytest.raises(UserError, match="holds table cells version 3, expected cell_steps version 1"):
        StepsFile(path)
