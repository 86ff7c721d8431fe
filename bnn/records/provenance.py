"""provenance.json: where and with what each rank ran."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RankProvenance(BaseModel):
    """One rank. Times are seconds since 1970, memory is in bytes."""

    model_config = ConfigDict(extra="forbid")

    rank: int
    local_rank: int
    hostname: str
    pid: int
    cpu_model: str
    cores: int
    affinity: list[int]
    threads: int
    memory_bytes: int
    gpu: str | None
    python: str
    platform: str
    versions: dict[str, str]
    mpi_library: str | None
    environment: dict[str, str]
    modules: list[str]
    started_at: float
    stopped_at: float


class Provenance(BaseModel):
    """All ranks, and what they share. `git_dirty` is None where the code is not a git checkout."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    command: list[str]
    git_revision: str | None
    git_dirty: bool | None
    ranks: list[RankProvenance]

    def mixed_hardware(self) -> list[str]:
        """CPU and GPU models when the ranks do not all have the same ones; empty otherwise."""
        kinds = {f"{r.cpu_model} x{r.cores}" + (f" + {r.gpu}" if r.gpu else "") for r in self.ranks}
        return sorted(kinds) if len(kinds) > 1 else []
