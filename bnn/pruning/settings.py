"""The settings of `bnn prune`."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bnn.inference.settings import HeldOutSettings

DEFAULT_THRESHOLD = 10.0  # BPrune's

Percent = Annotated[float, Field(ge=0, lt=100)]
Semantics = Literal["zero", "bprune", "mean-only"]
Scope = Literal["global", "layer"]
By = Literal["weight", "unit"]


class PruneSettings(HeldOutSettings):
    """One level per percentage, or a single one by a threshold on the SNR."""

    percent: tuple[Percent, ...] | None = Field(
        None, description="shares of kernel weights to remove, in percent: 0,50,90"
    )
    threshold: float | None = Field(
        None, ge=0, description=f"remove what has a lower SNR [default, without --percent: {DEFAULT_THRESHOLD}]"
    )
    semantics: Semantics = Field(
        "zero", description="of a pruned weight: zero (mean and sigma), bprune (as published), mean-only"
    )
    scope: Scope = Field(
        "global", description="one threshold for all layers (global), or the same share of each (layer)"
    )
    by: By = Field("weight", description="remove single weights (weight) or whole channels and neurons (unit)")

    @model_validator(mode="after")
    def fit_together(self) -> Self:
        if self.percent is not None and self.threshold is not None:
            raise ValueError("percent and threshold: give one of them")
        if self.percent is not None and not self.percent:
            raise ValueError("percent: no level")
        if self.by == "unit" and self.semantics != "zero":
            raise ValueError(f"semantics {self.semantics}: a removed unit's weights are zero; use --semantics zero")
        return self

    @property
    def levels(self) -> list[tuple[float | None, float | None]]:
        """(percent, threshold) of every level; one of the two is None."""
        if self.percent is not None:
            return [(percent, None) for percent in self.percent]
        return [(None, DEFAULT_THRESHOLD if self.threshold is None else self.threshold)]

    def fingerprint(self, posterior: str) -> str:
        """Names the work that levels of an interrupted sweep belong to; `posterior` is its tensors' SHA-256."""
        work = self.model_dump(mode="json", exclude={"posterior", "data_dir", "labels", "step", "foreign_limit"})
        return hashlib.sha256(json.dumps([work, posterior], sort_keys=True).encode()).hexdigest()[:16]
