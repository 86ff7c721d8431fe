"""The worker of our own implementations: a trainer as a run has it, and one fixed batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bnn import kernels
from bnn.bench.implementations import EXACT
from bnn.bench.parts import noise_and_kl
from bnn.bench.protocol import Measured, Spec, serve
from bnn.data import load_dataset
from bnn.data.pipeline import Schedule
from bnn.device import prepare_device, synchronize
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference.predictor import Predictor
from bnn.layers import NoiseKey
from bnn.models.build import count_parameters
from bnn.posterior.trace import trace
from bnn.provenance import versions
from bnn.settings import parse_settings
from bnn.training.build import make_trainer
from bnn.training.recorder import StepClock
from bnn.training.trainer import key_noise
from bnn.training.trial import timed_step

WITHOUT_KERNELS = "bnn-flipout-torch"


def switch_kernels_off() -> None:
    """Make this process compute in plain torch, as where the kernels are not built."""
    setattr(kernels, "available", lambda: False)  # noqa: B010  # every user asks the module's `available` anew


class Ours:
    """One of our implementations, with the trainer that a run with these settings has, and one fixed batch."""

    def __init__(self, spec: Spec) -> None:
        if spec.implementation == WITHOUT_KERNELS:
            switch_kernels_off()
        self.spec = spec
        settings = parse_settings(
            {
                "dataset": "synthetic",
                "dataset_options": {"shape": spec.shape, "classes": spec.classes, "size": spec.train_size},
                "model": spec.model,
                "width": spec.width,
                "batch_size": spec.batch,
                "threads": spec.threads,
                "seed": spec.seed,
                "engine": "single",
                **spec.settings,
            },
            spec.implementation,
        )
        engine = SingleEngine()
        prepare_device(settings.device, settings.threads, engine)
        self.settings = settings
        self.dataset = load_dataset("synthetic", None, **settings.dataset_options)
        size = len(self.dataset.train)
        schedule = Schedule(size, spec.batch, engine.size, settings.epochs, settings.seed, settings.sharding)
        self.trainer = make_trainer(settings, self.dataset, engine, schedule)
        self.model = self.trainer.model
        if spec.implementation == WITHOUT_KERNELS and self.trainer.implementation != WITHOUT_KERNELS:
            raise UserError(f"the kernels could not be switched off: it came to {self.trainer.implementation}")
        self.images, self.labels = self.trainer.form.tensors(self.dataset.train, np.arange(spec.batch) % size)
        self.clock = StepClock(settings.device)
        self.done = 0
        self._inference_input: Tensor | None = None
        self._predictor: Predictor | None = None

    def facts(self) -> dict[str, Any]:
        """The worker's hello."""
        found = {name: version for name, version in versions().items() if name in ("torch", "numpy")}
        found["ISA of torch"] = torch.backends.cpu.get_cpu_capability()
        if kernels.available():
            found["ISA of our kernels"] = kernels.isa()
        total, _ = count_parameters(self.trainer.posterior())
        return {
            "resolved": self.trainer.implementation,
            "parameters_total": total,
            "versions": found,
            "notes": self._notes(),
        }

    def _notes(self) -> list[str]:
        """Why our kernels do not compute what was to be computed by them."""
        if self.trainer.implementation != WITHOUT_KERNELS or self.spec.implementation == WITHOUT_KERNELS:
            return []
        try:
            kernels.load()
        except UserError as error:
            return [f"in plain torch: {error}"]
        return ["in plain torch: the kernels are not worth using on this machine"]

    def step(self) -> Measured:
        """One step of the training loop, until the next one could start; nothing is recorded in it."""
        laps, loss = timed_step(self.trainer, self.done, self.images, self.labels, self.clock)
        self.done += 1
        return Measured(laps["seconds"], laps["seconds_optimizer"], loss)

    def noise_and_kl(self) -> float | None:
        """Seconds of a step that noise and KL take."""
        size = len(self.dataset.train)
        return noise_and_kl(self.settings, self.model, self.trainer.optimizer, size, self.step)

    @torch.inference_mode()
    def draws(self, images: int, draws: int) -> Measured:
        """A forward pass in evaluation mode per draw, each with noise of its own."""
        self.model.eval()
        if self._inference_input is None or len(self._inference_input) != images:
            indices = np.arange(images) % len(self.dataset.test)
            self._inference_input, _ = self.trainer.form.tensors(self.dataset.test, indices)
        if self.spec.implementation == EXACT:
            return self._exact_draws(self._inference_input, draws)
        return self._timed_mean(self._passes(self._inference_input, draws), images, draws)

    def _passes(self, images: Tensor, draws: int) -> Iterator[Tensor]:
        for draw in range(draws):
            key_noise(self.model, NoiseKey(self.settings.seed, draw), self.trainer.compiled)
            yield functional.softmax(self.model(images), dim=1)

    def _exact_draws(self, images: Tensor, draws: int) -> Measured:
        """As `bnn infer` makes them; the predictor is made before the clock starts."""
        if self._predictor is None:
            self._predictor = Predictor(trace(self.model, images[:1], 0, {})[1])
        blocks = list(images.split(self._predictor.block))
        passes = self._predictor.probabilities(self.settings.seed, 0, draws, blocks)
        return self._timed_mean(passes, len(images), draws)

    def _timed_mean(self, passes: Iterable[Tensor], images: int, draws: int) -> Measured:
        """The mean of what `passes` make, (images, classes) each; on a GPU, too, timed until it is there."""
        synchronize(self.settings.device)
        start = time.perf_counter()
        total = torch.zeros(images, self.spec.classes, device=self.settings.device)
        for probabilities in passes:
            total += probabilities
        mean = total / draws
        synchronize(self.settings.device)
        return Measured(time.perf_counter() - start, None, float(mean.mean()))


def main() -> None:
    serve(Ours)
