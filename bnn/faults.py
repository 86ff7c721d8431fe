"""Faults on purpose, for experiments: what one rank of a training suffers. They are settings like any others."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bnn.given import Given


class Fault(Given):
    """What one rank suffers in every so many steps. What it took is recorded with each step (`seconds_injected`)."""

    rank: int = Field(ge=0, description="the rank that suffers it")
    slow: float = Field(0.0, ge=0, le=10, description="share by which its forward and backward pass take longer")
    sleep_ms: float = Field(0.0, ge=0, le=60_000, description="milliseconds that its input stands still")
    every: int = Field(1, gt=0, description="only in every so many steps (0, n, 2 n, ...)")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.slow or self.sleep_ms):
            raise PydanticCustomError("unfit", "{what}", {"what": "give slow or sleep_ms: what the rank suffers"})
        return self

    @property
    def words(self) -> str:
        """In words: `rank 1 computes 10% slower`."""
        said = [f"computes {100 * self.slow:g}% slower"] if self.slow else []
        said += [f"waits {self.sleep_ms:g} ms for its input"] if self.sleep_ms else []
        every = "" if self.every == 1 else f" in one of {self.every} steps"
        return f"rank {self.rank} {' and '.join(said)}{every}"
