"""How long a campaign's finished jobs took, by what they do: from their records, start-up included."""

from __future__ import annotations

from campaign.jobs.kinds import KINDS
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign

WORDS = {kind.COMMAND: kind.NOUN for kind in KINDS}


def spent(campaign: Campaign, layout: Layout) -> dict[str, list[float]]:
    """Seconds of each finished job by its command; of a cell that was resumed, those of its last attempt."""
    found: dict[str, list[float]] = {command: [] for command in WORDS}
    for job in campaign.jobs:
        if (seconds := job.seconds(layout)) is not None:
            found[job.command].append(seconds)
    return found


def spent_line(found: dict[str, list[float]]) -> str:
    """In words: `finished jobs took: training 18.2 min (73), pruning 4.1 min (12)`; empty where none has finished."""
    words = [f"{WORDS[key]} {sum(times) / 60:.1f} min ({len(times)})" for key, times in found.items() if times]
    return f"finished jobs took: {', '.join(words)}" if words else ""
