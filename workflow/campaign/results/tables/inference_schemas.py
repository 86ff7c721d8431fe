"""The tables made from inference and pruning jobs: a cell's identity, then the columns of the jobs' records."""

from __future__ import annotations

from dataclasses import replace

from bnn.records import inference, pruning
from bnn.records.columns import Column, TableSchema
from campaign.results.tables.identity import IDENTITY, LABELS

# Values of column `semantics`, in words.
SEMANTICS = {
    "zero": "zero: mean and sigma 0",
    "mean-only": "mean-only: mean 0, sigma kept",
    "bprune": "bprune, as published: mean 0, sigma softplus(0) = 0.693",
}
# Of the cell whose posterior was taken. What LABELS calls engine and ranks is of its training, and said so here.
_TRAINED = (
    *(column for column in LABELS if column.name not in ("engine", "ranks")),
    Column("trained_ranks", "int64", "ranks", "ranks that trained it"),
    Column("verdict", "string", "", "the cell's verdict: OK, WARN, INVALID or MISSING"),
)
_STATUS = (
    Column("status", "string", "", "verdict of this job: OK, WARN or INVALID; MISSING: no record of it as planned"),
    Column("reasons", "string", "", "why it is not OK, separated by '; '"),
    Column("foreign_cores", "float64", "CPUs", "kept busy by other programs while it measured; empty: not measured"),
)
_SWEEP = (
    Column("semantics", "string", "", "what a pruned weight is: zero, bprune (sigma 0.693) or mean-only"),
    Column("scope", "string", "", "global: one threshold; layer: the same share of every layer"),
    Column("by", "string", "", "weight or unit"),
)
_POSTERIOR = (
    Column("posterior_step", "int64", "steps", "optimizer steps after which the posterior was saved"),
    Column("posterior_sha256", "string", "", "of its posterior.safetensors"),
    Column("kernel_weights", "int64", "parameters", "kernel weights of the posterior"),
    Column("nonzeros", "int64", "parameters", "of them not zero"),
    Column("sigma_median", "float64", "", "median sigma of the posterior"),
    Column("sigma_median_start", "float64", "", "median sigma at the start of its training"),
    Column("effective_bits", "float64", "bits", "median over kernel weights of log2(1 + |mu| / sigma)"),
)
_ORIGIN = (
    Column("git_revision", "string", "", "revision of the code that ran"),
    Column("git_dirty", "bool", "", "whether that code had uncommitted changes"),
    Column("started_at", "float64", "s", "start, seconds since 1970"),
    Column("stopped_at", "float64", "s", "stop, seconds since 1970"),
    Column("folder", "string", "", "folder of the job's records, relative to the results folder"),
)

# One row per planned job; without a record as planned, what it would tell is empty and `status` is MISSING.
INFERENCE = TableSchema(
    name="inference",
    version=4,
    columns=(
        *IDENTITY,
        *_TRAINED,
        *_STATUS,
        Column("split", "string", "", "part of the data set that was predicted"),
        Column("images", "int64", "images", "predicted images"),
        Column("shift", "string", "", "what was done to the images, as kind:severity; empty: nothing"),
        Column("temperature_asked", "string", "", "what the logits are to be divided by: a number or fit; empty: 1"),
        Column("temperature", "float64", "", "what all logits were divided by"),
        Column("classes", "int64", "", "classes"),
        Column("members", "int64", "", "posteriors that were mixed; 0: a single one"),
        Column("draws", "int64", "draws", "Monte-Carlo draws"),
        Column("seed", "int64", "", "seed of the draws"),
        Column("mode", "string", "", "exact: independent draws, one weight sample each"),
        Column("form", "string", "", "dense or sparse form of the layers"),
        Column("engine", "string", "", "what split the draws over ranks"),
        Column("ranks", "int64", "ranks", "ranks that predicted"),
        Column("threads", "int64", "", "threads per rank"),
        Column("accuracy", "float64", "fraction", "of the Monte-Carlo mean"),
        Column("accuracy_single_draw", "float64", "fraction", "mean of single draws"),
        Column("accuracy_single_draw_std", "float64", "fraction", "its standard deviation over draws"),
        Column("nll", "float64", "nats", "negative log likelihood of the Monte-Carlo mean, per image"),
        Column("nll_single_draw", "float64", "nats", "mean of single draws, per image"),
        Column("log_probability", "float64", "nats", "held-out log probability: -nll"),
        Column("brier", "float64", "", "Brier score of the Monte-Carlo mean"),
        Column("calibration_error", "float64", "fraction", "expected calibration error of the Monte-Carlo mean"),
        Column(
            "calibration_error_debiased",
            "float64",
            "fraction",
            "root mean square of the same bins' errors, without what chance adds; empty in older records",
        ),
        Column("aurc", "float64", "fraction", "area under risk against coverage; empty in older records"),
        Column(
            "accuracy_at_90_coverage",
            "float64",
            "fraction",
            "of the 90% of the images whose confidence is highest; empty in older records",
        ),
        Column("predictive_entropy", "float64", "nats", "mean over images: total uncertainty"),
        Column("mutual_information", "float64", "nats", "mean over images: epistemic uncertainty"),
        Column("variation_ratio", "float64", "fraction", "mean over images: draws that do not vote as most do"),
        Column(
            "softmax_spread",
            "float64",
            "",
            "standard deviation over draws of the true class's probability, mean over images",
        ),
        Column("ood", "string", "", "another data set, whose images were told from these; empty: none"),
        Column("ood_images", "int64", "images", "images of it"),
        *(
            Column(f"ood_{name}_{by}", "float64", "fraction", f"{meaning}, by {words}")
            for by, words in (("entropy", "predictive entropy"), ("information", "mutual information"))
            for name, meaning in (
                ("auroc", "area under the ROC curve of telling both data sets' images apart"),
                ("aupr_in", "area under precision against recall, finding the held-out images"),
                ("aupr_out", "area under precision against recall, finding the other data set's"),
                ("fpr95", "share of the other data set's images that pass where 95% of the held-out ones do"),
            )
        ),
        Column("settled_draws", "int64", "draws", "S from which on the distribution has settled; empty: none does"),
        Column("settled_tolerance", "float64", "", "distance below which it counts as settled"),
        Column("seconds_startup", "float64", "s", "loading and preparing"),
        Column("seconds_draws", "float64", "s", "all draws, of the slowest rank"),
        Column("peak_memory_bytes", "int64", "B", "largest resident memory of a rank"),
        *_POSTERIOR,
        *_ORIGIN,
    ),
)
# The rest of the predictions, by the same columns: what figures of single posteriors do not draw.
INFERENCE_OTHERS = TableSchema("inference_others", INFERENCE.version, INFERENCE.columns)


def _of_job(name: str, record: TableSchema, columns: tuple[Column, ...] = ()) -> TableSchema:
    """A record's columns after the identity of the cell; `columns` says of the job what the record does not."""
    return TableSchema(name, record.version, (*IDENTITY, *columns, *record.columns))


UNPRUNED = Column("accuracy_unpruned", "float64", "fraction", "of the Monte-Carlo mean before pruning")


INFERENCE_DRAWS = _of_job("inference_draws", inference.DRAWS)
INFERENCE_TRUE_CLASS = _of_job("inference_true_class", inference.TRUE_CLASS)
INFERENCE_CONVERGENCE = _of_job("inference_convergence", inference.CONVERGENCE)
INFERENCE_RELIABILITY = _of_job("inference_reliability", inference.RELIABILITY)

# The record of the levels says semantics, scope and by itself.
PRUNING = _of_job(
    "pruning",
    pruning.PRUNING,
    (
        *(column for column in LABELS if column.name in ("implementation", "width", "rho_init")),
        Column("verdict", "string", "", "the cell's verdict"),
        Column("status", "string", "", "verdict of the sweep: OK, WARN or INVALID"),
        UNPRUNED,
    ),
)
PRUNING = replace(PRUNING, version=3, oldest=2)  # 2: without accuracy_unpruned
PRUNING_LAYERS = _of_job("pruning_layers", pruning.LAYERS, _SWEEP)
PRUNING_SNR = _of_job("pruning_snr", pruning.SNR, _SWEEP)
PRUNING_TRUE_CLASS = _of_job("pruning_true_class", pruning.LEVEL_TRUE_CLASS, _SWEEP)

# One row per planned sweep; as table `inference` for those that are MISSING.
PRUNING_SUMMARY = TableSchema(
    name="pruning_summary",
    version=2,
    columns=(
        *IDENTITY,
        *_TRAINED,
        *_SWEEP,
        *_STATUS,
        Column("split", "string", "", "part of the data set that was predicted"),
        Column("images", "int64", "images", "predicted images"),
        Column("draws", "int64", "draws", "Monte-Carlo draws of every prediction"),
        Column("seed", "int64", "", "seed of the draws"),
        Column("levels", "int64", "", "levels of the sweep"),
        Column("threads", "int64", "", "threads"),
        UNPRUNED,
        Column("largest_percent", "float64", "%", "largest share removed at a loss below 1 point with 95% certainty"),
        Column("largest_speedup", "float64", "", "speed-up there; empty: no level qualifies"),
        Column("largest_form", "string", "", "fastest form there"),
        Column("seconds_total", "float64", "s", "wall time of the sweep"),
        *_POSTERIOR,
        *_ORIGIN,
    ),
)

# By name, made from the records of `bnn infer` and of `bnn prune`.
INFERENCE_TABLES: dict[str, TableSchema] = {
    schema.name: schema
    for schema in (
        INFERENCE, INFERENCE_OTHERS, INFERENCE_DRAWS, INFERENCE_TRUE_CLASS, INFERENCE_CONVERGENCE,
        INFERENCE_RELIABILITY,
    )
}  # fmt: skip
PRUNING_TABLES: dict[str, TableSchema] = {
    schema.name: schema for schema in (PRUNING, PRUNING_LAYERS, PRUNING_SNR, PRUNING_TRUE_CLASS, PRUNING_SUMMARY)
}
