"""What one attempt of a training run consists of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from bnn.data import Dataset
from bnn.data.pipeline import Schedule
from bnn.engine import Engine
from bnn.exchange import GradientExchange
from bnn.heartbeat import Heartbeat
from bnn.records import Evaluation
from bnn.settings import TrainSettings
from bnn.training.folder import RunFolder
from bnn.training.forward import Forward
from bnn.training.implementation import Choice
from bnn.training.recorder import Recorder


@dataclass(frozen=True)
class Run:
    """One attempt of a training run on one rank. It goes from `first_step` to `steps`, the last excluded."""

    settings: TrainSettings
    engine: Engine
    dataset: Dataset
    choice: Choice
    model: nn.Module
    forward: Forward
    exchange: GradientExchange
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    first_step: int
    steps: int
    folder: RunFolder
    recorder: Recorder
    evaluations: list[Evaluation]
    sigma_start: float | None
    heartbeat: Heartbeat
