"""What the summaries of an inference and of a pruning have in common, and how far both can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bnn import metrics
from bnn.commands.envelope import envelope
from bnn.inference.heldout import HeldOut
from bnn.inference.settings import HeldOutSettings
from bnn.neighbours import Neighbours
from bnn.provenance import versions
from bnn.records.inference import PosteriorFacts
from bnn.records.summary import Verdict


def held_out_summary(
    settings: HeldOutSettings,
    facts: PosteriorFacts,
    images: HeldOut,
    neighbours: Neighbours,
    *,
    members: Sequence[PosteriorFacts] = (),
    measured: str,
    spread: float | None,
    hosts: Iterable[str],
    started_at: float,
) -> dict[str, Any]:
    """The fields of `bnn.records.inference.HeldOutSummary`; `started_at` in seconds since 1970.

    `members` are the posteriors of a mixture, `facts` the first of them; there are none of a single posterior.
    `measured` is the phase that was timed; `spread` the standard deviation over draws of the true class's probability,
    None where it does not say whether the posterior is degenerate.
    """
    made = envelope(started_at)
    reasons = metrics.disturbances(neighbours.phases.get(measured), f"the {measured}", settings.foreign_limit)
    for member in members:
        found = metrics.degenerate(member.sigma_median, member.sigma_median_start, None)
        reasons += [f"{member.path}: {reason}" for reason in found]
    start = (None, None) if members else (facts.sigma_median, facts.sigma_median_start)
    reasons += metrics.degenerate(*start, spread)
    if made["git_dirty"]:
        reasons.insert(0, "the working tree had uncommitted changes")
    return {
        **made,
        "posterior": facts,
        "labels": settings.labels,
        "dataset": images.name,
        "dataset_source": images.source,
        "split": settings.split,
        "images": len(images),
        "draws": settings.draws,
        "seed": settings.seed,
        "threads": settings.threads,
        "device": settings.device,
        "versions": versions(),
        "hosts": sorted(set(hosts)),
        "neighbours": neighbours.phases,
        "verdict": Verdict(status="WARN" if reasons else "OK", reasons=reasons),
    }
