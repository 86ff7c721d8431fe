"""plan.json: the jobs that were asked for, for everything downstream."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from campaign.io.files import write_if_changed
from campaign.jobs.kinds import KINDS
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign

SCHEMA_VERSION = 1


def plan_content(campaign: Campaign) -> dict[str, Any]:
    """The content of plan.json: site facts, studies, variants, and the jobs of each kind."""
    site = campaign.site
    jobs: dict[str, list[dict[str, Any]]] = {kind.SECTION: [] for kind in KINDS}
    for job in campaign.jobs:
        jobs[job.SECTION].append(job.plan_entry(site.name))
    return {
        "schema_version": SCHEMA_VERSION,
        "campaign": campaign.name,
        "accuracy_targets": list(campaign.accuracy_targets),
        "nll_target": campaign.nll_target,
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
            "other data sets": list(campaign.replaced.values()) or None,
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
        "projection": asdict(site.projection) if site.projection else {},
        "tuning": {name: tuning.content for name, tuning in campaign.tuning.items()},
        "variants": {variant.name: variant.description for variant in campaign.variants.values()},
        **jobs,
    }


def plan_text(campaign: Campaign) -> str:
    """plan.json as it is written."""
    return json.dumps(plan_content(campaign), indent=1, sort_keys=True) + "\n"


def plan_digest(campaign: Campaign) -> str:
    """Of all that plan.json says: another one is another plan."""
    return hashlib.sha256(plan_text(campaign).encode()).hexdigest()[:16]


def write_plan(campaign: Campaign, layout: Layout) -> bool:
    """Write plan.json when its content changed; says whether it did."""
    return write_if_changed(layout.plan, plan_text(campaign))
