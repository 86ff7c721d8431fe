"""The Bayesian layers against analytic values, against each other and against finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bnn.layers import (
    BayesianConv2d,
    BayesianLayer,
    FlipoutConv2d,
    FlipoutLinear,
    NoiseKey,
    PosteriorInit,
    ReparameterizationConv2d,
    ReparameterizationLinear,
    kl_divergence,
    mean_only,
    set_noise,
    sigma_median,
)

DRAWS = 4000
WIDE = PosteriorInit(mu_init_std=0.5, rho_init=-0.5, rho_init_std=0.5)  # sigma about 0.5: perturbations matter
NARROW = PosteriorInit(rho_init=-60.0, rho_init_std=0.0)  # sigma about 1e-26


def make(name: str, init: PosteriorInit = WIDE) -> tuple[BayesianLayer, Tensor]:
    """A float64 layer with a bias that is not zero, and a batch of three different examples."""
    torch.manual_seed(1)
    layer: BayesianLayer
    if name.endswith("conv"):
        conv = FlipoutConv2d if name.startswith("flipout") else ReparameterizationConv2d
        layer, x = conv(2, 3, 3, stride=2, padding=1, init=init), torch.randn(3, 2, 5, 4)
    else:
        linear = FlipoutLinear if name.startswith("flipout") else ReparameterizationLinear
        layer, x = linear(6, 4, init=init), torch.randn(3, 6)
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    return layer.double(), x.double()


def draws(layer: BayesianLayer, x: Tensor, count: int = DRAWS) -> Tensor:
    """(draws, *output shape)."""
    set_noise(layer, NoiseKey(seed=11))
    with torch.no_grad():
        return torch.stack([layer(x) for _ in range(count)])


LAYERS = ["flipout conv", "flipout linear", "reparameterization conv", "reparameterization linear"]


@pytest.mark.parametrize("name", LAYERS)
def test_without_uncertainty_it_is_the_conventional_layer(name: str) -> None:
    layer, x = make(name, NARROW)
    if isinstance(layer, BayesianConv2d):
        conventional = functional.conv2d(x, layer.mu, layer.bias, 2, 1)
    else:
        conventional = functional.linear(x, layer.mu, layer.bias)
    torch.testing.assert_close(layer(x), conventional)
    wide, x = make(name, WIDE)
    assert not torch.allclose(wide(x), wide.affine(x, wide.mu, wide.bias))
    with mean_only(wide):
        assert torch.equal(wide(x), wide.affine(x, wide.mu, wide.bias))
    assert not wide.mean_only


@pytest.mark.parametrize("name", LAYERS)
def test_mean_and_variance_of_every_output(name: str) -> None:
    """Outputs are Gaussian: their sample means and variances stray by sqrt(var / D) and var * sqrt(2 / D)."""
    layer, x = make(name)
    with torch.no_grad():
        mean = layer.affine(x, layer.mu, layer.bias)
        variance = layer.affine(x.square(), layer.sigma.square(), None)
    sample = draws(layer, x)
    assert ((sample.mean(0) - mean).abs() / (variance / DRAWS).sqrt()).max() < 5
    assert ((sample.var(0) / variance - 1).abs() / (2 / DRAWS) ** 0.5).max() < 5


@pytest.mark.parametrize("name", LAYERS)
def test_only_flipout_decorrelates_the_examples_of_a_batch(name: str) -> None:
    layer, x = make(name)
    x[1] = x[0]
    with torch.no_grad():
        perturbation = draws(layer, x) - layer.affine(x, layer.mu, layer.bias)
    first, second = perturbation[:, 0].flatten(1), perturbation[:, 1].flatten(1)
    correlation = (first * second).mean(0) / (first.std(0) * second.std(0))
    if name.startswith("flipout"):
        assert correlation.abs().max() < 5 / DRAWS**0.5
    else:
        assert correlation.min() > 0.95


def test_signs_belong_to_an_example_and_channel_and_are_constant_over_space() -> None:
    examples, channels = 400, 8
    layer = FlipoutConv2d(1, channels, 1, bias=False, init=PosteriorInit(rho_init=0.0)).double()
    set_noise(layer, NoiseKey(3))
    with torch.no_grad():
        nn.init.zeros_(layer.mu)
        y = layer(torch.ones(examples, 1, 3, 5, dtype=torch.float64))
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y))
    per_channel = y[:, :, 0, 0]
    # one perturbation for the whole batch: only its signs differ between examples ...
    assert torch.equal(per_channel.abs(), per_channel[:1].abs().expand_as(per_channel))
    # ... independently from channel to channel and from example to example
    signs = per_channel.sign()
    pairs = (signs.T @ signs / examples - torch.eye(channels)).abs()
    assert pairs.max() < 5 / examples**0.5
    assert (signs.mean(0).abs() < 5 / examples**0.5).all()


def per_example(layer: BayesianConv2d, x: Tensor, key: NoiseKey) -> Tensor:
    """Eq. 4's meaning: every example has the kernel mu + sigma * eps * (s_n r_n^T) to itself."""
    set_noise(layer, key)
    eps, r = layer.standard_normal(), layer.random_signs(x)
    s = layer.random_signs(layer.affine(x, layer.mu, None))
    size, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    rows = []
    for n in range(len(x)):
        flips = torch.stack(
            [r[n, o // outputs * size : (o // outputs + 1) * size, 0, 0] for o in range(layer.out_channels)]
        )
        kernel = layer.mu + layer.sigma * eps * (flips * s[n, :, 0])[:, :, None, None]
        rows.append(layer.affine(x[n : n + 1], kernel, layer.bias))
    return torch.cat(rows)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_flipout_is_a_kernel_per_example_for_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    groups, batch = draw(st.sampled_from([1, 1, 2])), draw(st.integers(1, 4))
    inputs, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    stride, padding, dilation = draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 2))
    least = dilation * 4 + 1
    height, width = draw(st.integers(least, least + 4)), draw(st.integers(least, least + 4))
    layer = FlipoutConv2d(
        *(inputs, outputs, kernel, stride, padding, dilation, groups, draw(st.booleans())),
        init=WIDE,
        dtype=torch.float64,
    )
    x, key = torch.randn(batch, inputs, height, width, dtype=torch.float64), NoiseKey(5, draw(st.integers(0, 9)))
    with torch.no_grad():
        expected = per_example(layer, x, key)
        set_noise(layer, key)
        torch.testing.assert_close(layer(x), expected)
        conventional = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups).double()
        assert layer(x).shape == conventional(x).shape


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(1, 3), max_size=2), st.integers(1, 6), st.integers(1, 6))
def test_linear_takes_any_number_of_dimensions(batch: int, middle: list[int], inputs: int, outputs: int) -> None:
    layer = FlipoutLinear(inputs, outputs, bias=False, init=WIDE, dtype=torch.float64)
    x = torch.randn(batch, *middle, inputs, dtype=torch.float64)
    set_noise(layer, NoiseKey(0))
    y = layer(x)
    assert y.shape == (batch, *middle, outputs)
    set_noise(layer, NoiseKey(0))
    eps, r, s = layer.standard_normal(), layer.random_signs(x), layer.random_signs(y)
    ones = [1] * len(middle)
    kernels = layer.mu + layer.sigma * eps * s.view(batch, outputs, 1) * r.view(batch, 1, inputs)
    expected = torch.einsum("noi,nmi->nmo", kernels, x.reshape(batch, -1, inputs)).reshape(y.shape)
    assert list(s.shape) == [batch, *ones, outputs]
    torch.testing.assert_close(y, expected)


def gradients_agree(layer: BayesianLayer, x: Tensor) -> bool:
    names = [name for name, _ in layer.named_parameters()]
    values = [value.detach().requires_grad_() for _, value in layer.named_parameters()]

    def output(x: Tensor, *values: Tensor) -> Tensor:
        set_noise(layer, NoiseKey(2, 7))
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    return torch.autograd.gradcheck(output, (x.requires_grad_(), *values))


@pytest.mark.parametrize(("kernel", "stride", "same"), list(itertools.product([1, 3, 5], [1, 2], [True, False])))
def test_gradients_of_convolution(kernel: int, stride: int, same: bool) -> None:
    torch.manual_seed(0)
    padding = kernel // 2 if same else 0
    layer = FlipoutConv2d(2, 2, kernel, stride, padding, init=WIDE, dtype=torch.float64)
    assert gradients_agree(layer, torch.randn(2, 2, 6, 5, dtype=torch.float64))


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_all_layers(name: str) -> None:
    assert gradients_agree(*make(name))


def test_gradient_of_kl() -> None:
    layer, _ = make("flipout linear")
    mu, rho = layer.mu.detach(), layer.rho.detach()
    layer.kl().backward()
    sigma = functional.softplus(rho)
    torch.testing.assert_close(layer.mu.grad, mu / layer.prior_scale**2)
    expected = (sigma / layer.prior_scale**2 - 1 / sigma) * torch.sigmoid(rho)
    torch.testing.assert_close(layer.rho.grad, expected)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 20), st.floats(-12, 4), st.floats(0, 3), st.integers(0, 2**31))
def test_kl_is_that_of_torch_distributions(prior: float, rho: float, mu: float, seed: int) -> None:
    torch.manual_seed(seed)
    layer = FlipoutConv2d(2, 3, 3, init=PosteriorInit(prior, mu, rho, 0.5), dtype=torch.float64)
    posterior, zero = torch.distributions.Normal(layer.mu, layer.sigma), torch.zeros_like(layer.mu)
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(zero, prior)).sum()
    assert layer.kl().dim() == 0
    torch.testing.assert_close(layer.kl(), expected)
    dense = FlipoutLinear(2, 2, dtype=torch.float64)
    model = nn.Sequential(layer, nn.ReLU(), layer, dense)  # a shared layer counts once
    torch.testing.assert_close(kl_divergence(model), expected + dense.kl())


def test_a_conventional_model_has_no_kl_and_no_sigma() -> None:
    model = nn.Sequential(nn.Linear(2, 2)).double()
    assert kl_divergence(model).shape == ()
    assert kl_divergence(model).item() == 0.0
    assert kl_divergence(model).dtype == torch.float64
    assert sigma_median(model) is None
    assert sigma_median(FlipoutLinear(30, 30)) == pytest.approx(1.23e-4, rel=0.02)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 groups"):
        FlipoutConv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match="padding='same'"):
        FlipoutConv2d(1, 1, 2, padding="same")
    with pytest.raises(ValueError, match="stride"):
        FlipoutConv2d(1, 1, 3, stride=2, padding="same")
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        FlipoutConv2d(1, 1, 3)(torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="features"):
        FlipoutLinear(3, 3)(torch.zeros(()))
    assert FlipoutConv2d(1, 1, 5, padding="same", dilation=2).padding == (4, 4)
    assert FlipoutConv2d(1, 1, 5, padding="valid").padding == (0, 0)
