"""One step of training, and what takes part in it. A trainer knows no folder, record, clock or sign of life.

On a GPU a step only queues work: nothing in it makes the host wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from bnn.data.augment import augmented
from bnn.data.base import Split
from bnn.data.pipeline import Schedule
from bnn.engine import Engine
from bnn.exchange import GradientExchange
from bnn.ivon import Ivon
from bnn.layers import BayesianLinear, NoiseKey, bayesian_layers, kl_divergence, set_noise
from bnn.layers.noise import layer_seed, noisy_layers
from bnn.optim import RateSchedule, descend
from bnn.settings import TrainSettings
from bnn.training.descent import learning_rate, rate_schedule
from bnn.training.forward import Forward
from bnn.training.implementation import implementation_of
from bnn.training.ivon import posterior_of
from bnn.training.task import Task

Lap = Callable[[], object]

DTYPES = {"float32": torch.float32, "float64": torch.float64}
OTHER_NOISE = -1  # in place of a layer's index: what draws from torch's default generator, as dropout does


@dataclass(frozen=True)
class Trainer:
    """What trains a model on one rank: its step, and nothing of what is kept of it.

    `settings` are those that run: where cnn-best was asked for, they have the baseline that was chosen. `forward` maps
    images to outputs as training computes them (bnn.training.forward); `exchange` averages the gradients of `model`;
    `layout` is how images lie in memory; `held` are the parts of the model that never leave evaluation mode. `twin` is
    the Bayesian twin of a conventional model that IVON trains, without memory (bnn.training.ivon), else None.
    """

    settings: TrainSettings
    engine: Engine
    schedule: Schedule
    model: nn.Module
    task: Task
    layout: torch.memory_format
    held: tuple[nn.Module, ...]
    forward: Forward
    optimizer: torch.optim.Optimizer
    exchange: GradientExchange
    twin: nn.Module | None = None

    def posterior(self) -> nn.Module:
        """The model that is evaluated and saved: `model` itself, or what IVON has learnt so far as a Bayesian model."""
        if self.twin is None or not isinstance(self.optimizer, Ivon):
            return self.model
        return posterior_of(self.model, self.twin, self.optimizer)

    def draw(self, step: int) -> Tensor | None:
        """Choose the noise of a step. Under IVON the model then holds a sample of its weights; returns the KL, nats."""
        settings, rank = self.settings, self.engine.rank
        key_noise(self.model, NoiseKey(settings.seed, step, rank), self.compiled)
        if not isinstance(self.optimizer, Ivon):
            return None
        return self.optimizer.sample(NoiseKey(settings.seed, step, rank if settings.ivon_noise == "rank" else 0))

    @cached_property
    def implementation(self) -> str:
        """The name of what runs."""
        return implementation_of(self.settings, self.model)

    @cached_property
    def form(self) -> Form:
        """How images lie in memory."""
        return form_of(self.settings, self.layout)

    @cached_property
    def compiled(self) -> bool:
        """Whether the forward pass goes through torch.compile."""
        return self.settings.compiled

    def beta(self, step: int) -> float:
        """Weight of KL / n in the loss of a step. IVON minimises NLL + KL / lambda, hence n / lambda."""
        if isinstance(self.optimizer, Ivon):
            return self.schedule.n / self.optimizer.options.ess
        return beta_at(step, self.schedule, self.settings)

    @cached_property
    def rates(self) -> RateSchedule:
        """Which share of the learning rate each step takes."""
        return rate_schedule(self.settings, self.schedule)

    @cached_property
    def full_rate(self) -> float:
        """The learning rate of which steps take a share."""
        return learning_rate(self.settings, self.engine.size)

    @cached_property
    def decay(self) -> float:
        """The weight decay, where it applies."""
        return self.settings.weight_decay if self.settings.decays else 0.0

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self.full_rate * self.rates.share(step)

    def to_training(self) -> None:
        """Put the model into training mode, but for what it holds in evaluation mode."""
        self.model.train()
        for module in self.held:
            module.training = False

    def batch(self, split: Split, step: int) -> tuple[Tensor, Tensor]:
        """This rank's images and labels of `step`, augmented as the settings say, as `Form.tensors` makes them."""
        indices, how = self.schedule.indices(step, self.engine.rank), self.settings.augmentation
        if how == "none":
            return self.form.tensors(split, indices)
        images = augmented(split.images[indices], indices, how, self.settings.seed, step)
        return self.form.tensors(Split(images, split.labels[indices]), np.arange(len(indices)))

    def step(self, step: int, images: Tensor, targets: Tensor, lap: Lap) -> tuple[float, Tensor]:
        """Forward and backward pass, exchange and update on images (N, C, H, W) and the task's targets.

        `lap` is called after each of the four. Returns beta and the tensor [nll, kl, loss, accuracy, finite on all
        ranks] on the images' device; nll, kl and loss are in nats.
        """
        model, schedule = self.model, self.schedule
        learnt = self.draw(step)
        output = self.forward(images)
        nll = self.task.nll(output, targets)
        kl = kl_of(model, self.settings) if learnt is None else learnt
        beta = self.beta(step)
        loss = nll + beta * kl / schedule.n
        lap()
        spread_failure(loss).backward()
        lap()
        self.exchange.wait()
        lap()
        finite = finite_everywhere(model, loss)
        descend(self.optimizer, self.rate(step), self.decay, self.settings.gradient_clip)
        lap()
        accuracy = self.task.accuracy(output.detach(), targets).to(loss.dtype)
        return beta, torch.stack([nll.detach(), kl.detach(), loss.detach(), accuracy, finite])


@dataclass(frozen=True)
class Form:
    """The device ('cpu' or 'cuda'), floating point type and memory format of a run's images."""

    device: str
    dtype: torch.dtype
    layout: torch.memory_format

    def tensors(self, split: Split, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) scaled to [0, 1] and targets (N, ...): those of `split` that `indices` (N,) name."""
        images = to_device(np.ascontiguousarray(split.images[indices]), self.device)
        scaled = images.to(self.dtype).div_(255).contiguous(memory_format=self.layout)
        targets = to_device(split.labels[indices], self.device)
        return scaled, targets.to(self.dtype) if targets.is_floating_point() else targets


def form_of(settings: TrainSettings, layout: torch.memory_format) -> Form:
    """The form of images in which a run with these settings computes whose model lies in memory like `layout`."""
    return Form(settings.device, DTYPES[settings.precision], layout)


def to_device(array: np.ndarray, device: str) -> Tensor:
    """A copy on the device. A copy to a GPU leaves from pinned memory: the host would wait for it from any other."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device == "cuda" else tensor


def kl_of(model: nn.Module, settings: TrainSettings) -> Tensor:
    """The KL divergence of the loss, a 0-dim tensor in nats: of all layers, or with that of dense ones twice."""
    if settings.dense_kl == "once":
        return kl_divergence(model)
    terms = [layer.kl() * (2 if isinstance(layer, BayesianLinear) else 1) for layer in bayesian_layers(model)]
    return torch.stack(terms).sum()


def beta_at(step: int, schedule: Schedule, settings: TrainSettings) -> float:
    """Weight of the KL term: constant, or rising linearly from 0 over `beta_anneal_epochs` (the paper, section 2.1)."""
    ramp = settings.beta_anneal_epochs * schedule.epoch_samples / schedule.step_samples
    return settings.beta * min(1.0, step / ramp) if ramp else settings.beta


def spread_failure(loss: Tensor) -> Tensor:
    """The loss itself while it is finite, else a loss whose gradients are all NaN.

    The average of the gradients then carries the failure to every rank within this step, without another message.
    """
    return loss * (1 + 0 * loss.detach())


def finite_everywhere(model: nn.Module, like: Tensor) -> Tensor:
    """1 where the loss was finite on all ranks, else 0: an averaged gradient tells it, alike on every rank."""
    last = [p.grad for p in model.parameters() if p.grad is not None][-1]
    return torch.isfinite(last).all().to(like.dtype)


def key_noise(model: nn.Module, key: NoiseKey, compiled: bool = False) -> None:
    """Make the next forward pass draw the noise named by `key`.

    A compiled Bayesian model draws all of it from torch's default generator, because a compiled graph cannot hold
    generators of its layers' own. Its numbers are other ones than those of a model that is not compiled, but the same
    in every run and resumption.
    """
    torch.manual_seed(layer_seed(key, OTHER_NOISE))
    if not compiled:
        set_noise(model, key)
        return
    for layer in noisy_layers(model):
        layer.unkeyed()
