"""The records of `bnn infer`: predictions of a posterior by Monte-Carlo draws, and how far they can be trusted."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bnn.records.columns import Column, TableSchema
from bnn.records.neighbours import PhaseLoad
from bnn.records.summary import Verdict

# Names of the files in the folder of an inference; the summary is written last.
INFERENCE = "inference.json"
PREDICTIONS_FILE = "predictions.parquet"
IMAGES_FILE = "images.parquet"
DRAWS_FILE = "draws.parquet"
TRUE_CLASS_FILE = "true_class.parquet"
RELIABILITY_FILE = "reliability.parquet"
CONVERGENCE_FILE = "convergence.parquet"
OOD_IMAGES_FILE = "ood_images.parquet"  # where images of another data set were asked for
ARRAYS_FILE = "draws.npz"  # probabilities float32 (draws, images, classes), image and label int64 (images,)

PREDICTIONS = TableSchema(
    name="inference_predictions",
    version=1,
    columns=(
        Column("image", "int64", "", "index of the image in the split"),
        Column("class", "int64", "", "class, from 0"),
        Column("probability", "float64", "", "predictive probability: mean of the softmax over the draws (eq. 4)"),
        Column("probability_std", "float64", "", "standard deviation of the softmax over the draws"),
    ),
)
IMAGES = TableSchema(
    name="inference_images",
    version=1,
    columns=(
        Column("image", "int64", "", "index of the image in the split"),
        Column("label", "int64", "", "true class"),
        Column("predicted", "int64", "", "class of the largest predictive probability"),
        Column("probability_label", "float64", "", "predictive probability of the true class"),
        Column("predictive_entropy", "float64", "nats", "entropy of the mean softmax: total uncertainty"),
        Column("mutual_information", "float64", "nats", "predictive entropy - mean entropy of the draws: epistemic"),
        Column("variation_ratio", "float64", "", "1 - share of the draws that vote for the commonest class"),
        Column("accuracy_single_draw", "float64", "", "share of the draws whose largest probability is the true class"),
    ),
)
UNCERTAINTIES = ("predictive_entropy", "mutual_information")  # by which images of another data set are told apart
DRAWS = TableSchema(
    name="inference_draws",
    version=2,
    oldest=1,  # without nll_so_far
    columns=(
        Column("draw", "int64", "", "index of the draw; its noise depends on seed, layer and this alone"),
        Column("accuracy", "float64", "", "accuracy of this draw alone"),
        Column("nll", "float64", "nats", "mean over images of -log probability of the true class in this draw"),
        Column("nll_so_far", "float64", "nats", "the same of the mean of this draw and all before it"),
        Column("seconds", "float64", "s", "wall time of this draw on its rank: all images, weights sampled"),
        Column("rank", "int32", "", "rank that computed it"),
    ),
)
TRUE_CLASS = TableSchema(
    name="inference_true_class",
    version=1,
    columns=(
        Column("image", "int64", "", "index of the image in the split; one image per class, the first of its class"),
        Column("label", "int64", "", "true class"),
        Column("draw", "int64", "", "index of the draw"),
        Column("probability", "float64", "", "softmax value of the true class in this draw (figures 4, 5, 9)"),
    ),
)
RELIABILITY = TableSchema(
    name="inference_reliability",
    version=1,
    columns=(
        Column("bin", "int64", "", "bin of confidence, from 0; empty bins are there with count 0"),
        Column("low", "float64", "", "lower edge of the bin, not included (but 0)"),
        Column("high", "float64", "", "upper edge of the bin, included"),
        Column("count", "int64", "images", "images whose largest predictive probability lies in the bin"),
        Column("confidence", "float64", "", "mean of their largest predictive probability; null in an empty bin"),
        Column("accuracy", "float64", "", "share of them whose prediction is right; null in an empty bin"),
    ),
)
CONVERGENCE = TableSchema(
    name="inference_convergence",
    version=1,
    columns=(
        Column("draws", "int64", "draws", "S: size of the subset of draws"),
        Column(
            "distance",
            "float64",
            "",
            "1-Wasserstein distance between the true class's softmax values over S draws and over all, mean of images",
        ),
        Column("distance_low", "float64", "", "2.5% quantile of that over random subsets of S draws"),
        Column("distance_high", "float64", "", "97.5% quantile"),
        Column("error_mean", "float64", "", "mean of images of |mean over S draws - mean over all|, same subsets"),
    ),
)
OOD_IMAGES = TableSchema(
    name="inference_ood_images",
    version=1,
    columns=(
        Column("image", "int64", "", "index of the image in its split of the other data set"),
        *(column for column in IMAGES.columns if column.name in ("predicted", *UNCERTAINTIES, "variation_ratio")),
    ),
)


class PosteriorFacts(BaseModel):
    """What was inferred from. `effective_bits` is the median over kernel weights of log2(1 + SNR), SNR = |mu| / sigma:

    the bits by which a weight's value stands out of its own noise. `sha256` identifies posterior.safetensors. Of a
    network without Bayesian layers, sigma and bits are None, and its kernel weights are those with two axes or more.
    """

    model_config = ConfigDict(extra="forbid")

    path: str
    sha256: str
    step: int
    kernel_weights: int
    nonzeros: int
    sigma_median: float | None
    sigma_median_start: float | None
    effective_bits: float | None
    settings: dict[str, Any] = {}


class HeldOutSummary(BaseModel):
    """What was drawn from which posterior for which images, and how: of an inference and of a pruning alike.

    Times are seconds since 1970; `git_dirty` is None outside a checkout. `neighbours`: by phase, what the rest of the
    machine did meanwhile; None in older records, as is `device`.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    posterior: PosteriorFacts
    labels: dict[str, Any] = Field(default_factory=dict)
    dataset: str
    dataset_source: str
    split: str
    images: int
    draws: int
    seed: int
    threads: int
    device: str | None = None
    started_at: float
    stopped_at: float
    command: list[str]
    versions: dict[str, str]
    hosts: list[str]
    git_revision: str | None
    git_dirty: bool | None
    neighbours: dict[str, PhaseLoad] | None = None
    verdict: Verdict


class Detection(BaseModel):
    """How well an uncertainty tells images of another data set from the held-out ones: `bnn.inference.detection`.

    Fractions. `aupr_in`: the held-out images are what is to be found, `aupr_out`: the others are. `fpr95`: the share of
    the others that pass where 95% of the held-out images do.
    """

    model_config = ConfigDict(extra="forbid")

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95: float


class OutOfDistribution(BaseModel):
    """Images of another data set, by the same draws; entropy and mutual information are means over them, in nats."""

    model_config = ConfigDict(extra="forbid")

    dataset: str
    dataset_options: dict[str, Any]
    dataset_source: str
    dataset_checksum: str | None
    images: int
    predictive_entropy: float
    mutual_information: float
    by_predictive_entropy: Detection
    by_mutual_information: Detection


class TemperatureFit(BaseModel):
    """How a temperature was found: `images` of `split` as they are, none of them predicted if that is test, too.

    They are evenly spread, and predicted by the first `draws` draws.

    The NLL is that of the draws' mean softmax on these images, in nats: `nll_before` at temperature 1.
    """

    model_config = ConfigDict(extra="forbid")

    split: str
    images: int
    draws: int
    nll_before: float
    nll_after: float


class InferenceSummary(HeldOutSummary):
    """inference.json, written last. Probabilities and accuracies are fractions, NLL and log probability in nats.

    `accuracy`, `nll`, `brier` and `calibration_error` are of the Monte-Carlo mean; `log_probability` is -nll, the
    held-out log probability that BPrune and TFP's example print. So are `calibration_error_debiased`, the root mean
    square of the same bins' errors without what chance adds, `aurc`, the area under risk against coverage, and
    `accuracy_at_90_coverage`, the accuracy of the most confident 90% (`bnn.inference.reliability` and
    `bnn.inference.selective` define them); None in older records. `accuracy_single_draw` and `nll_single_draw` are
    means over draws, `accuracy_single_draw_std` the standard deviation over them. `softmax_spread` is the standard
    deviation over draws of the true class's probability, mean over images. `settled_draws` is the smallest S of the
    table convergence from which on the 97.5% quantile of the distance stays below `settled_tolerance`; None: none does.
    `seconds_draws` is the time of the slowest rank for all draws, `seconds_startup` that of loading and preparing; they
    are the phases draws and startup of `neighbours`.

    `members`: of a mixture all posteriors, `posterior` being the first; draw s is of the one with index s mod their
    number. Empty of a single posterior, and in older records. A network without Bayesian layers that is alone, or among
    its like, makes one draw; all its draws in a mixture are the same. `form` and `block` are those of the first.

    `shift`: what was done to the images, as KIND:SEVERITY (`bnn.inference.severities`); None: nothing.
    `ood`: what was said of another data set's images, which no other field counts; its draws are phase ood of
    `neighbours`. None: none were asked for.
    `temperature`: what all logits were divided by before the softmax; `temperature_fit` says how it was found, None
    where it was given, or 1.
    """

    members: list[PosteriorFacts] = []
    shift: str | None = None
    ood: OutOfDistribution | None = None
    temperature: float = 1.0
    temperature_fit: TemperatureFit | None = None

    dataset_checksum: str | None
    classes: int
    mode: str
    form: str
    noise: str
    block: int
    engine: str
    ranks: int
    accuracy: float
    accuracy_single_draw: float
    accuracy_single_draw_std: float | None
    nll: float
    nll_single_draw: float
    log_probability: float
    brier: float
    calibration_error: float
    calibration_error_debiased: float | None = None
    aurc: float | None = None
    accuracy_at_90_coverage: float | None = None
    predictive_entropy: float
    mutual_information: float
    variation_ratio: float
    softmax_spread: float | None
    settled_draws: int | None
    settled_tolerance: float
    seconds_startup: float
    seconds_draws: float
    peak_memory_bytes: int
