"""Trains one network by our IVON and by the optimizer that its authors publish: the same data, starts and settings.

    python tests/numerical/ivon_against_reference.py --data cifar10-jpeg --seeds 5 [--steps 400] [--out FILE.parquet]

It needs the package `ivon-opt`, as its users install it, in an environment of its own or on PYTHONPATH; no test needs
it. Seed by seed all see the same batches from the same start, and are asked by as many draws for the same held-out
images. Ours has noise on the weights of convolutions and dense layers. Theirs is taken twice: as it is used, with
noise on all parameters, and on the same weights as ours, with ours' rule for the other parameters (SGD with a debiased
mean of gradients). Each measure's difference is told with the 95% interval of its mean over seeds (Student's t, paired
by seed).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.data import Dataset, load_dataset
from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.inference.measures import PredictiveStatistics
from bnn.layers import NoiseKey, set_noise
from bnn.metrics import mean_interval
from bnn.settings import TrainSettings
from bnn.training.build import make_model, make_trainer
from bnn.training.descent import rate_schedule
from bnn.training.layout import layout_of
from bnn.training.trainer import form_of

DRAWS = 20
AT_ONCE = 250
MEASURES = ("accuracy", "nll", "brier")
SAME = "theirs on the same weights"


def batches(settings: TrainSettings, data: Dataset, images: int) -> list[tuple[Tensor, Tensor]]:
    form = form_of(settings, layout_of(settings, make_model(settings, data)))
    chosen = np.linspace(0, len(data.test) - 1, images).round().astype(np.int64)
    return [form.tensors(data.test, chosen[low : low + AT_ONCE]) for low in range(0, images, AT_ONCE)]


def by_ours(settings: TrainSettings, data: Dataset, steps: int, test: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    schedule = Schedule(len(data.train), settings.batch_size, 1, settings.epochs, settings.seed, settings.sharding)
    trainer = make_trainer(settings, data, SingleEngine(), schedule)
    trainer.to_training()
    start = time.perf_counter()
    for step in range(steps):
        trainer.step(step, *trainer.batch(data.train, step), lambda: None)
    seconds = time.perf_counter() - start
    posterior = trainer.posterior().eval()

    def drawn(draw: int) -> nn.Module:
        set_noise(posterior, NoiseKey(settings.seed, draw, 1 << 21))
        return posterior

    with torch.no_grad():
        total = [sum(functional.softmax(drawn(d)(x), 1) for d in range(DRAWS)) / DRAWS for x, _ in test]
    return told(total, test) | {"seconds": seconds}


class Debiased:
    """SGD with a debiased running mean of gradients, as ours steps what has no noise."""

    def __init__(self, parameters: list[nn.Parameter], beta: float) -> None:
        self.parameters, self.beta, self.steps = parameters, beta, 0
        self.means = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        self.steps += 1
        for parameter, mean in zip(self.parameters, self.means, strict=True):
            assert parameter.grad is not None
            mean.lerp_(parameter.grad, 1 - self.beta)
            parameter.sub_(mean, alpha=rate / (1 - self.beta**self.steps))


def by_theirs(
    settings: TrainSettings, data: Dataset, steps: int, test: list[tuple[Tensor, Tensor]], weights_only: bool = False
) -> dict[str, float]:
    import ivon  # type: ignore[import-not-found]

    schedule = Schedule(len(data.train), settings.batch_size, 1, settings.epochs, settings.seed, settings.sharding)
    model = make_model(settings, data).train()
    noisy = [parameter for parameter in model.parameters() if parameter.ndim > 1 or not weights_only]
    plain = Debiased([p for p in model.parameters() if p.ndim == 1 and weights_only], settings.ivon_beta1)
    optimizer = ivon.IVON(
        noisy, lr=settings.learning_rate, ess=float(len(data.train)), hess_init=settings.ivon_hess_init,
        beta1=settings.ivon_beta1, beta2=settings.ivon_beta2, weight_decay=settings.ivon_delta,
    )  # fmt: skip
    rates, form = rate_schedule(settings, schedule), form_of(settings, layout_of(settings, model))
    torch.manual_seed(settings.seed)
    start = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rates.share(step)
        images, labels = form.tensors(data.train, schedule.indices(step, 0))
        with optimizer.sampled_params(train=True):
            model.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        plain.step(settings.learning_rate * rates.share(step))
    seconds = time.perf_counter() - start
    model.eval()
    total = [torch.zeros(len(x), data.classes) for x, _ in test]
    for _ in range(DRAWS):
        with torch.no_grad(), optimizer.sampled_params():
            total = [done + functional.softmax(model(x), 1) / DRAWS for done, (x, _) in zip(total, test, strict=True)]
    return told(total, test) | {"seconds": seconds}


def told(total: list[Any], test: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    probabilities, labels = torch.cat(total), torch.cat([labels for _, labels in test])
    statistics = PredictiveStatistics(*probabilities.shape, labels.numpy())
    statistics.add(0, probabilities.clamp_max(1).numpy()[None])
    return {name: value for name, value in statistics.summary().items() if name in MEASURES}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-sample", help="mnist-sample, or a prepared set of images")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    built_in = asked.data == "mnist-sample"
    name, options = (asked.data, {}) if built_in else ("images", {"name": asked.data})
    data = load_dataset(name, asked.data_dir, **options)
    epochs = -(-asked.steps * 64 // len(data.train))
    rows = []
    for seed in range(1, asked.seeds + 1):
        settings = TrainSettings(
            dataset=name, dataset_options=options, model="resnet18", width=0.25, estimator="ivon", learning_rate=0.2,
            ivon_delta=2e-4, ivon_hess_init=0.5, ivon_beta2=0.9975, batch_size=64, batchnorm_momentum=0.1,
            lr_schedule="cosine", epochs=epochs, max_steps=asked.steps, engine="single", seed=seed,
        )  # fmt: skip
        test = batches(settings, data, min(asked.images, len(data.test)))
        runs = [("ours", by_ours), ("theirs", by_theirs), (SAME, partial(by_theirs, weights_only=True))]
        for who, run in runs if seed % 2 else runs[::-1]:
            rows.append({"seed": seed, "who": who} | run(settings, data, asked.steps, test))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    if asked.out:
        table.to_parquet(asked.out)
    for measure, other in itertools.product((*MEASURES, "seconds"), ("theirs", SAME)):
        pair = table.pivot(index="seed", columns="who", values=measure)
        found = mean_interval(list(pair["ours"] - pair[other]))
        print(f"{measure}: ours {pair['ours'].mean():.4f}, {other} {pair[other].mean():.4f}, difference "
              f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]; over seeds "
              f"{pair['ours'].std():.4f} and {pair[other].std():.4f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
