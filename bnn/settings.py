"""Everything that can be asked of a training run: one field per setting, validated in one place.

The command line (`bnn train --help`) and the campaign's JSON files are both made from this model.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from bnn.applies import IDLE, LATER, NOT_BY_IVON, NOT_SCIENCE
from bnn.errors import UserError, first_problem
from bnn.faults import Fault
from bnn.given import Given, unfit
from bnn.model_names import is_own
from bnn.regular import file_sha256
from bnn.strictjson import read_object

# What no run comes to: more is a slip, and would be found out by whatever gives way first.
MOST, MOST_DRAWS, MOST_THREADS = 10**12, 10**7, 2**16
# Share of its CPUs that others may take from a measurement before it is called disturbed.
FOREIGN_LIMIT = 0.05
# What baseline cnn-best is: the faster of these, both tried in the same run.
BEST, BEST_OF = "cnn-best", ("cnn-compiled", "cnn-kernels")
# Options of a data set that say where its files lie: idle where its checksum is stated.
PATHS = frozenset({"path", "test_path"})


class SettingsError(UserError):
    """A setting that is wrong: `key` is its path (empty where the whole is meant), `what` is wrong with it."""

    def __init__(self, origin: str, key: str, what: str) -> None:
        super().__init__(f"{origin}: {key}: {what}" if key else f"{origin}: {what}")
        self.key, self.what = key, what


class TrainSettings(Given):
    """Settings of one training run. Sizes are per rank unless they say otherwise."""

    dataset: str = Field(
        "synthetic",
        description="cifar10, mnist, mnist-sample, infinite-mnist, synthetic or, of your own, images or arrays",
    )
    dataset_options: dict[str, Any] = Field(
        default_factory=dict, description="options of the dataset, e.g. size, shape"
    )
    data_dir: Path | None = Field(
        None, description="folder of the data sets (default: BNN_DATA_DIR, else results/data)"
    )
    model: str = Field("vgg16", description="vgg16, resnet18, conv, fc or package.module:function")
    width: float = Field(
        1.0, gt=0, le=1000, description="factor on every hidden layer's channels; 1 is the paper's model"
    )
    output: str | None = Field(
        None, description="which output counts of a model of one's own that returns several: its name or its index"
    )
    task: Literal["classification", "segmentation", "regression"] = Field(
        "classification",
        description="classification (a label per image), segmentation (a label per pixel; NLL summed over pixels) or "
        "regression (values; outputs are means, or means and logarithms of variances)",
    )
    observation_std: float = Field(
        1.0, gt=0, description="standard deviation of a regression's targets where the model gives means alone"
    )
    kind: Literal["bnn", "cnn"] = Field("bnn", description="bnn (Bayesian layers) or cnn (conventional layers)")
    estimator: Literal[
        "flipout", "flipout-reference", "reparameterization", "local-reparameterization", "ivon", "mc-dropout"
    ] = Field(
        "flipout",
        description="how a bnn's gradient is estimated; flipout uses this project's kernels where it can; ivon: "
        "conventional layers, whose posterior the optimizer learns (Shen et al. 2024); mc-dropout: conventional "
        "layers and dropout that predictions draw, too (Gal, Ghahramani 2016)",
    )
    dropout_rate: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="mc-dropout's share of channels that is dropped before each layer with weights but the first; a "
        "model of one's own has rates of its own",
    )
    baseline: Literal["cnn-plain", "cnn", "cnn-compiled", "cnn-kernels", "cnn-best"] = Field(
        "cnn",
        description="how a cnn is run: cnn-plain (NCHW, default Adam), cnn (channels_last, fused Adam), cnn-compiled "
        "(cnn by torch.compile), cnn-kernels (cnn with this project's kernels), cnn-best (the faster of these two)",
    )
    compile: bool = Field(
        False, description="run the model's forward and backward pass by torch.compile; noise is then keyed by step"
    )
    mixed_precision: Literal["none", "bfloat16"] = Field(
        "none",
        description="bfloat16: convolutions and matrix products by torch.autocast; parameters, KL and loss stay as "
        "they are (no float16: scaling its loss would make the host wait in every step)",
    )
    prior_scale: float = Field(1.0, gt=0, description="standard deviation s of the prior N(0, s^2)")
    where: str | None = Field(
        None,
        description="which layers of a model of one's own become Bayesian: patterns of their names, separated by "
        "commas, as in head,blocks.*; none: all",
    )
    bayesian_biases: bool = Field(
        False,
        description="the biases of a model of one's own have a posterior where their layer's weights have, with the "
        "same prior; one sample of them per pass",
    )
    mu_init_std: float = Field(0.1, gt=0, description="standard deviation of the posterior means' start")
    rho_init: float = Field(-9.0, description="mean of the start of rho; sigma = softplus(rho)")
    rho_init_std: float = Field(0.1, ge=0, description="standard deviation of the start of rho")
    init: Path | None = Field(
        None,
        description="safetensors file with a conventional network's state_dict: posterior means (a cnn's weights), "
        "biases and statistics start there",
    )
    sigma_share: float | None = Field(
        None,
        gt=0,
        description="sigma starts at this share of |mean| (MOPED, Krishnan et al. 2020), nowhere below "
        "softplus(rho_init); none: as rho_init and rho_init_std say",
    )
    beta: float = Field(1.0, ge=0, description="final weight of the KL term (the paper's eq. 2)")
    beta_anneal_epochs: float = Field(
        0.0, ge=0, description="epochs over which beta rises linearly from 0; 0: constant"
    )
    dense_kl: Literal["once", "twice"] = Field(
        "once",
        description="how often the KL of dense layers counts in the loss; twice: as in the graphs of the paper's "
        "authors, where the layer's own loss and the loss function both have it; for the built-in models",
    )
    ivon_ess: float | None = Field(
        None, gt=0, description="ivon's effective sample size lambda; none: the number of training examples"
    )
    ivon_delta: float = Field(
        1e-4, gt=0, description="ivon's weight decay delta; the prior of its weights is N(0, 1 / (lambda delta))"
    )
    ivon_hess_init: float = Field(
        1.0, gt=0, description="start of ivon's h; sigma = 1 / sqrt(lambda (h + delta)) starts there"
    )
    ivon_beta1: float = Field(0.9, ge=0, lt=1, description="ivon's decay of the gradient's running mean")
    ivon_beta2: float = Field(0.99999, ge=0, lt=1, description="ivon's decay of h")
    ivon_clip_radius: float | None = Field(
        None, gt=0, description="ivon's largest preconditioned step, before the learning rate; none: no limit"
    )
    ivon_rescale: bool = Field(
        True, description="ivon's steps are the learning rate x (ivon_hess_init + ivon_delta) / (h + delta)"
    )
    ivon_noise: Literal["rank", "shared"] = Field(
        "rank",
        description="ivon: rank (every rank has a weight sample of its own, two numbers travel per weight) or shared "
        "(all ranks share one, one number travels)",
    )
    batch_size: int = Field(128, gt=0, le=MOST, description="training examples per rank and step")
    epochs: int = Field(1, gt=0, le=MOST, description="passes over the training set")
    max_steps: int | None = Field(None, gt=0, le=MOST, description="stop after this many steps, whatever the epochs")
    until_accuracy: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="training ends before its last epoch after the first one at whose end the training accuracy, as "
        "mean of all steps and ranks so far (the paper's running accuracy), is at least this; none: after all epochs",
    )
    warmup_steps: int = Field(2, ge=0, le=MOST, description="first steps of every attempt, measured apart")
    optimizer: Literal["adam", "rmsprop", "sgd"] = Field("adam", description="adam, rmsprop or sgd (with momentum)")
    momentum: float = Field(0.9, ge=0, lt=1, description="share of its last step that sgd goes on with, as torch's SGD")
    weight_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="a step shrinks all parameters of a cnn, or by mc-dropout, by its learning rate x this, apart from "
        "the gradient (decoupled, Loshchilov, Hutter 2019); any other bnn has its prior instead",
    )
    gradient_clip: float | None = Field(
        None, gt=0, description="largest norm of all gradients together, averaged over ranks; none: no limit"
    )
    learning_rate: float = Field(
        1e-4, gt=0, description="learning rate for one rank; ivon's is that of SGD, such as 0.1, and has to be given"
    )
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant",
        description="constant (the paper) or cosine (Loshchilov, Hutter 2017): from the learning rate down to "
        "lr_final_share of it at the end of the run",
    )
    lr_warmup_epochs: float = Field(
        0.0, ge=0, description="epochs over which the learning rate first rises linearly to its full value"
    )
    lr_final_share: float = Field(0.0, ge=0, le=1, description="share of the learning rate where cosine ends")
    lr_scaling: Literal["ranks", "none"] = Field("ranks", description="ranks: learning rate x number of ranks")
    sharding: Literal["disjoint", "unsharded"] = Field(
        "disjoint", description="disjoint: ranks share one shuffle; unsharded: each shuffles the whole set (the paper)"
    )
    augmentation: Literal["none", "flip", "crop", "flip-crop"] = Field(
        "none",
        description="training images are mirrored (flip) and shifted by up to 4 pixels, zeros moving in (crop); keyed "
        "by seed, step and example; for classification",
    )
    normalisation: Literal["none", "channels"] = Field(
        "none",
        description="channels: the model's first operation takes the training images' mean from each channel and "
        "divides by their standard deviation; both are part of the posterior",
    )
    batchnorm_statistics: Literal["average", "rank0"] = Field(
        "average", description="running statistics used to evaluate and save: mean over ranks, or rank 0's (the paper)"
    )
    batchnorm_momentum: float | None = Field(
        None,
        gt=0,
        le=1,
        description="weight of a batch in BatchNorm's running statistics; none: the model's own (0.01)",
    )
    engine: Literal["horovod", "torch", "single"] = Field("horovod", description="what reduces the gradients")
    device: Literal["cpu", "cuda"] = Field("cpu", description="device of every rank")
    threads: int = Field(1, gt=0, le=MOST_THREADS, description="threads per rank")
    precision: Literal["float32", "float64"] = Field("float32", description="floating point type")
    cycle_time_ms: float = Field(5.0, gt=0, description="Horovod's cycle time, milliseconds (the paper: 5)")
    fusion_buffer_mb: float = Field(64.0, ge=0, description="Horovod's fusion buffer, MiB (the paper: 64)")
    gradient_block_mb: float = Field(
        16.0, ge=0, description="gradients leave in blocks of at least this many MiB; 0: one message per parameter"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of initialisation, shuffling and noise")
    evaluate: Literal["none", "final", "epoch"] = Field("none", description="when to measure held-out accuracy")
    evaluate_steps: int | None = Field(
        None, gt=0, le=MOST, description="measure it after every so many steps, too; none: only when evaluate says"
    )
    evaluate_images: int | None = Field(
        None, gt=0, le=MOST, description="images of an evaluation, evenly over the held-out set; none: all"
    )
    evaluate_draws: int = Field(10, gt=0, le=MOST_DRAWS, description="Monte-Carlo draws of an evaluation")
    checkpoint_epochs: int = Field(0, ge=0, le=MOST, description="epochs between checkpoints; 0: none")
    save_posterior: bool = Field(True, description="write the trained posterior at the end")
    fault: Fault | None = Field(
        None, description='for experiments: what one rank suffers on purpose, as in {"rank": 1, "slow": 0.1}'
    )
    cv_limit: float = Field(0.1, gt=0, description="coefficient of variation of step times above which a run is WARN")
    foreign_limit: float = Field(
        FOREIGN_LIMIT,
        gt=0,
        description="share of its CPUs' time that other programs, the hypervisor or a quota may take from a run during "
        "its steady steps; beyond it the run is WARN",
    )
    labels: dict[str, str] = Field(default_factory=dict, description="free labels, copied into the summary")

    @model_validator(mode="after")
    def _fits_the_model(self) -> Self:
        """Refuse what the model cannot do, or has no choice of."""
        if self.output is not None and not is_own(self.model):
            raise unfit("output", f"model {self.model} has one output; only package.module:function may have several")
        if self.task != "classification" and not is_own(self.model):
            raise unfit("task", f"{self.task} needs a model of one's own; {self.model} classifies")
        if self.task == "regression" and self.until_accuracy is not None:
            raise unfit("until_accuracy", "a regression has no accuracy")
        if self.task != "classification" and self.augmentation != "none":
            raise unfit("augmentation", f"{self.augmentation} would move images and not the targets of {self.task}")
        if self.by_dropout and is_own(self.model) and "dropout_rate" in self.model_fields_set:
            raise unfit("dropout_rate", f"{self.model} has dropout of its own; the rate is of the built-in models")
        if self.of_layers and self.dense_kl != "once" and is_own(self.model):
            raise unfit("dense_kl", f"{self.dense_kl} is how the paper's models were trained; {self.model} is not one")
        if self.of_layers and self.where is not None and not is_own(self.model):
            raise unfit("where", f"all layers of {self.model} are Bayesian; only package.module:function has a choice")
        if self.of_layers and not all(self.where_patterns):
            raise unfit("where", f"{self.where!r} has an empty pattern; give names as in head,blocks.*")
        if self.of_layers and self.bayesian_biases and not is_own(self.model):
            raise unfit(
                "bayesian_biases", f"biases of {self.model} have no prior; only package.module:function has a choice"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse what no run could do; settings of the other kind are not looked at."""
        if self.mixed_precision != "none" and self.precision != "float32":
            raise unfit("mixed_precision", f"{self.mixed_precision} needs precision float32, not {self.precision}")
        if self.kind == "cnn" and self.compile and self.baseline in ("cnn-kernels", "cnn-best"):
            raise unfit("compile", f"baseline {self.baseline} says by itself what is compiled")
        if self.kind == "cnn" and self.baseline == "cnn-kernels" and not self.kernels_fit:
            raise unfit("baseline", "cnn-kernels needs device cpu, precision float32 and no mixed_precision")
        if self.lr_warmup_epochs and self.lr_warmup_epochs >= self.epochs:
            raise unfit("lr_warmup_epochs", f"{self.lr_warmup_epochs:g} must be fewer than the run's epochs")
        if self.evaluate == "none" and self.evaluate_steps is not None:
            raise unfit("evaluate_steps", "evaluate is none; final measures after these steps and at the end")
        if self.evaluate == "none" and self.evaluate_images is not None:
            raise unfit("evaluate_images", "evaluate is none: nothing is measured on them")
        if self.fault is not None and self.device != "cpu":
            raise unfit("fault", "faults are for device cpu: on a GPU the host runs ahead of the steps")
        if self.by_ivon:
            for key, reason in NOT_BY_IVON.items():
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise unfit(key, reason)
            if "learning_rate" not in self.model_fields_set:
                raise unfit("learning_rate", "ivon has no default; published ones are between 0.1 and 2.5")
        return self

    @property
    def by_ivon(self) -> bool:
        """Whether the optimizer learns the posterior of conventional layers (`bnn.ivon`)."""
        return self.kind == "bnn" and self.estimator == "ivon"

    @property
    def of_layers(self) -> bool:
        """Whether the posterior is one of Bayesian layers, which `rho_init` and `prior_scale` describe."""
        return self.kind == "bnn" and not self.by_ivon and not self.by_dropout

    @property
    def by_dropout(self) -> bool:
        """Whether a draw is a set of masks, of conventional layers (`bnn.layers.dropout`)."""
        return self.kind == "bnn" and self.estimator == "mc-dropout"

    @property
    def conventional(self) -> bool:
        """Whether the layers that are trained are conventional ones."""
        return not self.of_layers

    @property
    def decays(self) -> bool:
        """Whether weight decay applies: it takes the place of a prior."""
        return self.kind == "cnn" or self.by_dropout

    @property
    def where_patterns(self) -> list[str]:
        """The patterns of `where`, without spaces around them; none where it is not set."""
        return [] if self.where is None else [pattern.strip() for pattern in self.where.split(",")]

    @property
    def kernels_fit(self) -> bool:
        """Whether this project's kernels can compute this run: float32 on a CPU, not compiled by torch."""
        plain = self.mixed_precision == "none" and not self.compile
        return plain and self.device == "cpu" and self.precision == "float32"

    @property
    def compiled(self) -> bool:
        """Whether the forward pass goes through torch.compile."""
        return self.compile or (self.kind == "cnn" and self.baseline == "cnn-compiled")

    @property
    def implementation(self) -> str:
        """Name of what is asked for: bnn-<estimator> or the CNN baseline, and how it departs from that.

        `bnn-flipout` is the one with kernels, `bnn-flipout-torch` the one without; so is it with ivon and mc-dropout.
        What runs is named by `bnn.training.implementation`: only the machine knows whether it has the kernels.
        """
        name = f"bnn-{self.estimator}" if self.kind == "bnn" else self.baseline
        if name in ("bnn-flipout", "bnn-ivon", "bnn-mc-dropout") and not self.kernels_fit:
            name += "-torch"
        if self.compiled and name != "cnn-compiled":
            name = "cnn-compiled" if name == "cnn" else f"{name}-compiled"
        return name if self.mixed_precision == "none" else f"{name}-{self.mixed_precision}"

    @property
    def tuned(self) -> bool:
        """Whether tensors are channels_last and the optimizer fused, unlike what the paper's ratios are judged by."""
        return self.estimator != "flipout-reference" if self.kind == "bnn" else self.baseline != "cnn-plain"

    def science(self) -> dict[str, Any]:
        """The settings that change the result; those that do not apply to this kind are left out."""
        skip = NOT_SCIENCE | IDLE[self.estimator if self.kind == "bnn" and self.conventional else self.kind]
        skip |= {"momentum"} if self.by_ivon or self.optimizer != "sgd" else set()
        skip |= {"lr_final_share"} if self.lr_schedule == "constant" else set()
        skip |= {key for key in LATER if getattr(self, key) == type(self).model_fields[key].default}
        values = {key: value for key, value in self.model_dump(mode="json").items() if key not in skip}
        if self.init is not None:
            values["init"] = content_digest(self.init)  # what it holds makes the result, not where it lies
        if "checksum" in self.dataset_options:  # the same, of a data set of one's own
            values["dataset_options"] = {key: value for key, value in self.dataset_options.items() if key not in PATHS}
        return values

    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of `science()` as canonical JSON."""
        text = json.dumps(self.science(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_digest(path: Path) -> str:
    """`sha256:...` of a file, read once while it stays the same; says so where it cannot be read."""
    try:
        facts = path.stat()
        return _digest(path, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    except (OSError, UserError):  # the run that needs it names the error; a table of finished runs goes on
        return f"unreadable: {path}"


@lru_cache(maxsize=64)
def _digest(path: Path, *_facts: int) -> str:
    return f"sha256:{file_sha256(path)}"


def parse_settings(values: dict[str, Any], origin: str) -> TrainSettings:
    """Validate settings; `origin` (a file or the command line) is named in the error.

    Raises SettingsError with one line that names the key and what is wrong with it.
    """
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(origin, *first_problem(error)) from None


def read_settings(path: Path) -> TrainSettings:
    """Read settings from a JSON file. Raises UserError naming the file."""
    return parse_settings(read_object(path, "an object of settings"), str(path))
