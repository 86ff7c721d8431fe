"""Pruning of a cell's posterior, level by level: one job per sweep."""

from __future__ import annotations

from typing import Any

from bnn.records.pruning import PRUNING_SUMMARY, PruningSummary
from campaign.ask.sections import AfterSection
from campaign.jobs.after import AfterJob
from campaign.names.cell import NAME, PLACE
from campaign.names.commands import PRUNE


class PruneJob(AfterJob):
    """One pruning sweep of a cell's posterior."""

    COMMAND = SECTION = PRUNE
    NOUN = "pruning"
    RECORD = f"prune/{PLACE}/{{sweep}}/{PRUNING_SUMMARY}"
    LOG = f"prune/{NAME}_{{sweep}}"
    SUMMARY = PruningSummary

    @classmethod
    def ways(cls, section: AfterSection) -> list[dict[str, Any]]:
        return [{"sweep": sweep} for sweep in section.sweeps]

    def _own_measures(self) -> list[Any]:
        assert self.sweep is not None, "a section prune has sweeps"
        percent = ",".join(f"{value:g}" for value in self.section.percent)
        sweep = self.sweep
        return ["--percent", percent, "--semantics", sweep.semantics, "--scope", sweep.scope, "--by", sweep.by]
