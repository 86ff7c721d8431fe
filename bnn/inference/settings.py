"""The settings of `bnn infer`, and what `bnn prune` shares with them, validated in one place."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bnn.given import Given
from bnn.inference.severities import KINDS, Shift
from bnn.settings import FOREIGN_LIMIT, MOST_DRAWS, MOST_THREADS

FIT = "fit"  # the temperature that suits some images best (bnn.inference.temperature)
MODES = ("exact", "flipout", "local-reparameterization")  # how weights are sampled (bnn.inference.predictor)


class HeldOutSettings(Given):
    """What both commands share: which posterior, which images, how many draws, and on what."""

    posterior: Path = Field(description="folder of a posterior, or of a cell that has one")
    step: int | None = Field(None, ge=0, description="training step of the posterior (default: the newest)")
    dataset: str = Field(description="data set whose images are predicted")
    dataset_options: dict[str, Any] = Field(default_factory=dict, description="options of the data set, as JSON")
    data_dir: Path | None = Field(None, description="folder of the data sets")
    split: Literal["test", "train"] = Field("test", description="which images")
    images: int | None = Field(None, ge=1, description="predict N images, evenly spread over the split")
    draws: int = Field(100, ge=1, le=MOST_DRAWS, description="Monte-Carlo draws S")
    seed: int = Field(1, ge=0, lt=2**63, description="of the draws' noise")
    threads: int = Field(1, ge=1, le=MOST_THREADS, description="threads per rank")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where to compute")
    foreign_limit: float = Field(
        FOREIGN_LIMIT, gt=0, description="share of its CPUs' time that others may take before the verdict is WARN"
    )
    labels: dict[str, Any] = Field(default_factory=dict, description="kept in the summary, as JSON")


class InferSettings(HeldOutSettings):
    """Settings of `bnn infer`."""

    others: tuple[Path, ...] = Field((), description="further posteriors, to be mixed with the first in equal parts")
    draws: int = Field(
        100,
        ge=1,
        le=MOST_DRAWS,
        description="Monte-Carlo draws S of all posteriors together; without Bayesian layers, one of each",
    )
    shift: str | None = Field(
        None, description=f"change the images: KIND:SEVERITY, severity 1 to 5, kind one of {', '.join(KINDS)}"
    )
    ood: str | None = Field(None, description="another data set: does the uncertainty tell its images from these?")
    ood_options: dict[str, Any] = Field(default_factory=dict, description="options of that data set, as JSON")
    ood_images: int | None = Field(
        None, ge=1, description="N images of it, evenly spread over the split (default: all)"
    )
    temperature: str | None = Field(
        None, description="divide all logits by this number, or by the one that fits some images best: fit"
    )
    temperature_images: int | None = Field(
        None, ge=1, description="fit on N images, evenly spread over the split (default: 1000, or all if fewer)"
    )
    temperature_split: Literal["train", "test"] | None = Field(
        None, description="fit on images of this split; of test those that are not predicted [default: train]"
    )
    mode: str = Field("exact", description="how weights are sampled: exact, flipout or local-reparameterization")
    engine: Literal["single", "horovod", "torch"] = Field("single", description="what divides the draws over ranks")
    draws_at_once: int | None = Field(None, ge=1, description="draws per chunk (default: what 64 MiB hold)")
    cycle_time_ms: float = Field(1.0, gt=0, description="Horovod's cycle time")
    fusion_buffer_mb: float = Field(64.0, ge=0, description="Horovod's fusion buffer")

    @field_validator("shift")
    @classmethod
    def _is_a_shift(cls, value: str | None) -> str | None:
        return None if value is None else str(Shift.parse(value))

    @field_validator("temperature")
    @classmethod
    def _is_a_temperature(cls, value: str | None) -> str | None:
        if value is None or value == FIT:
            return value
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise ValueError(f"{value!r} is neither {FIT} nor a number above 0")
        return repr(number)

    @model_validator(mode="after")
    def _fits_a_temperature(self) -> Self:
        for name in ("images", "split"):
            if getattr(self, f"temperature_{name}") is not None and self.temperature != FIT:
                raise ValueError(f"--temperature-{name}: there is no --temperature {FIT} that it is of")
        return self

    @model_validator(mode="after")
    def _tells_the_other_data_set(self) -> Self:
        if self.ood is None and (self.ood_options or self.ood_images is not None):
            raise ValueError(f"--ood-{'options' if self.ood_options else 'images'}: there is no --ood that it is of")
        return self

    def ood_fingerprint(self, chunk: int) -> str:
        """Names the work on the other data set's images, within that of `fingerprint`."""
        facts = [self.ood, self.ood_options, self.ood_images, chunk]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def fingerprint(self, posterior: str, chunk: int, temperature: float = 1.0) -> str:
        """Names the work that chunks of an interrupted run belong to; `posterior` is its tensors' SHA-256,

        those of several with commas between them; `temperature` is the one that was given or found.
        """
        work = self.model_dump(
            mode="json", include={"dataset", "dataset_options", "split", "images", "draws", "seed", "mode", "device"}
        )
        if self.shift is not None:  # (told only where there is one: chunks of before are still those of their settings)
            work["shift"] = self.shift
        if temperature != 1:
            work["temperature"] = temperature
        return hashlib.sha256(json.dumps([work, posterior, chunk], sort_keys=True).encode()).hexdigest()[:16]
