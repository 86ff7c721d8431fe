"""What one weight sample for all ranks costs IVON in variance: python tests/numerical/ivon_shared_noise.py --ranks 2,8.

A network is trained for a while; then the gradient of one fixed global batch is taken at many samples of the weights,
once with a sample per rank (`ivon_noise: rank`) and once with one for all (`shared`). Printed are the variances over
samples of the averaged gradient, and of the averaged estimate of the Hessian's diagonal, g (theta - m) / sigma^2, that
h follows: summed over all weights, as a ratio shared / rank. (Were a rank's gradients independent of where its examples
lie, it would be the number of ranks.) The interval is that of the ratio by a bootstrap over samples.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bnn.data import load_dataset
from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.ivon import Ivon
from bnn.settings import TrainSettings
from bnn.training.build import make_trainer

BATCH = 128  # global: with more ranks each has fewer examples


def variances(samples: Tensor, chosen: np.ndarray) -> float:
    """Variance over the chosen samples (samples, weights), summed over weights."""
    return float(samples[torch.from_numpy(chosen)].var(0).sum())


def ratio(shared: Tensor, own: Tensor, draws: np.random.Generator) -> tuple[float, float, float]:
    """Variance of `shared` / that of `own`, and the ends of its 95% interval."""
    every = np.arange(len(own))
    again = [draws.integers(0, len(own), (2, len(own))) for _ in range(400)]
    found = [variances(shared, a) / variances(own, b) for a, b in again]
    low, high = np.quantile(found, (0.025, 0.975))
    return variances(shared, every) / variances(own, every), float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="2,8")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data = load_dataset("mnist-sample", None)
    settings = TrainSettings(
        dataset="mnist-sample", model="conv", width=0.125, estimator="ivon", learning_rate=0.1, ivon_hess_init=0.5,
        ivon_beta2=0.99, batch_size=BATCH, batchnorm_momentum=0.1, epochs=9, max_steps=asked.steps, engine="single",
    )  # fmt: skip
    schedule = Schedule(len(data.train), BATCH, 1, settings.epochs, settings.seed, settings.sharding)
    trainer = make_trainer(settings, data, SingleEngine(), schedule)
    trainer.to_training()
    for step in range(asked.steps):
        trainer.step(step, *trainer.batch(data.train, step), lambda: None)
    optimizer, model = trainer.optimizer, trainer.model.eval()
    assert isinstance(optimizer, Ivon)
    images, labels = trainer.batch(data.train, asked.steps)
    noisy = optimizer.noisy
    means = [parameter.detach().clone() for parameter in noisy]
    sigmas = [optimizer.sigma(parameter).detach() for parameter in noisy]
    make = torch.Generator().manual_seed(1)

    def one(low: int, high: int, noise: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Gradient, and estimate of the Hessian's diagonal, of some examples at a sample of the weights."""
        with torch.no_grad():
            for parameter, mean, sigma, eps in zip(noisy, means, sigmas, noise, strict=True):
                parameter.copy_(mean + sigma * eps)
        loss = functional.cross_entropy(model(images[low:high]), labels[low:high])
        gradients = torch.autograd.grad(loss, noisy)
        curved = [g * eps / sigma for g, eps, sigma in zip(gradients, noise, sigmas, strict=True)]
        return tuple(torch.cat([t.flatten() for t in each]) for each in (gradients, curved))  # type: ignore[return-value]

    def fresh() -> list[Tensor]:
        return [torch.randn(mean.shape, generator=make) for mean in means]

    for ranks in map(int, asked.ranks.split(",")):
        size = BATCH // ranks
        found: dict[bool, list[tuple[Tensor, Tensor]]] = {False: [], True: []}
        for _ in range(asked.samples):
            for shared in (False, True):
                common = fresh()
                parts = [one(r * size, (r + 1) * size, common if shared else fresh()) for r in range(ranks)]
                mean = [torch.stack([part[k] for part in parts]).mean(0) for k in (0, 1)]
                found[shared].append((mean[0], mean[1]))
        draws = np.random.default_rng(2)
        for k, name in enumerate(("gradient", "h")):
            own, common_noise = (torch.stack([each[k] for each in found[shared]]) for shared in (False, True))
            value, low, high = ratio(common_noise, own, draws)
            print(f"{ranks} ranks, {name}: shared / rank {value:.2f} [{low:.2f}, {high:.2f}]", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
