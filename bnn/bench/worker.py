"""The worker of our own implementations: built by the training package's functions, stepped by its `take_step`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast

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
from bnn.exchange import GradientExchange
from bnn.inference.predictor import Predictor
from bnn.layers import NoiseKey
from bnn.models.build import count_parameters
from bnn.posterior.trace import trace
from bnn.provenance import versions
from bnn.settings import parse_settings
from bnn.training.batches import to_tensors
from bnn.training.clock import StepClock
from bnn.training.forward import make_forward
from bnn.training.implementation import what_runs
from bnn.training.run import Run
from bnn.training.start import make_model, make_optimizer
from bnn.training.step import key_noise, take_step

WITHOUT_KERNELS = "bnn-flipout-torch"


def switch_kernels_off() -> None:
    """Make this process compute in plain torch, as where the kernels are not built."""
    setattr(kernels, "available", lambda: False)  # noqa: B010  # every user asks the module's `available` anew


class Ours:
    """One of our implementations: model and optimizer as a run with these settings has them, and one fixed batch."""

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
        self.model = make_model(settings, self.dataset)
        self.resolved = what_runs(settings, self.model)
        if spec.implementation == WITHOUT_KERNELS and self.resolved != WITHOUT_KERNELS:
            raise UserError(f"the kernels could not be switched off: it came to {self.resolved}")
        optimizer = make_optimizer(settings, self.model, 1)
        size = len(self.dataset.train)
        # what `take_step` reads of a run; a benchmark keeps no records of its own
        run = SimpleNamespace(
            settings=settings,
            engine=engine,
            model=self.model,
            forward=make_forward(settings, self.model),
            exchange=GradientExchange(engine, self.model.named_parameters(), settings.gradient_block_mb),
            optimizer=optimizer,
            schedule=Schedule(size, spec.batch, 1, settings.epochs, settings.seed, settings.sharding),
        )
        self.run = cast(Run, run)
        self.images, self.labels = to_tensors(self.dataset.train, np.arange(spec.batch) % size, settings)
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
        total, _ = count_parameters(self.model)
        return {
            "resolved": self.resolved,
            "parameters_total": total,
            "versions": found,
            "notes": self._notes(),
        }

    def _notes(self) -> list[str]:
        """Why our kernels do not compute what was to be computed by them."""
        if self.resolved == self.spec.implementation or self.resolved != WITHOUT_KERNELS:
            return []
        try:
            kernels.load()
        except UserError as error:
            return [f"in plain torch: {error}"]
        return ["in plain torch: the kernels are not worth using on this machine"]

    def step(self) -> Measured:
        """One step of the training loop, until the next one could start; nothing is recorded in it."""
        self.model.train()
        self.clock.start()
        self.clock.lap()  # the batch is there
        _, metrics = take_step(self.run, self.done, self.images, self.labels, self.clock)
        loss = float(metrics[2])  # waits for a GPU, the update included
        self.done += 1
        self.clock.stop()
        laps = self.clock.timing.seconds()
        return Measured(laps["seconds"], laps["seconds_optimizer"], loss)

    def noise_and_kl(self) -> float | None:
        """Seconds of a step that noise and KL take."""
        size = len(self.dataset.train)
        return noise_and_kl(self.settings, self.model, self.run.optimizer, size, self.step)

    @torch.inference_mode()
    def draws(self, images: int, draws: int) -> Measured:
        """A forward pass in evaluation mode per draw, each with noise of its own."""
        self.model.eval()
        if self._inference_input is None or len(self._inference_input) != images:
            indices = np.arange(images) % len(self.dataset.test)
            self._inference_input, _ = to_tensors(self.dataset.test, indices, self.settings)
        if self.spec.implementation == EXACT:
            return self._exact_draws(self._inference_input, draws)
        return self._timed_mean(self._passes(self._inference_input, draws), images, draws)

    def _passes(self, images: Tensor, draws: int) -> Iterator[Tensor]:
        for draw in range(draws):
            key_noise(self.settings, self.model, NoiseKey(self.settings.seed, draw))
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
