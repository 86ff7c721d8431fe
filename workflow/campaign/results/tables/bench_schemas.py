"""The tables made from benchmarks: every column with its unit and its meaning."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema

POINT = (
    Column("benchmark", "string", "", "name of the benchmark within the site"),
    Column("model", "string", "", "network"),
    Column("batch", "int64", "samples", "training examples per step"),
    Column("threads", "int64", "", "threads of every implementation"),
)
# The conventional networks that ratios are taken to, and the peers, by their columns' ends.
BASES = {"cnn-plain": "cnn_plain", "cnn": "cnn", "cnn-best": "cnn_best"}
PEER_COLUMNS = {"bayesian-torch": "bayesian_torch", "tfp": "tfp"}


def _interval(name: str, unit: str, meaning: str) -> tuple[Column, Column, Column]:
    return (
        Column(name, "float64", unit, meaning),
        Column(f"{name}_low", "float64", unit, f"lower end of its 95% interval over rounds: {name}"),
        Column(f"{name}_high", "float64", unit, f"upper end of its 95% interval over rounds: {name}"),
    )


BENCH_RUNS = TableSchema(
    name="bench_runs",
    version=2,
    columns=(
        *POINT,
        Column("state", "string", "", "measured, or why there is no record of it"),
        Column("rounds", "int64", "", "interleaved rounds; ratios are taken within one"),
        Column("steps", "int64", "steps", "measured steps of an implementation per round"),
        Column("warmup", "int64", "steps", "steps of an implementation before the first round"),
        Column("seed", "int64", "", "seed of inputs, initial values and order"),
        Column("cpu_model", "string", "", "processor"),
        Column("cores", "int64", "", "cores of the host"),
        Column("memory_bytes", "int64", "B", "memory of the host"),
        Column("versions", "string", "", "versions of libraries by implementation, JSON"),
        Column("command", "string", "", "command line"),
        Column("git_revision", "string", "", "revision of the code that ran"),
        Column("git_dirty", "bool", "", "whether that code had uncommitted changes"),
        Column("started_at", "float64", "s", "start, seconds since 1970"),
        Column("stopped_at", "float64", "s", "stop, seconds since 1970"),
        Column("idle_cpu", "float64", "fraction", "of one core: used by those that waited for their turn"),
        Column("foreign_cpu", "float64", "CPUs", "kept busy by other programs in the measured turns; empty: unknown"),
        Column("warnings", "string", "", "what disturbed the measured turns, separated by '; '"),
        Column("noise_floor", "float64", "fraction", "how far from 1 a ratio may be by chance: cnn against itself"),
        *_interval("control_ratio", "", "step time of cnn measured once more / of cnn, paired by round"),
        Column("peak_flops_per_second", "float64", "FLOP/s", "most that the library reaches; empty: not measured"),
        Column("peak_source", "string", "", "what reaches it: a matrix product or a convolution"),
        Column("peak_gemm", "float64", "FLOP/s", "best matrix product (float32, square)"),
        Column("peak_convolution", "float64", "FLOP/s", "best convolution (float32, 3x3)"),
    ),
)

BENCH = TableSchema(
    name="bench",
    version=1,
    columns=(
        *POINT,
        Column("implementation", "string", "", "what was measured"),
        Column("side", "string", "", "bnn or cnn (ours), or peer (a bnn of others)"),
        Column("control", "bool", "", "whether it repeats another implementation, to show the noise"),
        Column("resolved", "string", "", "what an automatic choice came to, else as implementation"),
        Column("state", "string", "", "measured, or why it has no rows"),
        Column("notes", "string", "", "what a reader must know to judge it"),
        Column("rounds", "int64", "", "rounds with rows of it"),
        *_interval("step_seconds", "s", "wall time of a training step: centre over rounds of each round's median"),
        Column("interval_method", "string", "", "how the intervals were made"),
        Column("samples_per_second", "float64", "samples/s", "batch / step_seconds"),
        *(
            column
            for name, end in BASES.items()
            for column in _interval(f"ratio_{end}", "", f"its step time / that of {name}, paired by round")
        ),
        *(
            column
            for name, end in PEER_COLUMNS.items()
            for column in _interval(f"speedup_{end}", "", f"step time of {name} / its own, paired by round")
        ),
        Column("peak_memory_bytes", "int64", "B", "largest resident memory of its process"),
        Column("memory_ratio_bayesian_torch", "float64", "", "its peak memory / that of bayesian-torch"),
        Column("overhead_fraction", "float64", "fraction", "of its step: noise, KL and optimizer; empty: not known"),
        Column("parameters_total", "int64", "", "parameters and running statistics"),
        Column("flops_per_image", "float64", "FLOP", "convolutions and matrix products of one image in a step"),
        Column("flops_per_image_needed", "float64", "FLOP", "of these: all but those on padded zeros"),
        Column("flops_form", "string", "", "form of computation whose formula that is (bnn.flops.formulae)"),
        Column("flops_per_second", "float64", "FLOP/s", "flops_per_image_needed x samples_per_second"),
        Column("peak_fraction", "float64", "fraction", "flops_per_second / the machine's measured peak"),
    ),
)
