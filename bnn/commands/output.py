"""The folder that a command leaves: its records appear whole, and what an interrupted command left is cleared away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bnn.errors import UserError
from bnn.records.files import CELL, GRAPH_FILE, JOB_LABEL, PARTIAL
from bnn.records.inference import InferenceSummary
from bnn.records.pruning import PruningSummary
from bnn.records.reading import read_record

Record = TypeVar("Record", InferenceSummary, PruningSummary)


@contextmanager
def errors_named(out: Path | str) -> Iterator[None]:
    """An OSError within becomes a UserError that names `out`: a path, or an option with one."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out}: {error.strerror or 'cannot be written'}") from None


def made_before(record: Path, schema: type[Record], labels: Mapping[str, Any], sha256: str) -> Record | None:
    """The record that is there, if it says by its label `job` that it is of this very job, and is of this posterior.

    Then nothing is left to do: a job that is started once more, by hand or after it was ended too late, keeps what it
    has made. None without such a label: who starts a command by hand wants it to run.
    """
    job = labels.get(JOB_LABEL)
    made = read_record(record, schema) if job is not None else None
    return made if made and made.labels.get(JOB_LABEL) == job and made.posterior.sha256 == sha256 else None


def make_ready(out: Path, records: Sequence[str], work: Path, results: Iterable[Path] = ()) -> None:
    """Make `out` ready for new `records`: those of an earlier run go, and `work`, what goes on from before, is kept.

    The last of `records` says that all others are there, so it goes first. With them go the folders `results`, what
    was staged and never published, and work of other settings beside `work`. Raises OSError, and UserError for the
    folder of a run or of a posterior, whose records these would be among.
    """
    for name in (CELL, GRAPH_FILE):
        if (out / name).exists():
            raise UserError(f"{out}: has {name}, and is the folder of something else: name another one by --out")
    out.mkdir(parents=True, exist_ok=True)
    for name in reversed(records):
        (out / name).unlink(missing_ok=True)
    for old in (*out.glob(f"{PARTIAL}*"), *results, *work.parent.glob("*")):
        if old != work:
            shutil.rmtree(old, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)


@contextmanager
def staged(out: Path, records: Sequence[str]) -> Iterator[Path]:
    """Gives a folder in which to write `records`, which are then published in `out`; it goes in any case.

    Raises OSError.
    """
    staging = out / f"{PARTIAL}{os.getpid()}"
    staging.mkdir()
    try:
        yield staging
        publish(staging, out, records)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, out: Path, records: Iterable[str]) -> None:
    """Rename records into place in their order: the last one says that all others are there. Raises OSError."""
    for name in records:
        os.replace(staging / name, out / name)
