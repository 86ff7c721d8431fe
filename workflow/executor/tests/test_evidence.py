"""What a job has written is told from what its file held before, whether schedulers append to it or replace it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snakemake_executor_plugin_batch_script.schedulers.evidence import TAIL, mark, tail

OLD = "attempt 1\n=>> PBS: job killed: walltime 61 exceeded limit 60\n"


def replace(file: Path, text: str) -> None:
    """Written anew, at a later time whatever the clock's resolution."""
    before = file.stat()
    file.write_text(text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "job.log"
    file.write_text(OLD)
    return file


def test_a_file_that_was_appended_to_counts_from_where_it_ended(file: Path) -> None:
    since = mark(file)
    with file.open("a") as log:
        log.write("attempt 2\n")
    assert tail(file, since) == "attempt 2\n"


@pytest.mark.parametrize("text", ["", "attempt 2\n", OLD, OLD + "attempt 2\n"])
def test_a_file_that_was_replaced_counts_as_a_whole_whatever_its_length(file: Path, text: str) -> None:
    since = mark(file)
    replace(file, text)
    assert tail(file, since, appended=False) == text


def test_a_file_that_became_shorter_was_replaced(file: Path) -> None:
    since = mark(file)
    replace(file, "attempt 2\n")
    assert tail(file, since) == "attempt 2\n"


def test_a_file_that_nobody_has_written_to_says_nothing_new(file: Path) -> None:
    assert tail(file, mark(file)) == tail(file, mark(file), appended=False) == ""
    assert tail(file) == OLD


def test_a_file_that_was_not_there_counts_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "later.log"
    since = mark(file)
    assert mark(None) == since
    assert tail(file, since) == tail(None, since) == ""
    file.write_text(OLD)
    assert tail(file, since) == OLD


def test_long_files_are_looked_at_from_their_ends(file: Path) -> None:
    file.write_text("x" * TAIL + OLD)
    since = mark(file)
    with file.open("a") as log:
        log.write("y" * TAIL + "end")
    assert tail(file, since) == "y" * (TAIL - 3) + "end"
