"""Local reparameterization: the moments of its outputs, its gradients, and where it departs from a weight sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.layers import (
    BayesianConv2d,
    BayesianLayer,
    FlipoutConv2d,
    LocalReparameterizationConv2d,
    LocalReparameterizationLinear,
    NoiseKey,
    PosteriorInit,
    ReparameterizationConv2d,
    set_noise,
)
from bnn.models.build import build_model
from bnn.posterior import load_posterior, save_posterior

DRAWS = 4000
WIDE = PosteriorInit(mu_init_std=0.5, rho_init=-0.5, rho_init_std=0.5)


def make(name: str) -> tuple[BayesianLayer, Tensor]:
    """A float64 layer with a bias that is not zero, and three different examples."""
    torch.manual_seed(1)
    layer: BayesianLayer
    if name == "conv":
        layer = LocalReparameterizationConv2d(4, 6, 3, stride=2, padding=1, groups=2, init=WIDE)
        x = torch.randn(3, 4, 5, 4)
    else:
        layer, x = LocalReparameterizationLinear(6, 4, init=WIDE), torch.randn(3, 6)
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    return layer.double(), x.double()


def draws(layer: BayesianLayer, x: Tensor) -> Tensor:
    set_noise(layer, NoiseKey(seed=11))
    with torch.no_grad():
        return torch.stack([layer(x) for _ in range(DRAWS)])


@pytest.mark.parametrize("name", ["conv", "linear"])
def test_mean_and_variance_of_every_output(name: str) -> None:
    """Sample means and variances of a Gaussian stray by sqrt(var / D) and var * sqrt(2 / D)."""
    layer, x = make(name)
    with torch.no_grad():
        mean = layer.affine(x, layer.mu, layer.bias)
        variance = layer.affine(x.square(), layer.sigma.square(), None)
    sample = draws(layer, x)
    assert ((sample.mean(0) - mean).abs() / (variance / DRAWS).sqrt()).max() < 5
    assert ((sample.var(0) / variance - 1).abs() / (2 / DRAWS) ** 0.5).max() < 5


@pytest.mark.parametrize("name", ["conv", "linear"])
def test_all_outputs_are_drawn_independently(name: str) -> None:
    layer, x = make(name)
    x[1] = x[0]  # not even two equal examples share noise
    sample = draws(layer, x).flatten(1)
    sample = (sample - sample.mean(0)) / sample.std(0)
    correlation = sample.T @ sample / DRAWS - torch.eye(sample.shape[1])
    assert correlation.abs().max() < 5.5 / DRAWS**0.5


@pytest.mark.parametrize(
    ("layer_class", "shared"),
    [(LocalReparameterizationConv2d, False), (FlipoutConv2d, True), (ReparameterizationConv2d, True)],
)
def test_only_here_do_pixels_not_share_their_kernel(layer_class: type[BayesianConv2d], shared: bool) -> None:
    """What the module says of convolutions: a kernel of one weight makes all pixels of an example move together."""
    layer = layer_class(1, 1, 1, bias=False, init=WIDE, dtype=torch.float64)
    with torch.no_grad():
        nn.init.zeros_(layer.mu)
    pixels = draws(layer, torch.ones(1, 1, 1, 2, dtype=torch.float64)).reshape(DRAWS, 2)
    correlation = torch.corrcoef(pixels.T)[0, 1]
    assert correlation > 0.999 if shared else correlation.abs() < 5 / DRAWS**0.5


@pytest.mark.parametrize("name", ["conv", "linear"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    layer, x = make(name)
    names = [name for name, _ in layer.named_parameters()]
    values = [value.detach().requires_grad_() for _, value in layer.named_parameters()]

    def output(x: Tensor, *values: Tensor) -> Tensor:
        set_noise(layer, NoiseKey(2, 7))
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(output, (x.requires_grad_(), *values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["conv", "linear"])
def test_without_variance_gradients_are_finite_and_the_output_is_the_mean(name: str, dtype: torch.dtype) -> None:
    layer, x = make(name)
    layer, x = layer.to(dtype), x.to(dtype)
    x[0] = 0  # no output of this example has any variance
    x[1] *= 1e-19 if dtype == torch.float32 else 1e-154  # these squares are subnormal or nearly so
    x.requires_grad_()
    set_noise(layer, NoiseKey(2))
    y = layer(x)
    torch.testing.assert_close(y[0], layer.affine(x, layer.mu, layer.bias)[0])
    y.square().sum().backward()
    assert all(bool(torch.isfinite(t).all()) for t in (x.grad, layer.mu.grad, layer.rho.grad, layer.bias.grad))
    # of the example without variance, only the mean's gradient is left
    still = torch.zeros_like(x).requires_grad_()
    layer.affine(still, layer.mu, layer.bias)[:1].square().sum().backward()
    torch.testing.assert_close(x.grad[0], still.grad[0])


def test_kl_is_that_of_the_other_estimators() -> None:
    torch.manual_seed(0)
    local = LocalReparameterizationConv2d(2, 3, 3, init=WIDE, dtype=torch.float64)
    flipout = FlipoutConv2d(2, 3, 3, init=WIDE, dtype=torch.float64)
    flipout.load_state_dict(local.state_dict())
    gradients = []
    for layer in (local, flipout):
        layer.kl().backward()
        gradients.append((layer.mu.grad, layer.rho.grad))
    assert torch.equal(local.kl(), flipout.kl())
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.equal(mine, theirs)


def test_a_model_trains_a_step_and_its_posterior_comes_back(tmp_path) -> None:
    torch.manual_seed(0)
    model = build_model(
        "conv", "bnn", input_shape=(1, 12, 12), classes=10, width=0.1, estimator="local-reparameterization", init=WIDE
    )
    images = torch.rand(4, 1, 12, 12)
    set_noise(model, NoiseKey(1))
    functional.cross_entropy(model(images), torch.arange(4)).backward()
    assert all(bool(torch.isfinite(p.grad).all()) and bool(p.grad.any()) for p in model.parameters())
    model.eval()
    save_posterior(model, tmp_path / "step-1", example_input=images[:1], step=1, extra={})
    again = load_posterior(tmp_path / "step-1")
    assert any(isinstance(module, LocalReparameterizationConv2d) for module in again.modules())
    for network in (model, again):
        set_noise(network, NoiseKey(3))
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
