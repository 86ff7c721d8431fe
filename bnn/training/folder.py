"""A run's folder: staging, attempts, and records that appear whole."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from pydantic import TypeAdapter

from bnn.commands.output import errors_named, publish
from bnn.engine import Engine
from bnn.errors import UserError
from bnn.records import CELL, POSTERIOR, PROVENANCE, STEPS_FILE, SUMMARY, CellRecord, Evaluation, FileEntry, Summary
from bnn.records.checkpoint import MARKER, read_marker
from bnn.records.files import CHECKPOINT, HEARTBEAT, MPI, PARTIAL, heartbeat_name, staging, write_text
from bnn.records.neighbours import NEIGHBOURS_FILE
from bnn.records.reading import read_record
from bnn.regular import file_sha256
from bnn.settings import TrainSettings

EVALUATIONS = "evaluations.json"
# In the order in which they are renamed into place: the summary says that the rest is there, so it comes last.
RECORDS = (CELL, STEPS_FILE, PROVENANCE, NEIGHBOURS_FILE, POSTERIOR)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class RunFolder:
    """Folder of one run on one rank. Only rank 0 writes records; the others wait for it."""

    def __init__(self, out: Path, attempt: int) -> None:
        self.out = out
        self.attempt = attempt
        self.staging = out / staging(attempt)

    def keep_evaluations(self, evaluations: list[Evaluation]) -> None:
        """Keep held-out metrics beside a checkpoint, so that a resumed run still has them."""
        folder = self.out / CHECKPOINT
        folder.mkdir(exist_ok=True)
        write_text(folder / EVALUATIONS, json.dumps([e.model_dump() for e in evaluations]))

    def evaluations(self, first_step: int) -> list[Evaluation]:
        """Held-out metrics up to `first_step` that an earlier attempt kept."""
        if first_step == 0:
            return []
        return [e for e in kept_evaluations(self.out / CHECKPOINT) if e.step <= first_step]

    def write_cell(self, settings: TrainSettings) -> None:
        record = CellRecord(settings=settings, hash=settings.fingerprint())
        write_text(self.staging / CELL, record.model_dump_json(indent=2))

    def manifest(self) -> dict[str, FileEntry]:
        """Size and SHA-256 of every staged file but the summary, by path relative to the folder."""
        entries = {}
        for path in sorted(p for p in self.staging.rglob("*") if p.is_file() and p.name != SUMMARY):
            entry = FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)
            entries[path.relative_to(self.staging).as_posix()] = entry
        return entries

    def publish(self) -> None:
        """Rename the staged records into place, the summary last, and remove what only an unfinished run needs."""
        publish(self.staging, self.out, [name for name in (*RECORDS, SUMMARY) if (self.staging / name).exists()])
        for leftover in (*self.out.glob(f"{PARTIAL}*"), self.out / CHECKPOINT):
            shutil.rmtree(leftover, ignore_errors=True)
            with contextlib.suppress(OSError):
                leftover.unlink()


def kept_evaluations(folder: Path) -> list[Evaluation]:
    """What was kept beside the checkpoints in this folder. Raises ValidationError when the file is damaged."""
    path = folder / EVALUATIONS
    return TypeAdapter(list[Evaluation]).validate_json(path.read_bytes()) if path.exists() else []


def open_folder(out: Path, fingerprint: str, engine: Engine) -> RunFolder:
    """Make the folder ready for a new attempt; what an earlier run with other settings left there is removed.

    Raises UserError when the folder cannot be written.
    """
    attempt = 1
    if engine.rank == 0:
        with errors_named(out):
            out.mkdir(parents=True, exist_ok=True)
            refuse_foreign(out)
            for name in (SUMMARY, MPI, *reversed(RECORDS)):
                _remove(out / name)
            if not _same_settings(out / CHECKPOINT, fingerprint):
                shutil.rmtree(out / CHECKPOINT, ignore_errors=True)
            attempt = 1 + max(_earlier(out), default=0)
            (out / staging(attempt)).mkdir()
            ranks = {heartbeat_name(rank) for rank in range(engine.size)}
            for path in (out / HEARTBEAT).glob("*"):  # of an earlier launch on more ranks
                if path.name not in ranks:
                    path.unlink()
    attempt = engine.gather(attempt, "attempt")[0]
    return RunFolder(out, attempt)


def refuse_foreign(out: Path) -> None:
    """Raise UserError where a new run's records would take the place of files that are of no run."""
    begun = (out / HEARTBEAT).is_dir() or any(out.glob(f"{PARTIAL}*"))
    is_ours = begun or read_record(out / CELL, CellRecord) or read_record(out / SUMMARY, Summary)
    if not is_ours and (there := [name for name in (*RECORDS, SUMMARY) if (out / name).exists()]):
        raise UserError(f"{out}: has {there[0]}, which is of no run, and would be lost: name another folder by --out")


def _earlier(out: Path) -> list[int]:
    """Numbers of the attempts that left a staging folder; a folder whose name ends in no number is removed."""
    numbers = []
    for path in sorted(out.glob(f"{PARTIAL}*")):
        number = path.name.removeprefix(PARTIAL)
        if number.isdecimal():
            numbers.append(int(number))
        else:
            _remove(path)
            print(f"{path}: of no attempt, removed", flush=True)
    return numbers


def _same_settings(folder: Path, fingerprint: str) -> bool:
    """Whether a checkpoint folder belongs to a run with this fingerprint."""
    markers = [read_marker(path.parent) for path in folder.glob(f"step-*/{MARKER}")]
    return all(marker.hash == fingerprint for marker in markers if marker)
