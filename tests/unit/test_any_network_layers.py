"""What `convert` makes of any torch module: no weight stays conventional unsaid, and code that reads one is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import bnn
from bnn import kernels
from bnn.errors import UserError
from bnn.layers import NoiseKey, PosteriorInit, bayesian_layers, kl_divergence, mean_only, set_noise
from bnn.layers.kernel_conv import use_kernels

WIDE = PosteriorInit(rho_init=0.0)

KINDS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: nn.LSTM(8, 16),
    "GRU": lambda: nn.GRU(8, 16, bidirectional=True),
    "RNN": lambda: nn.RNN(8, 16),
    "LSTMCell": lambda: nn.LSTMCell(8, 16),
    "Conv1d": lambda: nn.Conv1d(3, 16, 9),
    "Conv3d": lambda: nn.Conv3d(3, 8, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(3, 8, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(3, 8, 3),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(3, 8, 3),
    "Embedding": lambda: nn.Embedding(50, 16),
    "Bilinear": lambda: nn.Bilinear(4, 5, 6),
    "MultiheadAttention": lambda: nn.MultiheadAttention(16, 4),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(16, 4, 32),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_weight_becomes_bayesian(name: str) -> None:
    model = nn.ModuleList([KINDS[name](), nn.Linear(8, 2)])
    twin = bnn.convert(model)
    weights = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    assert sum(layer.mu.numel() for layer in bayesian_layers(twin)) >= weights


class Linear(nn.Linear):
    """A subclass under its parent's name, as timm has one."""


class Checked(nn.Linear):
    """A subclass that computes something of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", [Linear, Checked])
def test_subclasses_compute_what_they_did(kind: type[nn.Linear]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(kind(6, 5), nn.ReLU(), nn.Linear(5, 2))
    twin, x = bnn.convert(model), torch.rand(4, 6)
    with mean_only(twin):
        assert torch.allclose(twin(x), model(x), atol=1e-6)
    assert not torch.equal(twin(x), twin(x))


class ReadsWeight(nn.Module):
    """Reads its layer's weight in place of calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.to(self.layer.weight.dtype), self.layer.weight, self.layer.bias)


def test_a_weight_that_is_read_is_the_mean_or_a_sample() -> None:
    torch.manual_seed(0)
    model, x = ReadsWeight(), torch.rand(3, 8)
    twin = bnn.convert(model, init=WIDE)
    with torch.no_grad():
        with mean_only(twin):
            assert torch.equal(twin(x), model(x))
        set_noise(twin, NoiseKey(1, 0))
        one = twin(x)
        set_noise(twin, NoiseKey(1, 0))
        assert torch.equal(twin(x), one)
        set_noise(twin, NoiseKey(1, 1))
        assert not torch.allclose(twin(x), one)
        samples = []
        for step in range(2000):
            set_noise(twin, NoiseKey(2, step))
            samples.append(twin(x))
    made = torch.stack(samples)
    variance = (x**2) @ twin.layer.sigma.T**2
    assert torch.allclose(made.mean(0), model(x), atol=5 * float(variance.sqrt().max()) / 2000**0.5)
    assert torch.allclose(made.var(0), variance, rtol=0.25)


def gradients(model: nn.Module, x: Tensor, step: int, recompute: bool) -> Tensor:
    model.zero_grad()
    set_noise(model, NoiseKey(1, step))
    y = checkpoint(model, x, use_reentrant=False) if recompute else model(x)
    y.square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    "estimator", ["flipout", "flipout-reference", "reparameterization", "local-reparameterization"]
)
def test_checkpointing_changes_no_gradient(estimator: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3), nn.Tanh(), nn.Linear(3, 2))
    twin, x = bnn.convert(model, estimator, init=WIDE), torch.rand(6, 2, 6, 6)
    for step in range(3):
        plain, again = (gradients(twin, x, step, recompute) for recompute in (False, True))
        assert torch.allclose(plain, again, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_divergence_of_a_model_in_half_precision_is_right(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(200, 100)
    expected = float(kl_divergence(bnn.convert(layer)).detach())
    assert float(kl_divergence(bnn.convert(layer.to(dtype))).detach()) == pytest.approx(expected, rel=0.01)


def penalty(model: nn.Module, x: Tensor) -> Tensor:
    """The squared slope of the model's output; later layers may or may not be differentiable twice."""
    [slope] = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return slope.square().sum()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "last": lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
    "first": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 1)),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 1)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_gradients(name: str) -> None:
    torch.manual_seed(0)
    twin = bnn.convert(NETWORKS[name](), "flipout-reference")
    set_noise(twin, NoiseKey(3))
    penalty(twin, torch.rand(3, 3, 4, 4, requires_grad=True)).backward()
    assert all(bool(torch.isfinite(layer.mu.grad).all()) for layer in bayesian_layers(twin))


@pytest.mark.skipif(not kernels.available(), reason="no kernels on this machine")
@pytest.mark.parametrize("name", ["last", "first"])
@pytest.mark.parametrize("more", [False, True])
def test_the_kernels_refuse_gradients_of_gradients(name: str, more: bool) -> None:
    torch.manual_seed(0)
    twin, x = bnn.convert(NETWORKS[name]()), torch.rand(3, 3, 4, 4, requires_grad=True)
    loss = penalty(twin, x)
    with pytest.raises(UserError, match=r"no second derivatives; .*flipout-reference"):
        (loss + twin(x).sum() if more else loss).backward()


def test_dense_layers_by_the_kernels_have_gradients_of_gradients() -> None:
    torch.manual_seed(0)
    twin, x = bnn.convert(NETWORKS["dense"]()), torch.rand(3, 3, 4, 4, requires_grad=True)
    set_noise(twin, NoiseKey(3))
    penalty(twin, x).backward()
    weights, step = twin[1].mu, 0.02
    direction = weights.grad / weights.grad.norm()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weights.add_(direction, alpha=step if sign == 1 else -2 * step)
        set_noise(twin, NoiseKey(3))
        values.append(float(penalty(twin, x).detach()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(weights.grad.norm()), rel=0.02)


@pytest.mark.skipif(not kernels.available(), reason="no kernels on this machine")
def test_kernels_of_a_conventional_network_refuse_gradients_of_gradients() -> None:
    model, x = use_kernels(nn.Sequential(nn.Conv2d(16, 16, 3))), torch.rand(3, 16, 8, 8, requires_grad=True)
    with pytest.raises(UserError, match="no second derivatives"):
        penalty(model, x).backward()


def test_gradients_of_gradients_by_the_reference() -> None:
    twin, x = bnn.convert(nn.Linear(4, 1), "flipout-reference"), torch.rand(3, 4, requires_grad=True)
    [slope] = torch.autograd.grad(twin(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert bool(twin.mu.grad.any())


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_padding_of_every_kind(mode: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode)), torch.rand(2, 2, 6, 6)
    twin = bnn.convert(model)
    with mean_only(twin):
        assert torch.allclose(twin(x), model(x), atol=1e-6)


@pytest.mark.parametrize("kernel", [2, 4, (3, 2)])
def test_same_padding_of_an_even_kernel(kernel: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(2, 3, kernel, padding="same")), torch.rand(2, 2, 7, 7)
    twin = bnn.convert(model)
    with mean_only(twin):
        assert torch.allclose(twin(x), model(x), atol=1e-6)
