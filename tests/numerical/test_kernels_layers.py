"""How the fast Flipout layers behave: their noise, frozen parameters, copies, what falls back, their distribution."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bnn import kernels
from bnn.errors import UserError
from bnn.layers import (
    FastFlipoutConv2d,
    FastFlipoutLinear,
    FlipoutConv2d,
    FlipoutLinear,
    NoiseKey,
    kl_divergence,
    mean_only,
    set_noise,
)
from bnn.layers.flipout_fast import kernels_used
from bnn.models.build import build_model
from bnn.posterior import load_posterior, save_posterior
from bnn.settings import TrainSettings
from bnn.training.implementation import implementation_of
from tests.support.flipout_layers import KEY, WIDE, closed_form, make, network
from tests.support.kernels import need_kernels, threads

need_kernels()


@pytest.fixture(autouse=True)
def take_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: True)


LAYERS = pytest.mark.parametrize("name", ["conv", "linear"])


@LAYERS
@pytest.mark.parametrize("frozen", [("mu",), ("rho",), ("bias",), ("mu", "rho"), ("mu", "rho", "bias")], ids=str)
def test_frozen_parameters_get_no_gradient_and_the_others_the_same(name: str, frozen: tuple[str, ...]) -> None:
    layer, x = make(name)
    results = []
    for names in ((), frozen):
        for parameter, value in layer.named_parameters():
            value.requires_grad_(parameter not in names)
        layer.zero_grad()
        x = x.detach().requires_grad_()
        set_noise(layer, KEY)
        (layer(x).square().sum() + layer.kl()).backward()
        results.append({parameter: value.grad for parameter, value in layer.named_parameters()} | {"x": x.grad})
    for parameter, value in results[1].items():
        if parameter in frozen:
            assert value is None
        else:
            torch.testing.assert_close(value, results[0][parameter])


@LAYERS
def test_noise_is_the_keys(name: str) -> None:
    layer, x = make(name)
    outputs = []
    for _ in range(2):
        set_noise(layer, KEY)
        outputs.append((layer(x), layer(x), layer(x)))
    assert all(map(torch.equal, *outputs))
    first, second, third = outputs[0]
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)
    set_noise(layer, NoiseKey(7, 4))
    assert not torch.allclose(layer(x), first)
    state = torch.get_rng_state()
    layer(x)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.inference_mode():
        set_noise(layer, KEY)
        assert torch.equal(layer(x), first)
    for count in (1, 3):
        with threads(count):
            set_noise(layer, KEY)
            torch.testing.assert_close(layer(x), first, rtol=1e-6, atol=1e-6)  # (torch's own products of dense layers)


@LAYERS
def test_without_a_key_the_default_generator_decides(name: str) -> None:
    layer, x = make(name)
    torch.manual_seed(5)
    first, second = layer(x), layer(x)
    torch.manual_seed(5)
    assert torch.equal(layer(x), first)
    assert not torch.allclose(second, first)


@LAYERS
def test_no_images_and_the_posterior_mean(name: str) -> None:
    layer, x = make(name)
    assert layer(x[:0]).shape == (0, *layer(x).shape[1:])
    assert layer(x[:0]).requires_grad
    with mean_only(layer):
        assert torch.equal(layer(x), layer.affine(x, layer.mu, layer.bias))
    torch.testing.assert_close(layer.kl(), closed_form(layer))


@LAYERS
def test_a_layer_made_for_inference_works(name: str) -> None:
    with torch.inference_mode():
        layer, x = make(name)
        layer(x)
        torch.testing.assert_close(layer.kl(), closed_form(layer))


def test_models_are_copied_and_pickled_after_a_forward_pass() -> None:
    model, x = network(), torch.randn(2, 3, 4, 4)
    set_noise(model, KEY)
    expected = model(x)
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    for twin in (copy.deepcopy(model), torch.load(stored, weights_only=False)):
        set_noise(twin, KEY)
        assert torch.equal(twin(x), expected)
        torch.testing.assert_close(kl_divergence(twin), kl_divergence(model))
    assert set(model.state_dict()) == {f"{layer}.{name}" for layer in (0, 2, 4) for name in ("mu", "rho", "bias")}
    model(x)
    again = network()
    again.load_state_dict(model.state_dict())
    set_noise(again, KEY)
    assert torch.equal(again(x), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("model", "width"), [("conv", 0.05), ("vgg16", 0.1), ("resnet18", 0.1), ("fc", 0.1)])
def test_a_saved_posterior_computes_the_same_bits(
    tmp_path: Path, model: str, width: float, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    built = build_model(model, "bnn", input_shape=(3, 14, 14), classes=10, width=width, init=WIDE).eval()
    built.to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.rand(5, 3, 14, 14).contiguous(memory_format=layout)
    save_posterior(built, tmp_path / "step-1", example_input=images[:1], step=1, extra={})
    again = load_posterior(tmp_path / "step-1")
    for one in (built, again):
        set_noise(one, KEY)
    with torch.no_grad():
        assert torch.equal(again(images), built(images))


def twins(name: str, *shape: int, **options: object) -> tuple[nn.Module, nn.Module]:
    """A fast layer and a reference layer with the same parameters."""
    classes = {"conv": (FastFlipoutConv2d, FlipoutConv2d), "linear": (FastFlipoutLinear, FlipoutLinear)}[name]
    fast, slow = (kind(*shape, init=WIDE, **options) for kind in classes)
    slow.load_state_dict(fast.state_dict())
    return fast, slow


@pytest.mark.parametrize(
    ("layers", "x"),
    [
        (lambda: twins("conv", 4, 6, 3, groups=2), torch.randn(2, 4, 5, 5)),
        (lambda: twins("conv", 4, 6, 3, dtype=torch.float64), torch.randn(2, 4, 5, 5, dtype=torch.float64)),
        (lambda: twins("linear", 4, 6), torch.randn(2, 3, 4)),
        (lambda: twins("linear", 4, 6, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)),
    ],
    ids=["groups", "float64 conv", "three dimensions", "float64 linear"],
)
def test_what_the_kernels_do_not_cover_is_the_references(
    layers: Callable[[], tuple[nn.Module, nn.Module]], x: Tensor
) -> None:
    fast, slow = layers()
    for layer in (fast, slow):
        set_noise(layer, KEY)
    assert torch.equal(fast(x), slow(x))
    assert torch.equal(kl_divergence(fast), kl_divergence(slow))


def test_without_kernels_one_warning_and_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def missing() -> None:
        raise UserError("lib.so: the kernels are not built: run python -m bnn.kernels.build")

    monkeypatch.setattr(kernels, "load", missing)
    kernels.available.cache_clear()
    try:
        fast, slow = twins("conv", 3, 4, 3)
        x = torch.randn(2, 3, 5, 5)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(3):
                for layer in (fast, slow):
                    set_noise(layer, KEY)
                assert torch.equal(fast(x), slow(x))
            assert implementation_of(TrainSettings(), fast) == "bnn-flipout-torch"
            assert not kernels_used(fast)
        relevant = [warning for warning in said if "plain torch" in str(warning.message)]
        assert [warning.category for warning in relevant] == [RuntimeWarning]
        assert "run python -m bnn.kernels.build" in str(relevant[0].message)
    finally:
        kernels.available.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(kernels, "available", lambda: True)
    assert implementation_of(TrainSettings(), fast) == "bnn-flipout"


DRAWS = 3000


def draws(layer: nn.Module, x: Tensor) -> Tensor:
    set_noise(layer, NoiseKey(11))
    with torch.no_grad():
        return torch.stack([layer(x) for _ in range(DRAWS)])


@pytest.mark.parametrize(("name", "shape", "size"), [("conv", (3, 4, 3), (3, 5, 4)), ("linear", (6, 4), (6,))])
def test_outputs_are_distributed_as_the_references(name: str, shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Means and variances of D draws of a Gaussian stray by sqrt(var / D) and var * sqrt(2 / D)."""
    torch.manual_seed(3)
    fast, slow = twins(name, *shape)
    x = torch.randn(3, *size)
    x[2] = x[1]
    samples = draws(fast, x), draws(slow, x)
    with torch.no_grad():
        mean = slow.affine(x, slow.mu, slow.bias)  # type: ignore[operator]
        variance = slow.affine(x.square(), slow.sigma.square(), None)  # type: ignore[operator,union-attr]
    for sample in samples:
        assert ((sample.mean(0) - mean).abs() / (variance / DRAWS).sqrt()).max() < 5
        assert ((sample.var(0) / variance - 1).abs() / (2 / DRAWS) ** 0.5).max() < 5
    # and against each other: twice the variance of one
    fast_sample, slow_sample = samples
    assert ((fast_sample.mean(0) - slow_sample.mean(0)).abs() / (2 * variance / DRAWS).sqrt()).max() < 5
    # examples are perturbed independently, also where their inputs are the same
    parts = ((fast_sample - mean) / variance.sqrt()).flatten(2)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        correlation = (parts[:, first] * parts[:, second]).mean(0)
        assert correlation.abs().max() < 5 / DRAWS**0.5
