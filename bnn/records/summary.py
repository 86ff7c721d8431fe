"""summary.json: written last of all; a run without it is not finished."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bnn.records.neighbours import PhaseLoad


class Throughput(BaseModel):
    """Samples per second over all ranks, in the three definitions of bnn.metrics; None = could not be computed."""

    model_config = ConfigDict(extra="forbid")

    steady: float | None
    steady_std: float | None
    all_steps: float | None
    paper: float | None
    paper_std: float | None
    steady_steps: int
    coefficient_of_variation: float | None


class Verdict(BaseModel):
    """OK, WARN (drawn and marked) or INVALID (drawn and marked, never counted), with the reasons."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["OK", "WARN", "INVALID"]
    reasons: list[str]


class Evaluation(BaseModel):
    """Held-out metrics after `step` steps. `accuracy` is of the Monte-Carlo mean over `draws` draws.

    A segmentation's accuracy is per pixel, its `nll` the sum over an image's pixels. A regression has no accuracy and
    no `draw_spread`, but `rmse`: the root mean squared error of the mean over the draws, in the targets' units.
    `draw_spread`: standard deviation over draws of the true class's probability, mean over images; None for one draw.
    `nll` is None where it is not finite.
    """

    model_config = ConfigDict(extra="forbid")

    step: int
    epoch: int
    draws: int
    images: int
    accuracy: float | None
    accuracy_single_draw: float | None
    nll: float | None
    draw_spread: float | None
    rmse: float | None = None
    seconds: float


class FileEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sha256: str
    bytes: int


class GradientBlock(BaseModel):
    """One message of gradients. `full_seconds`: from the start of the backward pass until it can leave, s, median.

    None where that was not measured: on a GPU, and of one rank that is compiled or has no warm-up.
    """

    model_config = ConfigDict(extra="forbid")

    bytes: int
    full_seconds: float | None


class ParameterRow(BaseModel):
    """One parameter of a converted model. `how`: the class that samples it, or why it stays conventional."""

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: list[int]
    bayesian: bool
    how: str


class Summary(BaseModel):
    """Totals of one run. Seconds are wall time on rank 0; memory is the largest rank's.

    `implementation` is what every row names; where that is cnn-best, `resolved_implementation` says which baseline it
    was and `implementation_seconds` the median step time of each that was tried (empty after a resumption).
    `gradient_messages_per_step` and `gradient_bytes_per_step` are what each rank handed to its engine; 0 for one rank.
    `memory_layout` is channels_last or contiguous: how tensors lay in memory; None in records that do not say.
    A regression has no accuracy. Version 1 had none of the first four, and called bnn-flipout what is
    bnn-flipout-torch now.
    Energy is what the hardware counts, summed over nodes. What was not measurable is None, never 0.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 2
    hash: str
    labels: dict[str, str]
    engine: str
    implementation: str
    resolved_implementation: str | None = None
    implementation_seconds: dict[str, float] = {}
    memory_layout: str | None = None
    conversion: list[ParameterRow] | None = Field(
        None,
        description="which parameters of a model of one's own are Bayesian; None for built-in and conventional ones",
    )
    ranks: int
    attempts: int
    verdict: Verdict
    throughput: Throughput
    steps: int
    steps_per_epoch: float
    epochs_completed: int
    train_size: int
    samples: int
    seconds_total: float
    seconds_startup: float
    seconds_training: float
    seconds_warmup: float
    seconds_steady: float
    parameters_total: int
    parameters_trainable: int
    gradient_messages_per_step: int | None = None
    gradient_bytes_per_step: int | None = None
    gradient_blocks: list[GradientBlock] | None = Field(
        None,
        description="messages of gradients in their order, of rank 0; of one rank those that it would send to others; "
        "None in records that do not say",
    )
    fault: str | None = Field(None, description="what one rank suffered on purpose, in words; None: nothing")
    clock_error_seconds: float | None = Field(
        None,
        description="s by which the clocks of the run's hosts, by which waiting is split, may be off to one another; "
        "0: one host; None: not measured, or not needed",
    )
    macs_forward_per_image: int | None
    peak_memory_bytes: int
    energy_joules: float | None = Field(
        None,
        description="J from the first step to the end of the last evaluation, checkpoints included, start-up not; "
        "None when not measurable, or when an earlier attempt took some of it",
    )
    energy_steady_joules: float | None = Field(
        None,
        description="J of this attempt's steps after warm-up, evaluations and checkpoints between them left out; "
        "counters move every 1 to 100 ms: of little worth where these steps take less than some seconds",
    )
    joules_per_sample: float | None = Field(
        None, description="J per training sample: energy_steady_joules / samples of these steps on all ranks"
    )
    energy_source: str | None = Field(
        None,
        description="cray-pm-counters (whole nodes), rapl (processors and memory), nvml (GPUs used), rapl+nvml, or "
        "'not measurable: reason'; None in records of runs that did not look",
    )
    neighbours: dict[str, PhaseLoad] | None = Field(
        None,
        description="by phase of the last attempt, what the rest of the machine did meanwhile, the worst of all ranks; "
        "None in records of runs that did not look",
    )
    loss: float | None
    nll: float | None
    kl: float | None
    accuracy_running: float | None
    accuracy_last_epoch: float | None
    sigma_median: float | None
    sigma_median_start: float | None
    evaluations: list[Evaluation]
    manifest: dict[str, FileEntry]
