"""Faults of records: hashes of what they list, settings, posteriors of the jobs after cells, data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bnn.errors import UserError, first_problem
from bnn.records import CELL, POSTERIOR, SUMMARY, CellRecord, Summary
from bnn.records.inference import InferenceSummary
from bnn.records.pruning import PruningSummary
from bnn.regular import file_sha256
from bnn.settings import parse_settings
from campaign.jobs.after import is_of
from campaign.jobs.kinds import AFTER
from campaign.names.layout import Layout


def plan_faults(layout: Layout, plan: Mapping[str, Any]) -> Iterator[str]:
    """Cells whose fingerprint in the plan is not that of their settings."""
    for number, entry in enumerate(plan["cells"]):
        origin = f"{layout.plan}: cells[{number}]"
        try:
            made = parse_settings(entry["settings"], origin).fingerprint()
        except UserError as error:
            yield str(error)
            continue
        if made != entry["fingerprint"]:
            yield f"{origin}.fingerprint: {entry['fingerprint']}, that of its settings is {made}"


def record_faults(layout: Layout, posteriors: bool = True) -> Iterator[str]:
    """Of every finished cell, files that its summary lists and that are not as it says; then of the jobs after it.

    `posteriors`: whether those have to be there, which a crate leaves out.
    """
    cells = layout.root / "cells"
    for path in sorted(cells.rglob(SUMMARY)) if cells.is_dir() else ():
        yield from cell_faults(path, posteriors)
    for (command, name), model in {(kind.COMMAND, Path(kind.RECORD).name): kind.SUMMARY for kind in AFTER}.items():
        folder = layout.root / command
        for path in sorted(folder.rglob(name)) if folder.is_dir() else ():
            yield from _after_faults(layout, path, model, command)


def cell_faults(path: Path, posteriors: bool = True) -> Iterator[str]:
    """Of one summary.json: its manifest, and the settings beside it."""
    summary = read_record(path, Summary)
    if isinstance(summary, str):
        yield summary
        return
    listed = {
        name: (entry.sha256, entry.bytes)
        for name, entry in summary.manifest.items()
        if posteriors or not name.startswith(f"{POSTERIOR}/")
    }
    yield from manifest_faults(path.parent, listed)
    beside = path.with_name(CELL)
    cell = read_record(beside, CellRecord)
    if isinstance(cell, str):
        yield cell
    elif {cell.hash, cell.settings.fingerprint()} != {summary.hash}:
        yield f"{beside}: hash {cell.hash}, {path.name} has {summary.hash}, the settings {cell.settings.fingerprint()}"


def manifest_faults(folder: Path, listed: Mapping[str, tuple[str, int]]) -> Iterator[str]:
    """Files below `folder` that are not as listed: (sha256, bytes) by their path relative to it."""
    for name, (digest, size) in listed.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            yield f"{path}: listed, but not within {folder}"
            continue
        try:
            if (found := path.stat().st_size) != size:
                yield f"{path}: {found} bytes, {size} are recorded"
            elif (made := file_sha256(path)) != digest:
                yield f"{path}: sha256 {made[:12]}, {digest[:12]} is recorded"
        except OSError as error:
            yield f"{path}: recorded, but: {error.strerror}"
        except UserError as error:
            yield str(error)


def read_record(path: Path, model: type[BaseModel]) -> Any:
    """The record, or a line on why it is none."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        return f"{path}: {error.strerror}"
    except ValidationError as error:
        where, what = first_problem(error)
        return f"{path}: {where or 'content'}: {what}"


def _after_faults(
    layout: Layout, path: Path, model: type[InferenceSummary] | type[PruningSummary], command: str
) -> Iterator[str]:
    """Of one record of a job after a cell, or several repeats: what it is of has to be what these saved."""
    made = read_record(path, model)
    if isinstance(made, str):
        yield made
        return
    below = path.parent.relative_to(layout.root / command).parts
    repeats = [number for number, part in enumerate(below) if part.startswith("repeat=") and part[7:].isdigit()]
    if not repeats:
        return
    point = layout.root / "cells" / Path(*below[: repeats[0]])
    first, members = below[repeats[0]].removeprefix("repeat="), getattr(made, "members", [])
    files = [point / f"repeat={int(first) + number}" / SUMMARY for number in range(max(1, len(members)))]
    summaries = [read_record(of, Summary) for of in files if of.exists()]
    known = [summary for summary in summaries if isinstance(summary, Summary)]
    if len(known) == len(files) and not is_of(made, known):
        digests = " and ".join(facts.sha256[:12] for facts in members or [made.posterior])
        yield f"{path}: of a posterior with sha256 {digests}, which {' and '.join(map(str, files))} does not list"


def data_faults(layout: Layout, plan: Mapping[str, Any]) -> Iterator[str]:
    """Records of data sets whose checksum is another than the one that the plan asks for."""
    asked = {
        (entry["settings"].get("dataset"), options["checksum"])
        for entry in plan["cells"]
        if isinstance(options := entry["settings"].get("dataset_options"), dict) and "checksum" in options
    }
    for path in sorted((layout.root / "data").glob("*.json")):
        try:
            record = json.loads(path.read_text())
            name, found = record["dataset"], record["checksum"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield f"{path}: no record of a data set ({type(error).__name__}: {error})"
            continue
        wanted = sorted(checksum for dataset, checksum in asked if dataset == name)
        if wanted and found not in wanted:
            yield f"{path}: checksum {found}, the plan asks for {' or '.join(wanted)}"
