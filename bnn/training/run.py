"""What one attempt of a training run consists of: a trainer, and the books that are kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnn.data import Dataset
from bnn.heartbeat import Heartbeat
from bnn.layers.report import ConvertedParameter
from bnn.posterior import GraphNetwork
from bnn.records import Evaluation
from bnn.settings import TrainSettings
from bnn.training.folder import RunFolder
from bnn.training.recorder import Recorder
from bnn.training.trainer import Trainer
from bnn.training.waiting import Waiting


@dataclass(frozen=True)
class Run:
    """One attempt of a training run on one rank. It goes from `first_step` to `steps`, the last excluded.

    `settings` are those that were asked for, and name the run; `trainer.settings` are those that run. `tried` has the
    median seconds of a step of every baseline among which cnn-best chose, on rank 0. `sigma_start` is the median of
    the posterior's sigma before the first step of all, None without Bayesian layers.
    """

    settings: TrainSettings
    trainer: Trainer
    dataset: Dataset
    first_step: int
    steps: int
    folder: RunFolder
    recorder: Recorder
    heartbeat: Heartbeat
    waiting: Waiting
    evaluations: list[Evaluation]
    sigma_start: float | None
    tried: dict[str, float]
    conversion: list[ConvertedParameter] = field(default_factory=list)  # of a Bayesian model of one's own
    recorded: GraphNetwork | None = None  # of a model that is to be saved, on rank 0: its graph (not by IVON)
