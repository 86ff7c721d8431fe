"""The records of `bnn bench replay`: replayed, never measured. One row per step and rank, and a header."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from bnn.records.columns import Column, TableSchema

REPLAY = TableSchema(
    name="replay",
    version=1,
    columns=(
        Column("step", "int64", "", "replayed step, from 0"),
        Column("phase", "string", "", "warmup or steady"),
        Column("rank", "int32", "", "replaying rank"),
        Column("ranks", "int32", "", "ranks of the replay"),
        Column("recorded_rank", "int32", "", "rank of the cell whose computing it slept for"),
        Column("recorded_step", "int64", "", "step of the cell that it slept for"),
        Column("started_at", "float64", "s", "start of the step, seconds since 1970"),
        Column("ended_at", "float64", "s", "its end, seconds since 1970"),
        Column("seconds", "float64", "s", "wall time of the replayed step, to the start of the next"),
        Column("seconds_asked", "float64", "s", "what the recorded rank computed in that step, which was to be slept"),
        Column("seconds_data", "float64", "s", "slept for the input"),
        Column("seconds_forward", "float64", "s", "slept for the forward pass"),
        Column("seconds_backward", "float64", "s", "slept for the backward pass, while messages went on"),
        Column("seconds_exchange", "float64", "s", "waiting for averages afterwards"),
        Column("seconds_late", "float64", "s", "of waiting: until the last rank was there; null: not measured"),
        Column("seconds_reduction", "float64", "s", "of waiting: from then on; null: not measured"),
        Column("seconds_negotiation", "float64", "s", "of the reduction: ranks agreed on it; null: not measured"),
        Column("seconds_transfer", "float64", "s", "of the reduction: messages travelled; null: not measured"),
        Column("seconds_hidden", "float64", "s", "messages travelled before the rank waited; null: not measured"),
        Column("late_rank", "int32", "", "rank that was there last; null: not measured"),
        Column("seconds_optimizer", "float64", "s", "slept for the update"),
        Column("seconds_between", "float64", "s", "slept for what lies between steps"),
    ),
)


class ReplayHeader(BaseModel):
    """What was replayed, on what, and what came of it. Seconds are wall time; times are seconds since 1970.

    `step_seconds` [value, low, high] is the median of the slowest rank's steady steps with its 95% interval,
    `cell_step_seconds` the cell's own; `overhead` their ratio with its interval where the replay had the cell's ranks,
    else None. `slept_beyond_seconds`: median by which a step's computing took longer than asked. `hosts` by rank.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    cell: str
    cell_hash: str
    cell_ranks: int
    model: str
    kind: str
    batch_size: int
    engine: str
    cycle_time_ms: float
    fusion_buffer_mb: float
    block_bytes: list[int]
    block_full_shares: list[float]
    ranks: int
    hosts: list[str]
    cpu_model: str
    cores: int
    steps: int
    warmup: int
    step_seconds: list[float]
    samples_per_second: float
    cell_step_seconds: list[float]
    overhead: list[float] | None
    slept_beyond_seconds: float
    clock_error_seconds: float | None
    command: list[str]
    started_at: float
    stopped_at: float
    git_revision: str | None
    git_dirty: bool | None
