"""Why a job would run, or why a cell is marked: answered from its records and the plan."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from bnn.records.files import CELL, JOB_LOG
from bnn.records.summary import Summary
from campaign.io.locking import holder
from campaign.io.schema import did_you_mean
from campaign.io.unreadable import SAID, damaged_record
from campaign.jobs.job import Job
from campaign.jobs.train import TrainJob, read_summary
from campaign.names.cell import IDENTITY, Cell
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.run.journal import how_it_ended, last_of_scripts, told


def find_job(campaign: Campaign, layout: Layout, asked: str) -> Job:
    """The job of that name, or else the cell that `asked` names, as `find_cell`."""
    return next((job for job in campaign.jobs if job.name == asked), None) or find_cell(campaign, layout, asked)


def find_cell(campaign: Campaign, layout: Layout, asked: str) -> TrainJob:
    """The planned cell that `asked` names: its folder, its name, or identity as `key=value,key=value`.

    Raises UserError when none or several match.
    """
    by_name = {planned.cell.name: planned for planned in campaign.cells}
    if asked in by_name:
        return by_name[asked]
    if "/cells/" in asked:
        return _by_folder(campaign, layout, asked)
    if "=" in asked:
        return _by_identity(campaign, asked)
    raise UserError(f"{asked}: no cell of campaign {campaign.name} on {campaign.site.name}{_closest(asked, by_name)}")


def _closest(asked: str, names: Iterable[str]) -> str:
    hint = did_you_mean(asked, names)
    return hint if hint.startswith(",") else " (campaign plan lists them)"


def _by_folder(campaign: Campaign, layout: Layout, asked: str) -> TrainJob:
    folder = Path(asked.rstrip("/"))
    for path in (folder, *folder.parents):
        try:
            cell = Cell.from_folder(path)
        except UserError:
            continue
        for planned in campaign.cells:
            if planned.cell == cell:
                return planned
        raise UserError(f"{path}: a cell, but not one of campaign {campaign.name} on {campaign.site.name}")
    raise UserError(f"{folder}: not the folder of a cell, nor a file in one")


def _by_identity(campaign: Campaign, asked: str) -> TrainJob:
    wanted: dict[str, str] = {}
    for part in asked.replace(",", " ").split():
        key, _, value = part.partition("=")
        key = {"batch": "batch_size"}.get(key, key)
        if key not in IDENTITY:
            raise UserError(f"{asked}: {key} is no part of a cell's identity{did_you_mean(key, IDENTITY)}")
        wanted[key] = value
    found = [p for p in campaign.cells if all(str(getattr(p.cell, key)) == value for key, value in wanted.items())]
    if len(found) != 1:
        names = "".join(f" {planned.cell.name}" for planned in found[:3])
        more = f" ({len(found)} cells:{names}{' ...' if len(found) > 3 else ''}); name more of it" if found else ""
        raise UserError(f"{asked}: {'matches several cells' if found else 'matches no cell of the plan'}{more}")
    return found[0]


def why(job: Job, layout: Layout) -> list[str]:
    """The answer, line by line; the first says the state."""
    return _why_cell(job, layout) if isinstance(job, TrainJob) else _why_job(job, layout)


def _why_job(job: Job, layout: Layout) -> list[str]:
    record = job.record(layout)
    if job.is_current(layout):
        lines = ["would not run: its record is as the plan asks"]
    elif job.is_damaged(layout) or (not record.exists() and damaged_record(record)):
        lines = [f"would run: {SAID} ({damaged_record(record)})"]
    elif not record.exists():
        lines = ["would run: it has not finished so far"]
    elif job.after:
        lines = ["would run: its record is of other options or of another training"]
    else:
        lines = ["would run: its record is of other options, or of another launch"]
    for cell in job.after:
        lines.append(f"{'its cell' if len(job.after) == 1 else 'a cell of its'}: campaign why {cell.name}")
    event = last_of_scripts(layout).get(job.name)
    if event and not job.is_current(layout):
        lines.append(f"its last job: {told(event)}")
    return [*lines, f"record: {record}", f"script: {job.script(layout)}"]


def _why_cell(planned: TrainJob, layout: Layout) -> list[str]:
    summary_file = layout.summary(planned.cell)
    summary = read_summary(summary_file)
    lines = _state(planned, layout, summary)
    running = holder(layout.lock(planned.cell))
    if running:
        lines.append(f"its job is going on: {running}")
    elif summary is None:
        event = last_of_scripts(layout).get(planned.cell.name)
        if ended := how_it_ended(event, layout.folder(planned.cell)):
            lines.append(f"its last job: {ended}")
    if not layout.script(planned.cell).exists():
        lines.append(f"its script {layout.script(planned.cell)} is missing: campaign plan or the next run writes it")
    return [*lines, f"records: {layout.folder(planned.cell)}", f"script: {layout.script(planned.cell)}"]


def _state(planned: TrainJob, layout: Layout, summary: Summary | None) -> list[str]:
    file = layout.summary(planned.cell)
    if summary is None:
        if record := damaged_record(file):
            return [f"would run: {SAID} ({record})"]
        kept = read_summary(layout.finished(planned.cell))
        if kept is not None and not planned.made(kept):
            return ["would run: its records are of other settings", *_changes(planned, layout)]
        if (layout.folder(planned.cell) / JOB_LOG).exists():
            return ["would run: it was started and has not finished (no summary.json; see its job.log)"]
        return ["would run: it has never been started"]
    if summary.hash != planned.settings.fingerprint():
        return ["would run: its settings have changed", *_changes(planned, layout)]
    if summary.labels.get("launch") != planned.launch:
        launched = f"{summary.ranks} ranks then, {planned.ranks} now" if summary.ranks != planned.ranks else ""
        detail = launched or "launcher options, modules, environment variables or MPI profiler of the site"
        return [f"would run: how it is launched has changed ({detail})"]
    verdict = summary.verdict
    if not verdict.reasons:
        return [f"would not run: finished, verdict {verdict.status}"]
    return [f"would not run: finished, verdict {verdict.status} because", *(f"  {text}" for text in verdict.reasons)]


def _changes(planned: TrainJob, layout: Layout) -> list[str]:
    """Settings that differ between cell.json and the plan."""
    file = layout.folder(planned.cell) / CELL
    try:
        then: dict[str, Any] = json.loads(file.read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"  {file} cannot be read, so the change cannot be named"]
    now = planned.settings.science()
    lines = [f"  {key}: {then.get(key)!r} then, {now[key]!r} now" for key in sorted(now) if then.get(key) != now[key]]
    return lines or ["  the settings are the same under another definition of their hash"]
