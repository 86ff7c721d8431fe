"""Predictions from a cell's posterior by Monte-Carlo draws."""

from __future__ import annotations

from typing import Any

from bnn.records.inference import INFERENCE, InferenceSummary
from campaign.jobs.after import AfterJob
from campaign.names.cell import NAME, PLACE
from campaign.names.commands import INFER


class InferJob(AfterJob):
    """One inference of a cell's posterior."""

    COMMAND = SECTION = INFER
    NOUN = "inference"
    RECORD = f"infer/{PLACE}/{INFERENCE}"
    LOG = f"infer/{NAME}"
    SUMMARY = InferenceSummary

    def _own_measures(self) -> list[Any]:
        return ["--split", "test", "--mode", "exact", "--engine", "single"]
