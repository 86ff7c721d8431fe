"""plan.json: the cells that were asked for, for everything downstream."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bnn.records.summary import Summary
from campaign.io.files import write_if_changed
from campaign.jobs import after, bench
from campaign.jobs.train import PlannedCell
from campaign.names.commands import INFER, PRUNE
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign

if TYPE_CHECKING:
    pass

SCHEMA_VERSION = 1


def plan_content(campaign: Campaign) -> dict[str, Any]:
    """The content of plan.json: site facts, studies, variants, cells with their settings, and the jobs beside them."""
    site = campaign.site
    return {
        "schema_version": SCHEMA_VERSION,
        "campaign": campaign.name,
        "accuracy_targets": list(campaign.accuracy_targets),
        "site": {
            "name": site.name,
            "title": f"{site.title or site.name} ({site.machine})" if site.machine else site.title or site.name,
            "node_label": site.node_label,
            "hardware": asdict(site.hardware),
            "scheduler": site.scheduler.kind,
            "launcher": site.launcher.kind,
            "packing": asdict(site.scheduler.packing) if site.scheduler.packing else None,
            "ranks_per_node": site.ranks_per_node,
            "threads": site.threads,
            "profiler": {"kind": site.profiler.kind, "timeline": site.profiler.timeline},
            "watts": site.watts,
            "cut for more cores": list(campaign.cut) or None,
        },
        "studies": {
            study.name: {
                "description": study.description,
                "roles": list(study.roles),
                "repeats": study.repeats,
                "target": study.target,
            }
            for study in campaign.studies.values()
        },
        "variants": {variant.name: variant.description for variant in campaign.variants.values()},
        "cells": [_entry(planned) for planned in campaign.cells],
        "bench": [bench.plan_entry(point, site.name) for point in campaign.bench],
        "infer": [after.plan_entry(job) for job in campaign.after if job.command == INFER],
        "prune": [after.plan_entry(job) for job in campaign.after if job.command == PRUNE],
    }


def _entry(planned: PlannedCell) -> dict[str, Any]:
    return asdict(planned.cell) | {
        "name": planned.cell.name,
        "folder": planned.cell.folder.as_posix(),
        "study": planned.study,
        "studies": list(planned.studies),
        "roles": list(planned.roles),
        "target": planned.target,
        "ranks": planned.ranks,
        "fingerprint": planned.settings.fingerprint(),
        "launch": planned.launch,
        "settings": planned.settings.model_dump(mode="json", exclude={"data_dir", "labels"}),
    }


def write_plan(campaign: Campaign, layout: Layout) -> bool:
    """Write plan.json when its content changed; says whether it did."""
    text = json.dumps(plan_content(campaign), indent=1, sort_keys=True) + "\n"
    return write_if_changed(layout.plan, text)


def read_summary(path: Path) -> Summary | None:
    """A cell's summary, None when there is none or it is not a summary."""
    try:
        return Summary.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def is_current(summary: Summary, planned: PlannedCell) -> bool:
    """Whether a summary tells of the settings and the launch that the plan asks for."""
    return summary.hash == planned.settings.fingerprint() and summary.labels.get("launch") == planned.launch


def tells_of(path: Path, planned: PlannedCell) -> bool:
    """Whether the file is a summary of the settings and the launch that the plan asks for."""
    summary = read_summary(path)
    return summary is not None and is_current(summary, planned)
