"""Convolutions that stay torch's, trained by an estimator: each example has the weights that the estimator says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import bnn
from bnn.layers import NoiseKey, PosteriorInit, mean_only, set_noise
from bnn.layers.maps import MAPS, TrainedMap
from bnn.layers.parameter import BayesianParameter
from bnn.posterior import load_posterior, save_posterior

WIDE = PosteriorInit(rho_init=-1.0)
KEY = NoiseKey(3, 5)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@st.composite
def convolutions(draw: Callable[[Any], Any]) -> tuple[nn.Module, Tensor]:
    """Any of torch's convolutions that is no plain 2-d one, and an input of a few examples."""
    kind = draw(st.sampled_from(MAPS))
    dims = int(kind.__name__[-2])
    groups = draw(st.sampled_from([1, 2]))
    kernel = draw(st.integers(1, 3))
    more: dict[str, Any] = {"stride": draw(st.integers(1, 2)), "dilation": draw(st.integers(1, 2))}
    if kind in TRANSPOSED:
        more["padding"] = draw(st.integers(0, 1))
        more["output_padding"] = draw(st.integers(0, max(more["stride"], more["dilation"]) - 1))
    elif kind is nn.Conv2d or draw(st.booleans()):
        more |= {"padding": draw(st.integers(0, 2)), "padding_mode": draw(st.sampled_from(["reflect", "circular"]))}
    else:
        more["padding"] = draw(st.integers(0, 2))
    torch.manual_seed(draw(st.integers(0, 99)))
    layer = kind(2 * groups, 2 * groups, kernel, groups=groups, bias=draw(st.booleans()), **more)
    x = torch.randn(draw(st.integers(1, 3)), 2 * groups, *[draw(st.integers(5, 7))] * dims, dtype=torch.float64)
    return layer.double(), x


def only(model: nn.Module) -> tuple[Any, BayesianParameter]:
    """The layer of a converted network of one layer, and the posterior of its weight."""
    layer = model[0]  # type: ignore[index]
    return layer, layer.weight_posterior


def how(model: nn.Module) -> str:
    """How the weight of a converted network of one layer is sampled."""
    return next(row.how for row in bnn.conversion_report(model) if row.bayesian)


def noise(posterior: BayesianParameter, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a pass under the present key draws: eps, and the signs of inputs and outputs."""
    return posterior.standard_normal(), posterior.random_signs(x, 1), posterior.random_signs(y, 1)


def of_weight(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The conventional layer, with this weight."""
    plain = copy.deepcopy(layer)
    with torch.no_grad():
        plain.weight.copy_(weight)  # type: ignore[operator,union-attr]
        if bias is not None:
            plain.bias.copy_(bias)  # type: ignore[operator,union-attr]
    y: Tensor = plain(x)
    return y


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_flipout_gives_every_example_a_weight_of_its_own(made: tuple[nn.Module, Tensor]) -> None:
    """mu + sigma * eps * (s r^T), channel by channel, by the layer's own convention of which dimension is which."""
    conventional, x = made
    model = bnn.convert(nn.Sequential(conventional), init=WIDE).train()
    layer, posterior = only(model)
    set_noise(model, KEY)
    y = model(x)
    set_noise(model, KEY)
    eps, r, s = noise(posterior, x, y)
    perturbation, groups = posterior.sigma * eps, layer.groups
    for n in range(len(x)):
        inputs, outputs = r[n].flatten(), s[n].flatten()
        signs = torch.zeros_like(posterior.mu)
        for group in range(groups):
            own_in = inputs.chunk(groups)[group]
            own_out = outputs.chunk(groups)[group]
            if isinstance(conventional, TRANSPOSED):  # (C_in, C_out / groups, ...)
                block = own_in[:, None] * own_out[None]
            else:  # (C_out, C_in / groups, ...)
                block = own_out[:, None] * own_in[None]
            rows = len(block)
            signs[group * rows : (group + 1) * rows] = block.reshape(*block.shape, *[1] * (signs.dim() - 2))
        expected = of_weight(conventional, x[n : n + 1], posterior.mu + perturbation * signs, layer.bias)
        torch.testing.assert_close(y[n : n + 1], expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(convolutions())
def test_evaluation_and_the_mean_are_the_weights(made: tuple[nn.Module, Tensor]) -> None:
    conventional, x = made
    model = bnn.convert(nn.Sequential(conventional), init=WIDE).eval()
    layer, posterior = only(model)
    set_noise(model, KEY)
    y, weight = model(x), posterior.weight
    torch.testing.assert_close(y, of_weight(conventional, x, weight, layer.bias))
    with mean_only(model.train()):
        torch.testing.assert_close(model(x), conventional(x))
    one = x[0]
    assert model(one).shape == conventional(one).shape  # without a batch: one sample of the weight


@pytest.mark.parametrize("kind", MAPS, ids=lambda kind: kind.__name__)
def test_local_reparameterization_has_the_exact_mean_and_variance(kind: Any) -> None:
    torch.manual_seed(0)
    more = {"padding_mode": "circular", "padding": 1} if kind is nn.Conv2d else {}
    conventional = kind(2, 2, 3, **more)
    x = torch.randn(1, 2, *[4] * int(kind.__name__[-2]))
    model = bnn.convert(nn.Sequential(conventional), "local-reparameterization", init=WIDE).train()
    _, posterior = only(model)
    with torch.no_grad():
        draws = torch.stack([model(x) for _ in range(4000)])
        variance = of_weight(conventional, x**2, posterior.sigma**2, torch.zeros(2))
    deviation = variance.sqrt()
    assert ((draws.mean(0) - conventional(x)).abs() < 5 * deviation / 4000**0.5).all()
    assert ((draws.std(0) / deviation - 1).abs() < 5 / (2 * 4000) ** 0.5).all()


@pytest.mark.parametrize("estimator", ["flipout", "flipout-reference", "local-reparameterization"])
def test_training_learns_and_a_posterior_draws_what_the_model_does(estimator: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv1d(3, 6, 3, padding=1), nn.ReLU(), nn.ConvTranspose1d(6, 4, 2, stride=2), nn.Flatten(), nn.Linear(64, 2)
    )
    model = bnn.convert(network, estimator, init=PosteriorInit(rho_init=-4.0)).train()
    rows = {row.name: row.how for row in bnn.conversion_report(model)}
    assert rows["0.weight"] == rows["2.weight"] == f"BayesianParameter (trained by {estimator})"
    x = torch.randn(64, 3, 8)
    y = (x.mean((1, 2)) > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(150):
        set_noise(model, NoiseKey(1, step))
        loss = nn.functional.cross_entropy(model(x), y) + bnn.kl_divergence(model) * 1e-5
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for layer in (model[0], model[2]):  # type: ignore[index]
        assert layer.weight_posterior.rho.grad.abs().sum() > 0  # type: ignore[union-attr,operator]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    save_posterior(model.eval(), tmp_path / "posterior", example_input=x[:1], step=150)
    loaded = load_posterior(tmp_path / "posterior")
    for network in (model, loaded):
        set_noise(network, KEY)
    torch.testing.assert_close(loaded(x), model(x))


def test_reparameterization_is_one_sample_in_training_too() -> None:
    model = bnn.convert(nn.Sequential(nn.Conv1d(2, 2, 3)), "reparameterization", init=WIDE).train()
    x = torch.randn(1, 2, 6).expand(4, 2, 6)
    y = model(x)
    torch.testing.assert_close(y, y[:1].expand_as(y))
    assert how(model) == "BayesianParameter (one sample per pass)"
    flipped = bnn.convert(nn.Sequential(nn.Conv1d(2, 2, 3)), init=WIDE).train()(x)
    assert (flipped - flipped[:1]).abs().max() > 0


class Scaled(nn.Conv1d):
    """Not what its class does: no estimator knows it."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_a_subclass_of_another_mind_is_sampled_by_its_weight() -> None:
    model = bnn.convert(nn.Sequential(Scaled(2, 2, 3)), init=WIDE).train()
    assert how(model) == "BayesianParameter (one sample per pass)"
    set_noise(model, KEY)
    x = torch.randn(3, 2, 6)
    y, layer = model(x), model[0]  # type: ignore[index]
    torch.testing.assert_close(y, 2 * nn.functional.conv1d(x, layer.weight, layer.bias))  # type: ignore[arg-type]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_repeats_the_noise(reentrant: bool) -> None:
    torch.manual_seed(2)
    model = bnn.convert(nn.Sequential(nn.Conv3d(2, 3, 2), nn.Tanh(), nn.Conv1d(3, 2, 2)), init=WIDE).train()
    x = torch.randn(2, 2, 4, 4, 4, requires_grad=True)

    def passed(repeat: bool) -> list[Tensor]:
        set_noise(model, KEY)
        model.zero_grad()
        first, second = model[0], model[2]  # type: ignore[index]
        h = checkpoint(first, x, use_reentrant=reentrant) if repeat else first(x)
        loss = second(torch.tanh(h).flatten(2)).square().sum()
        loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for ours, theirs in zip(passed(True), passed(False), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_copies_and_pickles_train_alike() -> None:
    model = bnn.convert(nn.Sequential(nn.ConvTranspose2d(2, 2, 2)), init=WIDE).train()
    twin = copy.deepcopy(model)
    x = torch.randn(2, 2, 3, 3)
    outputs = []
    for network in (model, twin):
        set_noise(network, KEY)
        outputs.append(network(x))
    torch.testing.assert_close(*outputs)
    sized = model[0](x, output_size=[4, 4])  # type: ignore[index,operator]
    assert sized.shape == (2, 2, 4, 4)
    layer, posterior = only(model)
    assert TrainedMap(layer, posterior, None).bias is layer.bias
