"""The numbers of `bnn check`: right layers pass, and each kind of mistake that a device could make is found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn import kernels
from bnn.check import numerics, rank, runs
from bnn.check.numerics import agree, example, moments, same_noise, stray
from bnn.check.outcome import Context, FaultError
from bnn.engine import SingleEngine
from bnn.inference.draw_layers import DrawLayer
from bnn.layers import ESTIMATORS, BayesianLayer
from tests.support.fake_gpu import fake_gpus

LAYERS = [(estimator, kind) for estimator in ESTIMATORS for kind in ("conv", "linear")]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    threads = torch.get_num_threads()
    yield Context("cpu", 2, tmp_path, ("mpiexec", "-n", "2"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("estimator", "kind"), LAYERS)
def test_outputs_and_gradients_for_the_same_noise(estimator: str, kind: str) -> None:
    assert 0 < same_noise("layer", *example(estimator, kind, "cpu")) < 2e-5


@pytest.mark.parametrize(("estimator", "kind"), LAYERS)
@pytest.mark.parametrize("name", ["mu", "rho", "bias"])
def test_a_gradient_that_is_a_little_wrong_is_found(estimator: str, kind: str, name: str) -> None:
    layer, x = example(estimator, kind, "cpu")
    getattr(layer, name).register_hook(lambda grad: grad * (1 + 1e-4))
    with pytest.raises(FaultError, match=rf"gradient of {name}: off by 0\.0001 of its size"):
        same_noise("layer", layer, x)


def test_an_output_that_is_a_little_wrong_is_found() -> None:
    layer, x = example("flipout-reference", "conv", "cpu")
    layer.register_forward_hook(lambda module, given, y: y * 1.0001 if y.dtype == torch.float32 else y)
    with pytest.raises(FaultError, match=r"output: off by 0\.0001"):
        same_noise("layer", layer, x)


def scaled_noise(layer: BayesianLayer, factor: float) -> None:
    """The layer draws as if its sigma were another."""
    layer.register_forward_hook(lambda module, given, y: mean(layer, given[0]) + factor * (y - mean(layer, given[0])))


def mean(layer: BayesianLayer, x: Tensor) -> Tensor:
    return layer.affine(x, layer.mu, layer.bias)


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_draws_that_vary_too_much_are_found(kind: str) -> None:
    layer, x = example("local-reparameterization", kind, "cpu")
    assert moments("layer", layer, x) < numerics.SIGMAS
    scaled_noise(layer, 1.3)
    with pytest.raises(FaultError, match="its variance strays by"):
        moments("layer", layer, x)


def test_what_is_not_a_number_is_never_right() -> None:
    bad = torch.tensor([1.0, float("nan")])
    with pytest.raises(FaultError, match="off by nan"):
        agree("a sum", bad, torch.ones(2))
    samples = torch.randn(100, 2)
    samples[3, 1] = float("nan")
    with pytest.raises(FaultError, match="its mean strays by nan"):
        stray("draws", samples, torch.zeros(2), torch.ones(2))


def test_the_kl_and_a_wrong_one(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert numerics.kl(context).startswith("off by ")
    monkeypatch.setattr(BayesianLayer, "kl", lambda layer: 1.001 * (layer.mu.square() + layer.sigma).sum())
    with pytest.raises(FaultError, match="KL: off by"):
        numerics.kl(context)


def test_a_resumption_with_other_weights_is_found() -> None:
    first, second = {"w": torch.ones(3)}, {"w": torch.tensor([1.0, 1.0, 1.0 + 2**-20])}
    assert runs.compare(first, first, "cpu") == 0
    with pytest.raises(FaultError, match="after the resumption w: off by"):
        runs.compare(first, second, "cpu")
    assert 0 < runs.compare(first, second, "cuda") < 1e-4
    with pytest.raises(FaultError, match="has other tensors"):
        runs.compare(first, {}, "cpu")


class Alone(SingleEngine):
    """Says that it is rank 0 of two, and averages nothing but the first large block."""

    size = 2

    def __init__(self, large_ones_too: bool) -> None:
        self.large = large_ones_too

    def average_(self, tensors: Iterable[Tensor], label: str) -> None:
        if self.large and label == "block":
            for tensor in tensors:
                tensor.copy_((torch.arange(len(tensor)) % 1000) / 2)

    def gather(self, value: Any, label: str) -> list[Any]:
        return [value, {"rank": 1, "text": "ä"}]


def test_a_mean_that_leaves_a_rank_out_is_found(context: Context) -> None:
    with pytest.raises(FaultError, match="a mean of 1 MiB is wrong"):
        rank.exchange(Alone(False), replace(context, mib=1))


def test_gradients_that_are_not_exchanged_are_found(context: Context) -> None:
    with pytest.raises(FaultError, match=r"the gradient of .*: off by"):
        rank.exchange(Alone(True), replace(context, mib=1))


@pytest.mark.parametrize("check", [numerics.device, numerics.draws, runs.inference])
def test_on_a_gpu_that_is_none_all_lies_where_it_must(
    context: Context, monkeypatch: pytest.MonkeyPatch, check: Callable[[Context], str]
) -> None:
    """Tensors on cuda:0 that compute here, as strict on devices as a real GPU; none with gradients."""
    monkeypatch.setattr(kernels, "available", lambda: False)
    monkeypatch.setattr(numerics, "DRAWS", 200)
    monkeypatch.setattr(runs, "DRAWS", 30)
    recorded = runs.network()  # torch.export asks for the driver of a GPU that it finds, also for a model on the host
    monkeypatch.setattr(runs, "network", lambda: copy.deepcopy(recorded))
    with monkeypatch.context() as patch, fake_gpus(patch) as gpu:
        assert check(replace(context, device="cuda"))
    assert sum(gpu.ran.values()) > 3


def test_pruned_weights_that_are_drawn_are_found(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "DRAWS", 200)
    assert numerics.draws(context).startswith("means and variances stray by ")
    values = DrawLayer.values

    def refilled(layer: DrawLayer) -> Tensor:
        return values(layer) + (1e-6 if layer.index is not None else 0)

    monkeypatch.setattr(DrawLayer, "values", refilled)
    with pytest.raises(FaultError, match="conv: a pruned weight is drawn"):
        numerics.draws(context)
