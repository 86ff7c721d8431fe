"""Which checkpoint a run goes on from: the newest that every rank can read. One that some rank cannot is set aside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from bnn.engine import Engine
from bnn.errors import UserError
from bnn.records import STEPS, read_table
from bnn.records.checkpoint import MARKER, CheckpointMarker, read_marker
from bnn.records.files import CHECKPOINT
from bnn.training.folder import kept_evaluations


def find_checkpoint(out: Path, fingerprint: str, engine: Engine) -> tuple[int, str] | None:
    """Step of the newest readable checkpoint of the same settings and the baseline it ran; None when there is none.

    Every rank calls it and gets the same answer. Raises UserError when the checkpoint was written by another number of
    ranks: its noise and shards would not be continued.
    """
    while True:
        # rank 0 looks: on a network file system others may still see what it has just renamed
        mine = _newest(out, fingerprint, engine.size) if engine.rank == 0 else None
        found = engine.gather(mine.model_dump() if mine else None, "checkpoint")[0]
        if found is None:
            return None
        marker = CheckpointMarker(**found)
        folder = out / CHECKPOINT / f"step-{marker.step}"
        problems = engine.gather(_problem(folder, engine.rank), "readable")
        known = [problem for problem in problems if problem]
        if not known:
            return marker.step, marker.baseline
        if engine.rank == 0:
            _set_aside(folder, known[0])


def _newest(out: Path, fingerprint: str, ranks: int) -> CheckpointMarker | None:
    found = []
    for path in sorted((out / CHECKPOINT).glob(f"step-*/{MARKER}")):
        marker = read_marker(path.parent)
        if marker is None or path.parent.name != f"step-{marker.step}":
            _set_aside(path.parent, f"{MARKER} is not one")
        elif marker.hash == fingerprint:
            if marker.ranks != ranks:
                raise UserError(
                    f"{path.parent}: written by {marker.ranks} ranks, cannot be resumed by {ranks}: "
                    f"use {marker.ranks} ranks, or delete {out / CHECKPOINT} to start again"
                )
            found.append(marker)
    return max(found, key=lambda marker: marker.step, default=None)


def _problem(folder: Path, rank: int) -> str:
    """What this rank cannot read of a checkpoint, empty if it can read all that it needs. Loads no tensor."""
    for name in ("shared.safetensors", f"rank-{rank}.safetensors"):
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except (SafetensorError, FileNotFoundError) as error:
            return f"{name}: {error}"
    try:
        read_table(folder / f"rank-{rank}.parquet", STEPS)
        if rank == 0:
            kept_evaluations(folder.parent)
    except UserError as error:
        return str(error).removeprefix(f"{folder}/")
    except ValidationError:
        return "evaluations.json is damaged"
    return ""


def _set_aside(folder: Path, problem: str) -> None:
    """Rename a checkpoint, so that it is not tried again; the next one that is complete removes it for good."""
    aside = folder.with_name(f"unreadable-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    line = " ".join(problem.split())
    print(f"checkpoint {folder} cannot be read ({line}): set aside as {aside.name}", flush=True)
