"""The records of `bnn prune`: accuracy, uncertainty and speed of a posterior by the share of weights removed."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema
from bnn.records.inference import TRUE_CLASS, HeldOutSummary

# Names of the files in the folder of a pruning sweep; the summary is written last.
PRUNING_SUMMARY = "pruning.json"
PRUNING_FILE = "pruning.parquet"
LAYERS_FILE = "layers.parquet"
SNR_FILE = "snr.parquet"
LEVEL_TRUE_CLASS_FILE = "true_class.parquet"

PERCENT = Column("percent", "float64", "%", "share of kernel weights set to zero")
LEVEL = Column("level", "int64", "", "level of the sweep, from 0, in the order asked for; -1: unpruned")

PRUNING = TableSchema(
    name="pruning",
    version=2,  # 1: the fastest form was picked on the rounds that time it
    oldest=1,
    columns=(
        LEVEL,
        PERCENT,
        Column("percent_asked", "float64", "%", "what was asked for; null where a threshold was"),
        Column("threshold", "float64", "", "SNR (|mu| / sigma) below which weights or units were removed"),
        Column("semantics", "string", "", "zero: mean and sigma; bprune: mean 0, sigma softplus(0); mean-only: mean 0"),
        Column("scope", "string", "", "global: one threshold; layer: the same share of every layer"),
        Column("by", "string", "", "weight or unit"),
        Column("draws", "int64", "draws", "Monte-Carlo draws of every prediction"),
        Column("images", "int64", "images", "held-out images"),
        Column("kernel_weights", "int64", "parameters", "kernel weights of the unpruned network"),
        Column("nonzeros", "int64", "parameters", "kernel weights left; for bprune and mean-only: with their mean"),
        Column("units_removed", "int64", "", "units gated to zero; null by weight"),
        Column("parameters_compacted", "int64", "parameters", "kernel weights stored once dead units are removed"),
        Column("accuracy", "float64", "", "accuracy of the Monte-Carlo mean"),
        Column("accuracy_loss", "float64", "points", "100 (unpruned accuracy - accuracy), same images"),
        Column("accuracy_loss_low", "float64", "points", "lower end of its paired 95% interval over images"),
        Column("accuracy_loss_high", "float64", "points", "upper end"),
        Column("accuracy_single_draw", "float64", "", "mean accuracy of single draws"),
        Column("accuracy_single_draw_std", "float64", "", "its standard deviation over draws"),
        Column("nll", "float64", "nats", "negative log likelihood of the Monte-Carlo mean, per image"),
        Column("log_probability", "float64", "nats", "held-out log probability as BPrune prints it: -nll"),
        Column("calibration_error", "float64", "", "expected calibration error of the Monte-Carlo mean, 15 bins"),
        Column("predictive_entropy", "float64", "nats", "mean over images"),
        Column("mutual_information", "float64", "nats", "mean over images"),
        Column("form", "string", "", "the fastest form, by rounds of its own: dense, csr, compact, compact-csr"),
        Column(
            "seconds",
            "float64",
            "s",
            "median time of `timed_draws` draws of one block of images, fastest form, in later rounds",
        ),
        Column(
            "seconds_dense", "float64", "s", "dense form; a form that is not the fastest: in the rounds that choose"
        ),
        Column("seconds_csr", "float64", "s", "in the sparse form; null where it was not measured"),
        Column("seconds_compact", "float64", "s", "dead units removed, dense; null where none can be removed"),
        Column("seconds_compact_csr", "float64", "s", "dead units removed, sparse; null where it was not measured"),
        Column("timed_draws", "int64", "draws", "draws per timing"),
        Column("timed_images", "int64", "images", "images per timed draw"),
        Column("speedup", "float64", "", "unpruned dense time / time of the fastest form, paired by later rounds"),
        Column("speedup_low", "float64", "", "lower end of its 95% interval over rounds"),
        Column("speedup_high", "float64", "", "upper end"),
    ),
)
LAYERS = TableSchema(
    name="pruning_layers",
    version=1,
    columns=(
        LEVEL,
        PERCENT,
        Column("layer", "string", "", "name of the layer"),
        Column("kernel_weights", "int64", "parameters", "its kernel weights"),
        Column("nonzeros", "int64", "parameters", "of them left"),
        Column("snr_median", "float64", "", "median |mu| / sigma of its weights before pruning"),
    ),
)
SNR = TableSchema(
    name="pruning_snr",
    version=1,
    columns=(
        Column("layer", "string", "", "name of the layer; empty for all weights together"),
        Column("low", "float64", "dB", "lower edge of the bin of 20 log10(|mu| / sigma)"),
        Column("high", "float64", "dB", "upper edge"),
        Column("count", "int64", "parameters", "kernel weights in the bin (the outer bins take what lies beyond)"),
    ),
)
LEVEL_TRUE_CLASS = TableSchema(name="pruning_true_class", version=1, columns=(LEVEL, PERCENT, *TRUE_CLASS.columns))


class PruningSummary(HeldOutSummary):
    """pruning.json, written last.

    `largest_percent` is the largest share of weights removed whose paired accuracy loss is below one point with 95%
    certainty (the interval's upper end), `largest_speedup` the speed-up there; None where no level qualifies. The
    phases of `neighbours` are startup and levels.
    """

    semantics: str
    scope: str
    by: str
    levels: int
    accuracy_unpruned: float
    largest_percent: float | None
    largest_speedup: float | None
    largest_form: str | None
    seconds_total: float
