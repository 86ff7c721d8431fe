"""The derived tables of a campaign: every column with its unit and meaning."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema
from campaign.results.tables.bench_schemas import BENCH, BENCH_RUNS
from campaign.results.tables.claims import CLAIMS
from campaign.results.tables.efficiency_schemas import CELL_EFFICIENCIES, POINT_EFFICIENCIES
from campaign.results.tables.identity import IDENTITY, LABELS, POINT
from campaign.results.tables.inference_schemas import INFERENCE_TABLES, PRUNING_TABLES
from campaign.results.tables.loss_schemas import CELL_LOSSES, LOSSES
from campaign.results.tables.method_schemas import METHOD_DRAWS, METHODS
from campaign.results.tables.projection_schemas import PROJECTION_TABLES
from campaign.results.tables.tuning_schemas import TUNING_TABLES

POINT_KEYS = tuple(column.name for column in POINT)
IDENTITY_KEYS = tuple(column.name for column in IDENTITY)
LABEL_KEYS = tuple(column.name for column in LABELS)

CELLS = TableSchema(
    name="cells",
    version=3,
    columns=(
        *IDENTITY,
        *LABELS,
        Column("verdict", "string", "", "OK, WARN, INVALID, or MISSING when there is no summary"),
        Column("reasons", "string", "", "why it is not OK, separated by '; '"),
        Column("counted", "bool", "", "whether it enters aggregates (OK and WARN do)"),
        Column("attempts", "int64", "", "attempts of the job"),
        Column("threads", "int64", "", "threads per rank"),
        Column("throughput_steady", "float64", "samples/s", "samples / seconds after warm-up: the headline"),
        Column("throughput_steady_std", "float64", "samples/s", "standard deviation of the rates of the steady steps"),
        Column("throughput_all", "float64", "samples/s", "samples / seconds over every step"),
        Column("throughput_paper", "float64", "samples/s", "mean over all steps of samples / rank 0's step time"),
        Column("throughput_paper_std", "float64", "samples/s", "standard deviation of those rates over all steps"),
        Column("steady_steps", "int64", "steps", "steps after warm-up"),
        Column("coefficient_of_variation", "float64", "fraction", "standard deviation / mean of steady step times"),
        Column("foreign_cores", "float64", "CPUs", "kept busy by other programs in the steady steps; empty: unknown"),
        Column("foreign_share", "float64", "fraction", "of the CPUs that the ranks may use, the worst group of ranks"),
        Column("stolen_share", "float64", "fraction", "of their time in the steady steps: taken by the hypervisor"),
        Column("held_back_share", "float64", "fraction", "of their time in the steady steps: withheld by a CPU quota"),
        Column("involuntary_per_second", "float64", "1/s", "involuntary context switches of a rank, steady steps"),
        Column("megahertz_mean", "float64", "MHz", "frequency of the ranks' CPUs, at the ends of the steady steps"),
        Column("throttles", "int64", "", "times their processors were slowed down for heat in the steady steps"),
        Column("pressure_memory", "float64", "fraction", "of the steady steps' time, a task waited for memory"),
        Column("step_seconds", "float64", "s", "mean time from a steady step to the next, of its slowest rank"),
        Column("epoch_seconds", "float64", "s", "one pass over the training set at the steady throughput"),
        Column("seconds_data", "float64", "s", "mean per steady step, all ranks: fetching the batch"),
        Column("seconds_forward", "float64", "s", "mean per steady step, all ranks: forward pass and loss"),
        Column("seconds_backward", "float64", "s", "mean per steady step, all ranks: backward pass"),
        Column("seconds_exchange", "float64", "s", "mean per steady step, all ranks: waiting for gradients"),
        Column("seconds_optimizer", "float64", "s", "mean per steady step, all ranks: parameter update"),
        Column("seconds_between", "float64", "s", "mean per steady step, all ranks: the rest, until the next step"),
        Column("seconds_total", "float64", "s", "wall time of the run, start-up included, on rank 0"),
        Column("seconds_startup", "float64", "s", "of these: before the first step"),
        Column("seconds_training", "float64", "s", "of these: all steps"),
        Column("seconds_warmup", "float64", "s", "of these: warm-up steps"),
        Column("seconds_steady", "float64", "s", "of these: steady steps"),
        Column("steps", "int64", "steps", "steps done"),
        Column("steps_per_epoch", "float64", "steps", "steps of one pass over the training set"),
        Column("epochs_asked", "int64", "epochs", "epochs the settings ask for"),
        Column("max_steps", "int64", "steps", "steps after which the settings stop it; empty: none"),
        Column("epochs_completed", "int64", "epochs", "passes done; one is where less than a step of it is left"),
        Column("train_size", "int64", "samples", "size of the whole training set"),
        Column("samples", "int64", "samples", "training examples processed by all ranks"),
        Column("parameters_total", "int64", "", "parameters and running statistics"),
        Column("parameters_trainable", "int64", "", "trainable parameters"),
        Column("macs_forward_per_image", "int64", "MAC", "multiply-accumulates of one image's forward pass"),
        Column("peak_memory_bytes", "int64", "B", "largest resident memory of a rank"),
        Column("loss", "float64", "nats", "training loss of the last step"),
        Column("nll", "float64", "nats", "negative log likelihood of the last step"),
        Column("kl", "float64", "nats", "KL divergence at the last step"),
        Column("accuracy_running", "float64", "fraction", "training accuracy, mean since the first step (the paper's)"),
        Column("accuracy_last_epoch", "float64", "fraction", "training accuracy, mean over the last epoch"),
        Column("sigma_median", "float64", "", "median sigma of the posterior at the end"),
        Column("sigma_median_start", "float64", "", "median sigma of the posterior at the start"),
        Column(
            "held_out_accuracy", "float64", "fraction", "held-out accuracy of the Monte-Carlo mean, last evaluation"
        ),
        Column("held_out_accuracy_single_draw", "float64", "fraction", "held-out accuracy of one draw"),
        Column("held_out_nll", "float64", "nats", "held-out negative log likelihood"),
        Column("held_out_images", "int64", "samples", "images of that evaluation"),
        Column("held_out_draws", "int64", "", "Monte-Carlo draws of that evaluation"),
        Column(
            "mpi",
            "string",
            "",
            "MPI profile: recorded, or not recorded, not readable or not measurable with the reason",
        ),
        Column("mpi_timeline", "string", "", "Horovod's timeline, relative to the results folder; empty: none"),
        Column("git_revision", "string", "", "revision of the code that ran"),
        Column("git_dirty", "bool", "", "whether that code had uncommitted changes"),
        Column("started_at", "float64", "s", "start of the first rank, seconds since 1970"),
        Column("stopped_at", "float64", "s", "stop of the last rank, seconds since 1970"),
        Column("hash", "string", "", "hash of the settings that ran"),
        Column("folder", "string", "", "folder of its records, relative to the results folder"),
    ),
)

STEPS_OF_CELLS = TableSchema(
    name="cell_steps",
    version=1,
    columns=(
        *IDENTITY,
        Column("implementation", "string", "", "bnn-<estimator> or the CNN baseline's name"),
        Column("attempt", "int64", "", "attempt of the job"),
        Column("step", "int64", "", "optimizer step, from 0"),
        Column("epoch", "int64", "", "epoch, from 0"),
        Column("phase", "string", "", "warmup or steady"),
        Column("ranks", "int64", "ranks", "ranks that reported the step"),
        Column("samples", "int64", "samples", "training examples of all ranks"),
        Column("started_at", "float64", "s", "start on the first rank, seconds since 1970"),
        Column("seconds", "float64", "s", "wall time of the slowest rank"),
        Column("seconds_rank0", "float64", "s", "wall time of rank 0"),
        Column("seconds_exchange", "float64", "s", "longest wait for gradients of any rank"),
        Column("loss", "float64", "nats", "mean over ranks"),
        Column("nll", "float64", "nats", "mean over ranks"),
        Column("kl", "float64", "nats", "mean over ranks"),
        Column("accuracy", "float64", "fraction", "training accuracy of the step, mean over ranks"),
        Column("accuracy_running", "float64", "fraction", "its mean since the first step (the paper's)"),
    ),
)

THROUGHPUT = TableSchema(
    name="throughput",
    version=1,
    columns=(
        *POINT,
        *LABELS,
        Column("repeats", "int64", "", "repeats that count"),
        Column("repeats_planned", "int64", "", "repeats the campaign asks for"),
        Column("warned", "int64", "", "of the counted repeats, those with verdict WARN"),
        Column("excluded", "int64", "", "repeats that are INVALID or MISSING"),
        Column("verdict", "string", "", "OK, WARN (some counted repeat is), or INVALID (none counts)"),
        Column("throughput_steady", "float64", "samples/s", "centre of the repeats' steady throughput: the headline"),
        Column("throughput_low", "float64", "samples/s", "lower end of its 95% interval over repeats"),
        Column("throughput_high", "float64", "samples/s", "upper end of its 95% interval over repeats"),
        Column("interval_method", "string", "", "how that interval was made"),
        Column("throughput_std", "float64", "samples/s", "standard deviation over steady steps, pooled over repeats"),
        Column("steady_steps", "int64", "steps", "steady steps of all counted repeats"),
        Column("throughput_all", "float64", "samples/s", "mean over repeats, every step counted"),
        Column("throughput_paper", "float64", "samples/s", "mean over repeats of the paper's definition"),
        Column("throughput_paper_std", "float64", "samples/s", "the paper's error bar, pooled over repeats"),
        Column("step_seconds", "float64", "s", "wall time of a step, from the headline throughput"),
        Column("epoch_seconds", "float64", "s", "one pass over the training set, from the headline throughput"),
        Column("epoch_seconds_low", "float64", "s", "lower end of its 95% interval over repeats"),
        Column("epoch_seconds_high", "float64", "s", "upper end of its 95% interval over repeats"),
        Column("total_seconds", "float64", "s", "mean over repeats of the run's wall time, start-up included"),
        Column("startup_seconds", "float64", "s", "mean over repeats of the time before the first step"),
        Column("complete", "bool", "", "whether every counted repeat did all the epochs it was asked for"),
        Column("steps", "int64", "steps", "steps done, the fewest of the counted repeats"),
        Column("epochs_asked", "int64", "epochs", "epochs the settings ask for"),
        Column("train_size", "int64", "samples", "size of the whole training set"),
    ),
)

SCALING = TableSchema(
    name="scaling",
    version=1,
    columns=(
        *POINT,
        *LABELS,
        Column("baseline_nodes", "int64", "nodes", "nodes of the baseline point; empty: baseline missing"),
        Column("baseline", "string", "", "the baseline point by name"),
        Column("verdict", "string", "", "worse of the two points' verdicts"),
        Column("pairs", "int64", "", "repeats counted on both sides"),
        Column("efficiency_steady", "float64", "", "T1/(N TN), T = epoch time from steady throughput: the headline"),
        Column("steady_low", "float64", "", "lower end of its 95% interval over paired repeats"),
        Column("steady_high", "float64", "", "upper end of its 95% interval over paired repeats"),
        Column("steady_sigma", "float64", "", "one standard deviation, from the spread of both points' steady steps"),
        Column("reason_steady", "string", "", "why there is no value; empty when there is one"),
        Column(
            "efficiency_total", "float64", "", "T1/(N TN), T = total time of the run including start-up (the paper's)"
        ),
        Column("total_low", "float64", "", "lower end of its 95% interval over paired repeats"),
        Column("total_high", "float64", "", "upper end of its 95% interval over paired repeats"),
        Column("total_sigma", "float64", "", "one standard deviation over paired repeats; empty with fewer than 2"),
        Column("reason_total", "string", "", "why there is no value; empty when there is one"),
        Column("interval_method", "string", "", "how the intervals were made"),
    ),
)

ACCURACY = TableSchema(
    name="accuracy",
    version=1,
    columns=(
        *IDENTITY,
        *LABELS,
        Column("target", "float64", "fraction", "training accuracy to reach"),
        Column(
            "definition", "string", "", "running (mean since the first step: the paper's) or epoch (mean of an epoch)"
        ),
        Column(
            "seconds", "float64", "s", "training time until it is reached, start-up not included; empty: not reached"
        ),
        Column("reached", "bool", "", "whether it is reached"),
        Column("best", "float64", "fraction", "highest value seen"),
        Column("reason", "string", "", "why there is no time; empty when there is one"),
        Column("verdict", "string", "", "the cell's verdict"),
    ),
)

EVALUATIONS = TableSchema(
    name="evaluations",
    version=1,
    columns=(
        *IDENTITY,
        Column("implementation", "string", "", "what ran, e.g. bnn-flipout"),
        Column("step", "int64", "steps", "steps that were done"),
        Column("epoch", "int64", "", "epoch of the next one, from 0"),
        Column("seconds", "float64", "s", "training time of these steps, start-up not included"),
        Column("draws", "int64", "draws", "Monte-Carlo draws"),
        Column("images", "int64", "images", "held-out images"),
        Column("accuracy", "float64", "fraction", "held-out accuracy of the mean over draws; empty: a regression"),
        Column("nll", "float64", "nats", "negative log likelihood per held-out image; empty: not finite"),
        Column("seconds_evaluation", "float64", "s", "what measuring it took"),
        Column("verdict", "string", "", "the cell's verdict"),
    ),
)

RATIOS = TableSchema(
    name="ratios",
    version=1,
    columns=(
        *(column for column in POINT if column.name != "kind"),
        *(column for column in LABELS if column.name not in ("implementation", "rho_init")),
        Column("bnn_implementation", "string", "", "what ran as the BNN"),
        Column("cnn_implementation", "string", "", "what ran as the CNN"),
        Column("verdict", "string", "", "worse of the two sides' verdicts"),
        Column("pairs", "int64", "", "repeats counted on both sides"),
        Column("bnn_step_seconds", "float64", "s", "wall time of a steady step of the BNN"),
        Column("cnn_step_seconds", "float64", "s", "wall time of a steady step of the CNN"),
        Column("ratio", "float64", "", "step time of the BNN / step time of the CNN, paired by repeat"),
        Column("ratio_low", "float64", "", "lower end of its 95% interval over pairs"),
        Column("ratio_high", "float64", "", "upper end of its 95% interval over pairs"),
        Column("interval_method", "string", "", "how that interval was made"),
        Column("reason", "string", "", "why there is no ratio; empty when there is one"),
    ),
)

PROVENANCE_OF_CELLS = TableSchema(
    name="provenance",
    version=1,
    columns=(
        *IDENTITY,
        Column("rank", "int64", "", "rank"),
        Column("local_rank", "int64", "", "rank within its node"),
        Column("hostname", "string", "", "host"),
        Column("cpu_model", "string", "", "processor"),
        Column("cores", "int64", "", "cores of the host"),
        Column("affinity", "string", "", "cores this rank may run on"),
        Column("threads", "int64", "", "threads of this rank"),
        Column("memory_bytes", "int64", "B", "memory of the host"),
        Column("gpu", "string", "", "accelerator; empty: none"),
        Column("python", "string", "", "Python"),
        Column("platform", "string", "", "operating system"),
        Column("versions", "string", "", "versions of libraries, JSON"),
        Column("mpi_library", "string", "", "MPI library"),
        Column("environment", "string", "", "environment variables that matter, JSON"),
        Column("modules", "string", "", "loaded environment modules"),
        Column("command", "string", "", "command line"),
        Column("git_revision", "string", "", "revision of the code"),
        Column("git_dirty", "bool", "", "whether that code had uncommitted changes"),
        Column("started_at", "float64", "s", "start, seconds since 1970"),
        Column("stopped_at", "float64", "s", "stop, seconds since 1970"),
    ),
)

MPI = TableSchema(
    name="mpi",
    version=1,
    columns=(
        *IDENTITY,
        Column("rank", "int64", "", "rank that made the calls"),
        Column("tool", "string", "", "what counted them: bnn (our interposer), mpitrace or mpiP"),
        Column("phase", "string", "", "part of the run in which they started; empty: the whole run"),
        Column("phase_seconds", "float64", "s", "wall time of that part on this rank; empty: not measured"),
        Column("phase_steps", "int64", "steps", "steps of the profiled attempt in that part; empty: not of training"),
        Column("routine", "string", "", "MPI routine"),
        Column("operator", "string", "", "operator of a reduction; empty: none, or not known"),
        Column("carries", "string", "", "control (agreeing on what to exchange), data, or local (sends nothing)"),
        Column("rule", "string", "", "what told control from data: operator (and type), or size for want of it"),
        Column("bytes_low", "int64", "B", "least size of a message in this bin; empty: not measured"),
        Column("bytes_high", "int64", "B", "greatest size of a message in this bin; empty: not measured"),
        Column("calls", "int64", "calls", "calls with messages of that size"),
        Column("bytes", "float64", "B", "what this rank contributed to them in total; empty: not measured"),
        Column("seconds", "float64", "s", "wall time inside the MPI library, summed over calls and threads"),
    ),
)

MPI_RANKS = TableSchema(
    name="mpi_ranks",
    version=1,
    columns=(
        *IDENTITY,
        *LABELS,
        Column("verdict", "string", "", "the cell's verdict"),
        Column("counted", "bool", "", "whether the cell enters aggregates"),
        Column("rank", "int64", "", "rank"),
        Column("tool", "string", "", "what counted its calls: bnn (our interposer), mpitrace or mpiP"),
        Column("rule", "string", "", "what told control from data: operator (and type), or size for want of it"),
        Column("elapsed_seconds", "float64", "s", "wall time from MPI_Init to MPI_Finalize; empty: not measured"),
        Column("mpi_seconds", "float64", "s", "of all calls, summed over threads; overlaps computation"),
        Column("control_seconds", "float64", "s", "of these: control"),
        Column("data_seconds", "float64", "s", "of these: data; empty: not measurable"),
        Column("mpi_fraction", "float64", "fraction", "mpi_seconds / elapsed: the paper's communication efficiency"),
        Column(
            "data_fraction", "float64", "fraction", "data_seconds / elapsed; overlaps computation, so not time lost"
        ),
        Column("steps", "int64", "steps", "steps of the profiled attempt"),
        Column("gradient_bytes_per_step", "float64", "B", "bytes of data allreduces in training steps / steps"),
        Column("gradient_ratio", "float64", "", "these / (4 x trainable parameters): exactly 1 is expected"),
        Column("gradient_check", "string", "", "exact, differs, no exchange (one rank), or why it is not measurable"),
        Column("control_rate", "float64", "1/s", "control allreduces per second of elapsed time"),
        Column("cycle_rate", "float64", "1/s", "1 / Horovod's cycle time: the most rounds of agreeing per second"),
        Column("epochs", "float64", "epochs", "epochs of the profiled attempt's steps"),
        Column("metric_exchanges", "float64", "", "exchanges of held-out metrics: two allgathers, of sizes and values"),
        Column("metric_exchanges_per_epoch", "float64", "", "these / epochs begun; at most 1 is expected"),
        Column("calls", "int64", "calls", "all calls"),
        Column("overhead_ns", "float64", "ns", "what being counted adds to a call, measured in that run"),
        Column("overhead_fraction", "float64", "fraction", "calls x overhead / elapsed time"),
    ),
)

# Made from the cells' records, and from those of the jobs beside them.
CELL_TABLES: dict[str, TableSchema] = {
    "cells": CELLS,
    "steps": STEPS_OF_CELLS,
    "throughput": THROUGHPUT,
    "scaling": SCALING,
    "cell_efficiencies": CELL_EFFICIENCIES,
    "efficiencies": POINT_EFFICIENCIES,
    "cell_losses": CELL_LOSSES,
    "losses": LOSSES,
    "accuracy": ACCURACY,
    "evaluations": EVALUATIONS,
    "ratios": RATIOS,
    "provenance": PROVENANCE_OF_CELLS,
    "mpi": MPI,
    "mpi_ranks": MPI_RANKS,
}
BENCH_TABLES: dict[str, TableSchema] = {"bench": BENCH, "bench_runs": BENCH_RUNS}
METHOD_TABLES: dict[str, TableSchema] = {"methods": METHODS, "method_draws": METHOD_DRAWS}  # from others
TABLES = CELL_TABLES | BENCH_TABLES | INFERENCE_TABLES | PRUNING_TABLES | METHOD_TABLES | TUNING_TABLES
OF_REPORT = TABLES | {CLAIMS.name: CLAIMS} | PROJECTION_TABLES  # with verdicts made from the others, and projections
