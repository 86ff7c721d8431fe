"""neighbours.parquet: what the rest of the machine did meanwhile, by rank and phase; and its worst, for summaries.

Of a run that was resumed, the last attempt is told. Null, or None, is "not measured".
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from bnn.records.columns import Column, TableSchema

NEIGHBOURS_FILE = "neighbours.parquet"

NEIGHBOURS = TableSchema(
    name="neighbours",
    version=1,
    columns=(
        Column("rank", "int32", "", "rank that read the counters"),
        Column("hostname", "string", "", "its host"),
        Column("phase", "string", "", "part of the run, in training as in MPI profiles"),
        Column("seconds", "float64", "s", "wall time of that part on this rank"),
        Column("cpus", "int32", "", "hardware threads that this rank, and ranks that share some with it, may run on"),
        Column("ranks", "int32", "", "ranks that share these CPUs, this one included"),
        Column("cpu_seconds", "float64", "s", "CPU time of this rank and all processes it has started"),
        Column(
            "foreign_seconds",
            "float64",
            "s",
            "CPU time there of others, interrupts apart; null if seconds < 0.1",
        ),
        Column("foreign_cores", "float64", "CPUs", "foreign_seconds / seconds: CPUs that other programs kept busy"),
        Column("foreign_share", "float64", "fraction", "foreign_cores / cpus"),
        Column("stolen_share", "float64", "fraction", "of these CPUs' time: the hypervisor ran something else"),
        Column("held_back_share", "float64", "fraction", "of these CPUs' time: a quota (cgroup) let nothing run"),
        Column("waited_seconds", "float64", "s", "summed over threads of this rank: ready to run, no CPU free"),
        Column("voluntary_switches", "int64", "", "context switches of this process because it waited"),
        Column("involuntary_switches", "int64", "", "context switches of this process because another took the CPU"),
        Column("major_faults", "int64", "", "pages that this process had to wait for, from a disk"),
        Column("megahertz_mean", "float64", "MHz", "frequency of the rank's CPUs, mean of the phase's start and end"),
        Column("megahertz_min", "float64", "MHz", "least of these readings"),
        Column("megahertz_max", "float64", "MHz", "greatest of these readings"),
        Column("throttles", "int64", "", "times that cores or packages of the rank were slowed down for their heat"),
        Column("pressure_cpu", "float64", "fraction", "of the time, some task of the host waited for a CPU"),
        Column("pressure_memory", "float64", "fraction", "of the time, some task of the host waited for memory"),
        Column("pressure_io", "float64", "fraction", "of the time, some task of the host waited for input or output"),
        Column("swapped_bytes", "int64", "B", "to and from swap, whole host"),
    ),
)


class PhaseLoad(BaseModel):
    """The worst of all ranks in one phase; each field is taken by itself, units as in table `neighbours`.

    `foreign_cores` and `cpus` are of the rank with the greatest `foreign_share`, `host` is where that was.
    """

    model_config = ConfigDict(extra="forbid")

    seconds: float
    host: str = ""
    cpus: int = Field(description="hardware threads that its ranks may run on")
    foreign_cores: float | None = Field(None, description="CPUs that programs other than the run's kept busy")
    foreign_share: float | None = Field(None, description="foreign_cores / cpus")
    stolen_share: float | None = None
    held_back_share: float | None = None
    involuntary_per_second: float | None = Field(None, description="involuntary context switches of a rank, 1/s")
    waited_share: float | None = Field(None, description="waited_seconds / seconds: threads that stood in line")
    major_faults: int | None = None
    megahertz_mean: float | None = Field(None, description="mean over ranks")
    megahertz_min: float | None = None
    megahertz_max: float | None = None
    throttles: int | None = None
    pressure_cpu: float | None = None
    pressure_memory: float | None = None
    pressure_io: float | None = None
    swapped_bytes: int | None = None
