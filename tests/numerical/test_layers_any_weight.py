"""Weights that are no layer's linear map of its input: recurrent, attention, embeddings, other convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bnn
from bnn.layers import NoiseKey, PosteriorInit, bayesian_layers, kl_divergence, mean_only, set_noise
from bnn.layers.parameter import SUFFIX, BayesianParameter
from bnn.posterior import load_posterior, save_posterior

WIDE = PosteriorInit(rho_init=-2.0)
Make = Callable[[], nn.Module]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], layers: int = 1, both: bool = False) -> None:
        super().__init__()
        self.rows = kind(6, 5, layers, batch_first=True, bidirectional=both)
        self.out = nn.Linear(5 * (1 + both), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rows(x)[0][:, -1])


class Attending(nn.Module):
    def __init__(self, encoder: bool) -> None:
        super().__init__()
        self.part = (
            nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
            if encoder
            else nn.MultiheadAttention(6, 2, kdim=6, batch_first=True)
        )
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(x) if isinstance(self.part, nn.TransformerEncoderLayer) else self.part(x, x, x)[0]
        return self.out(y.mean(1))


class Looking(nn.Module):
    """Looks up what the largest feature of each row stands for; reads a weight as users do."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x.argmax(-1)).mean(1)
        return functional.linear(y.to(self.out.weight.dtype), self.out.weight, self.out.bias)


class Unusual(nn.Linear):
    """Not what its class does."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, functional.normalize(self.weight, dim=1), self.bias)


class Same(nn.Linear):
    """What its class does, in its own words."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t() + self.bias


def ending(features: int, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 3))


NETWORKS: dict[str, Make] = {
    "lstm": lambda: Recurrent(nn.LSTM, 2, True),
    "gru": lambda: Recurrent(nn.GRU),
    "rnn": lambda: Recurrent(nn.RNN),
    "attention": lambda: Attending(False),
    "encoder": lambda: Attending(True),
    "embedding": Looking,
    "conv1d": lambda: ending(18, nn.Conv1d(4, 3, 3, padding=1, padding_mode="circular")),
    "transposed": lambda: ending(24, nn.ConvTranspose1d(4, 3, 3)),
    "conv3d": lambda: ending(12, nn.Unflatten(1, (1, 2, 2)), nn.Conv3d(1, 3, (2, 2, 3))),
    "reflect": lambda: ending(72, nn.Unflatten(1, (1, 4)), nn.Conv2d(1, 3, 3, padding=1, padding_mode="reflect")),
    "even": lambda: ending(72, nn.Unflatten(1, (1, 4)), nn.Conv2d(1, 3, 2, padding="same")),
    "unusual": lambda: nn.Sequential(nn.Flatten(), Unusual(24, 3)),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(3)
    return NETWORKS[request.param]().eval()


def test_the_mean_is_the_model_and_samples_are_keyed(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    twin = bnn.convert(model, init=WIDE).eval()
    x = torch.randn(2, 4, 6)
    with mean_only(twin):
        torch.testing.assert_close(twin(x), model(x))
    outputs = []
    for key in (1, 1, 2):
        set_noise(twin, NoiseKey(key))
        outputs.append(twin(x))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_sample_is_the_model_with_those_weights(model: nn.Module) -> None:
    twin = bnn.convert(model, "reparameterization", init=WIDE).eval()
    x = torch.randn(2, 4, 6)
    set_noise(twin, NoiseKey(7))
    parameters = [(n, m) for n, m in twin.named_modules() if isinstance(m, BayesianParameter)]
    weights = {name.removesuffix(SUFFIX): module.weight for name, module in parameters}
    for layer in bayesian_layers(twin):
        if not isinstance(layer, BayesianParameter):
            layer.mean_only = True
    if "out.weight" in model.state_dict() and isinstance(model, Looking):
        weights["out.weight"] = twin.out.mu
    expected = torch.func.functional_call(model, weights, (x,))
    torch.testing.assert_close(twin(x), expected)


def test_gradients_reach_all_means_and_spreads(model: nn.Module) -> None:
    twin = bnn.convert(model, init=WIDE).train()
    set_noise(twin, NoiseKey(1))
    (twin(torch.randn(2, 4, 6)).square().sum() + kl_divergence(twin)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in twin.named_parameters() if "_posterior" in n)


def test_it_is_saved_and_loaded(model: nn.Module, tmp_path: Path) -> None:
    twin = bnn.convert(model, init=WIDE).eval()
    save_posterior(twin, tmp_path / "p", example_input=torch.zeros(1, 4, 6), step=0)
    loaded = load_posterior(tmp_path / "p")
    x = torch.randn(3, 4, 6)
    with torch.no_grad():
        for network in (twin, loaded):
            set_noise(network, NoiseKey(2, 3))
        torch.testing.assert_close(loaded(x), twin(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(kl_divergence(loaded), kl_divergence(twin))


def test_the_report_has_a_row_for_each_parameter(model: nn.Module) -> None:
    rows = {row.name: row for row in bnn.conversion_report(bnn.convert(model))}
    assert rows.keys() == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert rows[name].shape == tuple(parameter.shape)
        assert rows[name].bayesian == (parameter.dim() > 1 and "bias" not in name)


def test_subclasses_are_judged_by_what_they_compute() -> None:
    twin = bnn.convert(nn.Sequential(Same(3, 3), Unusual(3, 3)))
    assert [type(layer).__name__ for layer in bayesian_layers(twin)] == ["FastFlipoutLinear", "BayesianParameter"]


def test_a_layers_weight_is_one_sample_until_the_next_key() -> None:
    layer = bnn.convert(nn.Linear(3, 2), init=WIDE)
    with mean_only(layer):
        assert layer.weight is layer.mean is layer.mu
    set_noise(layer, NoiseKey(1))
    first = layer.weight
    layer(torch.ones(2, 3))
    assert torch.equal(layer.weight, first)
    set_noise(layer, NoiseKey(2))
    assert not torch.equal(layer.weight, first)
    samples = torch.stack([w for key in range(4000) for w in [keyed(layer, key)]])
    torch.testing.assert_close(samples.mean(0), layer.mu, atol=0.01, rtol=0)
    torch.testing.assert_close(samples.std(0), layer.sigma, atol=0.01, rtol=0)


def keyed(layer: nn.Module, key: int) -> Tensor:
    set_noise(layer, NoiseKey(key))
    with torch.no_grad():
        return layer.weight


class ByConvForward(nn.Conv2d):
    """Overrides what the inherited forward pass calls."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, 2 * weight, bias)


class Called(nn.Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return 3 * super().__call__(x)


class LowRank(nn.Linear):
    """Equal to its class at the start, with parameters of its own."""

    def __init__(self) -> None:
        super().__init__(3, 3)
        self.a, self.b = nn.Parameter(torch.randn(1, 3)), nn.Parameter(torch.zeros(3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.a.t() @ self.b.t()


@pytest.mark.parametrize("make", [lambda: ByConvForward(1, 2, 2), lambda: Called(3, 3), LowRank])
def test_what_a_subclass_adds_is_kept(make: Make) -> None:
    model = nn.Sequential(make())
    twin = bnn.convert(model)
    x = torch.randn(2, 1, 3, 3)
    with mean_only(twin):
        torch.testing.assert_close(twin(x), model(x))
    assert {row.name for row in bnn.conversion_report(twin)} == {name for name, _ in model.named_parameters()}
