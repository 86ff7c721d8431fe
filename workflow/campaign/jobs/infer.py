"""Predictions from a cell's posterior by Monte-Carlo draws: of the images as they are, and under other conditions."""

from __future__ import annotations

import json
from typing import Any

from bnn.records.inference import INFERENCE, InferenceSummary
from campaign.ask.sections import AfterSection
from campaign.jobs.after import AfterJob
from campaign.names.cell import NAME, PLACE
from campaign.names.commands import INFER


class Inference(AfterJob):
    """What both kinds share."""

    COMMAND = SECTION = INFER
    NOUN = "inference"
    SUMMARY = InferenceSummary

    @property
    def reads(self) -> list[tuple[str, dict[str, Any]]]:
        ood = self.section.ood
        return [*super().reads, *([ood.data] if ood and self.conditions.shift is None else [])]

    def _own_measures(self) -> list[Any]:
        words: list[Any] = ["--split", "test", "--mode", "exact", "--engine", "single"]
        section, under = self.section, self.conditions
        if under.shift:
            words += ["--shift", under.shift]
        if under.temperature:
            words += ["--temperature", under.temperature]
            words += ["--temperature-images", section.temperature_images] if section.temperature_images else []
            words += ["--temperature-split", section.temperature_split] if section.temperature_split else []
        if section.ood and not under.shift:  # told apart from the held-out images as they are
            words += ["--ood", section.ood.dataset]
            if section.ood.dataset_options:
                words += ["--ood-options", json.dumps(section.ood.dataset_options, sort_keys=True)]
            words += ["--ood-images", section.ood.images] if section.ood.images else []
        return words


class InferJob(Inference):
    """One inference of a cell's posterior: of the images as they are, at temperature 1."""

    RECORD = f"infer/{PLACE}/{INFERENCE}"
    LOG = f"infer/{NAME}"

    @classmethod
    def ways(cls, section: AfterSection) -> list[dict[str, Any]]:
        return [{}]


class InferConditionsJob(Inference):
    """One inference of shifted images, or at another temperature."""

    RULE = "infer_conditions"
    RECORD = f"infer/{PLACE}/{{conditions}}/{INFERENCE}"
    LOG = f"infer/{NAME}_{{conditions}}"

    @classmethod
    def ways(cls, section: AfterSection) -> list[dict[str, Any]]:
        return [{"conditions": conditions} for conditions in section.conditions() if conditions.word]


class InferEnsembleJob(Inference):
    """One inference of several repeats' posteriors, mixed in equal parts (bnn.inference.mixture)."""

    RULE = "infer_ensemble"
    RECORD = f"infer/{PLACE}/ensemble/{{conditions}}/{INFERENCE}"
    LOG = f"infer/{NAME}_{{conditions}}"

    @classmethod
    def ways(cls, section: AfterSection) -> list[dict[str, Any]]:
        return [{"conditions": conditions} for conditions in section.conditions(section.ensemble)]

    @classmethod
    def together(cls, section: AfterSection) -> int:
        return section.ensemble
