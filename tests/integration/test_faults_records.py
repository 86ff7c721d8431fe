"""Records that were damaged after a run: only what was damaged is made anew. Stand-ins run in jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from campaign.names.cell import Cell
from campaign.tell.status import FINISHED
from tests.support.campaigns import changed
from tests.support.faults import CAMPAIGN, Faulty

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]


def lose_summary(faulty: Faulty, cell: Cell) -> None:
    """Its second name is still there: the job puts it back."""
    faulty.layout.summary(cell).unlink()


def spoil_settings_record(faulty: Faulty, cell: Cell) -> None:
    """The summary is gone, and nothing says any more of which settings the other records are."""
    faulty.layout.summary(cell).unlink()
    (faulty.layout.folder(cell) / "cell.json").write_text('{"hash": ')


def leave_debris(faulty: Faulty, cell: Cell) -> None:
    """Of attempts that were killed, beside a finished run: no reason to do anything."""
    (faulty.layout.folder(cell) / ".partial-summary").write_text('{"hash": ')
    (faulty.layout.folder(cell) / ".partial-7").mkdir()


def cut_summary(faulty: Faulty, cell: Cell) -> None:
    """Its last bytes are lost, under both names; what a job's script looks for is in what is left."""
    path = faulty.layout.summary(cell)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 30)


def empty_summary(faulty: Faulty, cell: Cell) -> None:
    with faulty.layout.summary(cell).open("r+b") as file:
        file.truncate(0)


def replace_summary(faulty: Faulty, cell: Cell) -> None:
    """By something else; its second name is still there."""
    faulty.layout.summary(cell).unlink()
    faulty.layout.summary(cell).write_text("no summary")


@pytest.fixture
def finished(tmp_path: Path) -> Iterator[Faulty]:
    """A campaign of four cells that has been run."""
    faulty = Faulty(tmp_path, "cobalt", changed(CAMPAIGN, "studies/speed/repeats", 2))
    try:
        driven = faulty.run()
        assert driven.code == 0, driven.text
        yield faulty
    finally:
        faulty.close()


def check(faulty: Faulty, damages: list[tuple[Callable[[Faulty, Cell], None], int, int]]) -> None:
    """After such damages, one for each cell, the next driver submits so many jobs of it, and so many of them train."""
    for planned, (damage, _, _) in zip(faulty.cells, damages, strict=True):
        damage(faulty, planned.cell)
    driven = faulty.run()
    assert driven.code == 0, driven.text
    faulty.check(driven, damaged=faulty.names)
    assert faulty.finished() == set(faulty.names)
    assert {found.state for found in faulty.status().values()} == {FINISHED}
    seen = [(faulty.submissions()[name] - 1, faulty.starts(name) - 1) for name in faulty.names]
    assert seen == [(jobs, runs) for _, jobs, runs in damages]


def unharmed(faulty: Faulty, cell: Cell) -> None:
    """For comparison."""


def test_lost_records_are_made_anew_or_put_back_and_debris_harms_nothing(finished: Faulty) -> None:
    check(finished, [(lose_summary, 1, 0), (spoil_settings_record, 1, 1), (leave_debris, 0, 0), (unharmed, 0, 0)])


def test_summaries_that_cannot_be_read_are_made_anew_or_put_back(finished: Faulty) -> None:
    check(finished, [(cut_summary, 1, 1), (empty_summary, 1, 1), (replace_summary, 1, 0), (unharmed, 0, 0)])
