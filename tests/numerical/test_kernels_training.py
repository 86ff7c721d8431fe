"""Networks trained with the kernels reach the accuracy of the reference estimator, within what seeds make of it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bnn import kernels
from bnn.data import load_dataset
from bnn.layers import NoiseKey, PosteriorInit, kl_divergence, set_noise
from bnn.models.build import build_model
from bnn.optim import FusedRMSprop
from tests.support.kernels import need_kernels

need_kernels()

SEEDS = range(3)
BATCH = 100
RATE = 1e-3
NOISY = PosteriorInit(rho_init=-3.0)  # sigma near 0.05: half of mu's spread
DRAWS = 3


@pytest.fixture(autouse=True)
def take_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: True)


@functools.cache
def mnist() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels."""
    data = load_dataset("mnist-sample")
    arrays = [array for split in (data.train, data.test) for array in (split.images, split.labels)]
    images, labels, test, truth = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return images.float() / 255, labels, test.float() / 255, truth


def accuracy(model_name: str, estimator: str, seed: int, steps: int) -> float:
    """Of the mean prediction over some draws, on the test images, after training as the paper does."""
    images, labels, test, truth = mnist()
    torch.manual_seed(seed)
    width = 0.125 if model_name == "conv" else 1.0
    model = build_model(
        model_name, "bnn", input_shape=(1, 28, 28), classes=10, width=width, estimator=estimator, init=NOISY
    )
    if estimator == "flipout":
        optimizer: torch.optim.Optimizer = FusedRMSprop(model.parameters(), lr=RATE, alpha=0.9)
    else:
        optimizer = torch.optim.RMSprop(model.parameters(), lr=RATE, alpha=0.9)
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        if step % (len(images) // BATCH) == 0:
            shuffled = torch.randperm(len(images), generator=order).split(BATCH)
        batch = shuffled[step % (len(images) // BATCH)]
        set_noise(model, NoiseKey(seed, step))
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images[batch]), labels[batch]) + kl_divergence(model) / len(images)
        loss.backward()
        optimizer.step()
    mean = torch.zeros(len(test), 10)
    with torch.no_grad():
        for draw in range(DRAWS):
            set_noise(model, NoiseKey(seed, steps + draw))
            mean += model(test).softmax(1)
    return float((mean.argmax(1) == truth).double().mean())


@pytest.mark.slow
@pytest.mark.parametrize(("model", "steps"), [("fc", 300), pytest.param("conv", 60, marks=pytest.mark.thorough)])
def test_training_reaches_the_references_accuracy(model: str, steps: int) -> None:
    """Means over the seeds differ by less than 4 standard errors (Welch), each at least half of the test set's own."""
    fast, slow = (
        np.array([accuracy(model, estimator, seed, steps) for seed in SEEDS])
        for estimator in ("flipout", "flipout-reference")
    )
    least = slow.mean() * (1 - slow.mean()) / 1000 / 4  # variance; of few seeds one estimates too small a one at times
    error = sum(max(group.var(ddof=1), least) / len(SEEDS) for group in (fast, slow)) ** 0.5
    assert min(fast.min(), slow.min()) > 0.8, (fast, slow)
    assert abs(fast.mean() - slow.mean()) < 4 * error, (fast, slow)
