"""The records of `bnn bench`: one row per implementation, round and step, and a header with what they were made on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bnn.records.columns import Column, TableSchema
from bnn.records.neighbours import PhaseLoad

BENCH = TableSchema(
    name="bench",
    version=2,
    oldest=1,  # where cnn-best repeats all rounds of its candidate, also those that chose it
    columns=(
        Column("benchmark", "string", "", "step (full training steps) or inference (Monte-Carlo draws)"),
        Column("model", "string", "", "name of the network"),
        Column("width", "float64", "", "factor on hidden channels; 1 is the paper's network"),
        Column("batch", "int64", "samples", "training examples per step; null for inference"),
        Column("threads", "int32", "", "threads of every worker"),
        Column(
            "implementation", "string", "", "what was measured; cnn-best repeats later rounds of its faster candidate"
        ),
        Column("resolved", "string", "", "what cnn-best or an automatic choice came to, else as implementation"),
        Column("round", "int32", "", "round of the interleaved run, from 0; ratios are taken within a round"),
        Column("position", "int32", "", "place of this implementation in the order of its round, from 0"),
        Column("step", "int32", "", "step within the round, from 0"),
        Column("seconds", "float64", "s", "wall time of the step, or of all draws together for inference"),
        Column("samples", "int64", "samples", "training examples of the step, or images x draws for inference"),
        Column("peak_memory_bytes", "int64", "B", "largest resident memory of this implementation's process so far"),
        Column(
            "seconds_noise_kl_optimizer",
            "float64",
            "s",
            "of it: update, and noise and KL as measured apart; null: unknown",
        ),
        Column("parameters_total", "int64", "parameters", "parameters, BatchNorm's running statistics included"),
        Column("draws", "int64", "draws", "Monte-Carlo draws; null for a training step"),
        Column("images", "int64", "images", "images that a draw predicts; null for a training step"),
    ),
)


class WorkerFacts(BaseModel):
    """What one implementation ran as. `notes` say what a reader must know to judge it; memory is in bytes."""

    model_config = ConfigDict(extra="forbid")

    resolved: str
    parameters_total: int
    versions: dict[str, str]
    notes: list[str] = []


class BenchHeader(BaseModel):
    """What all rows of a benchmark share. Times are seconds since 1970; `git_dirty` is None outside a checkout.

    `idle_cpu` is how much of one core the waiting workers used while another was measured (0: none), as a fraction;
    `foreign_cpu` is CPUs that everything else on the machine kept busy meanwhile, this benchmark apart (None: not
    measured), as `foreign_cores` in `neighbours`, which holds what else it did; `warnings` say what disturbed.
    `not_measured` gives the reason for each implementation that was to be measured and could not be. `peak` is the
    machine's own, as bnn.flops.peak.Peak.record has it (FLOP/s); None where it was not measured. `labels` are the
    caller's, kept as they were given; None in headers that were made before there were labels.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    benchmark: str
    command: list[str]
    labels: dict[str, Any] | None = None
    started_at: float
    stopped_at: float
    cpu_model: str
    cores: int
    memory_bytes: int
    rounds: int
    steps: int
    warmup: int
    seed: int
    idle_cpu: float
    foreign_cpu: float | None = None
    neighbours: PhaseLoad | None = None
    warnings: list[str] = []
    peak: dict[str, Any] | None = None
    git_revision: str | None
    git_dirty: bool | None
    workers: dict[str, WorkerFacts]
    not_measured: dict[str, str]


def header_path(table: Path) -> Path:
    """Where the header of a benchmark's table is kept: beside it, `.json` for `.parquet`."""
    return table.with_suffix(".json")
