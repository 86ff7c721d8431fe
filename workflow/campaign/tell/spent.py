"""How long a campaign's finished jobs took, by what they do: from their records, start-up included."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from bnn.records.inference import InferenceSummary
from bnn.records.pruning import PruningSummary
from campaign.jobs.after import RECORDS, tells_of
from campaign.names.commands import INFER, PRUNE, TRAIN
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.plan.content import is_current, read_summary

WORDS = {TRAIN: "training", INFER: "inference", PRUNE: "pruning"}


def spent(campaign: Campaign, layout: Layout) -> dict[str, list[float]]:
    """Seconds of each finished job by its command; of a cell that was resumed, those of its last attempt."""
    found: dict[str, list[float]] = {command: [] for command in WORDS}
    for planned in campaign.cells:
        summary = read_summary(layout.summary(planned.cell))
        if summary is not None and is_current(summary, planned):
            found[TRAIN].append(summary.seconds_total)
    for job in campaign.after:
        model: type[BaseModel] = RECORDS[job.command]
        try:
            record = model.model_validate_json(job.record(layout).read_bytes())
        except (OSError, ValidationError):
            continue
        assert isinstance(record, InferenceSummary | PruningSummary)
        if tells_of(record, job.fingerprint):
            found[job.command].append(record.stopped_at - record.started_at)
    return found


def spent_line(found: dict[str, list[float]]) -> str:
    """In words: `finished jobs took: training 18.2 min (73), pruning 4.1 min (12)`; empty where none has finished."""
    words = [f"{WORDS[key]} {sum(times) / 60:.1f} min ({len(times)})" for key, times in found.items() if times]
    return f"finished jobs took: {', '.join(words)}" if words else ""
