"""Records of a finished campaign, made up: what makes each job's record current, and no rows."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bnn.records.inference import PosteriorFacts
from bnn.records.summary import FileEntry, Verdict
from campaign.jobs.after import AfterJob
from campaign.jobs.bench import BenchJob
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from tests.support.bench import write_bench
from tests.support.cells import write_cell

SECONDS = {"cnn": 0.5, "bnn-flipout": 0.6}


def finish(campaign: Campaign, layout: Layout, sha256: str = "a" * 64) -> None:
    """Leave the record of every job; `sha256` is that of the posteriors that all cells save."""
    for planned in campaign.cells:
        saved = {"posterior/step-12/posterior.safetensors": FileEntry(bytes=1, sha256=sha256)}
        labels = planned.settings.labels
        write_cell(layout.results, planned.plan_entry(layout.site), steps=12, labels=labels, manifest=saved)
    for job in campaign.after:
        write_after(job, layout, sha256)
    for point in campaign.bench:
        write_point(point, layout)


def write_point(job: BenchJob, layout: Layout) -> None:
    """The record of one benchmark."""
    write_bench(layout.results, job.plan_entry(layout.site), SECONDS, labels={"job": job.fingerprint})


def write_after(job: AfterJob, layout: Layout, sha256: str) -> None:
    """The summary of one job after a cell, of a posterior with this checksum."""
    posterior = PosteriorFacts(**_filled(PosteriorFacts) | {"sha256": sha256})
    values = {"posterior": posterior, "verdict": Verdict(status="OK", reasons=[]), "labels": {"job": job.fingerprint}}
    if job.others:
        values["members"] = [posterior] * len(job.members)
    record = job.record(layout)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(job.SUMMARY(**_filled(job.SUMMARY) | values).model_dump_json())


def _filled(model: type[BaseModel]) -> dict[str, Any]:
    """Values for the fields that a record must have."""
    usual: dict[Any, Any] = {str: "x", int: 1, float: 0.5, list: [], dict: {}}
    kinds = {name: field.annotation for name, field in model.model_fields.items() if field.is_required()}
    return {name: usual.get(typing.get_origin(kind) or kind) for name, kind in kinds.items()}


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that a folder holds, with times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (facts.st_mtime_ns, facts.st_mode, content)
    return found
