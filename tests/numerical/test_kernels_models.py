"""Every layer shape of the four models: the fast layers' output and gradients against float64 with the same noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn import kernels
from bnn.layers import BayesianLayer, FastFlipoutConv2d, FlipoutConv2d, NoiseKey, PosteriorInit, set_noise
from bnn.layers.affine import ConvGeometry
from bnn.layers.convert import convert
from bnn.layers.flipout_fast import FastFlipout, FastFlipoutLinear, FlipoutConvolution
from bnn.layers.kernel_conv import Convolution
from bnn.models.architectures import PAPER_INPUT, resolve
from bnn.models.build import build_layer
from bnn.models.ops import Conv, Dense
from tests.support.kernels import chosen_signs, distance, epsilon, need_kernels

need_kernels()

ACCURACY = 1e-5
BATCH = 3
KL_WEIGHT = 1e-2
WIDE = PosteriorInit(mu_init_std=0.5, rho_init=-1.0, rho_init_std=1.0)  # the perturbation matters as the mean does

# Shape of a layer -> its node; the models share some.
NODES = {
    (type(node.op).__name__, node.in_shapes[0], node.out_shape, getattr(node.op, "kernel", 0)): node
    for model in ("vgg16", "resnet18", "conv", "fc")
    for node in resolve(model, PAPER_INPUT[model], 10)
    if isinstance(node.op, Conv | Dense)
}


@pytest.fixture(autouse=True)
def take_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with narrow vectors, too."""
    monkeypatch.setattr(kernels, "available", lambda: True)


def reference(layer: FastFlipout, x: Tensor, seed: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Leaves in float64, the output by eq. 4 and the KL."""
    leaves = {"input": x, "mu": layer.mu, "rho": layer.rho, "bias": layer.bias}
    leaves = {name: value.detach().double().requires_grad_() for name, value in leaves.items()}
    sigma = functional.softplus(leaves["rho"])
    mean = layer.affine(leaves["input"], leaves["mu"], leaves["bias"])
    flipped = leaves["input"] * chosen_signs(seed, False, x)
    output = mean + chosen_signs(seed, True, mean) * layer.affine(flipped, sigma * epsilon(seed, layer.mu), None)
    prior = torch.distributions.Normal(0.0, layer.prior_scale)
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(leaves["mu"], sigma), prior).sum()
    return leaves, output, kl


def seed_of(layer: FastFlipout, key: NoiseKey) -> int:
    set_noise(layer, key)
    seed = layer.next_seed()
    set_noise(layer, key)
    return seed


def errors(layer: BayesianLayer, in_shape: tuple[int, ...]) -> dict[str, float]:
    """Relative distances from float64, of the output, the KL and the gradients of output and KL together."""
    assert isinstance(layer, FastFlipout)
    assert layer.bias is not None
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(BATCH, *in_shape).requires_grad_()
    seed = seed_of(layer, NoiseKey(3, 1))
    output = layer(x)
    leaves, right, right_kl = reference(layer, x, seed)
    gradient = torch.randn_like(output)
    kl = layer.kl()
    made = torch.autograd.grad([output, kl], [x, layer.mu, layer.rho, layer.bias], [gradient, torch.tensor(KL_WEIGHT)])
    weights = [gradient.double(), torch.tensor(KL_WEIGHT, dtype=torch.float64)]
    expected = torch.autograd.grad([right, right_kl], list(leaves.values()), weights)
    found = {name: distance(*pair) for name, *pair in zip(leaves, made, expected, strict=True)}
    return found | {"output": distance(output, right.detach()), "kl": distance(kl, right_kl.detach())}


@pytest.mark.parametrize("shape", NODES, ids=lambda shape: "-".join(map(str, shape)).replace(" ", ""))
def test_every_layer_of_the_models(shape: tuple[object, ...]) -> None:
    torch.manual_seed(0)
    node = NODES[shape]
    layer = build_layer(node, "bnn", "flipout", WIDE)
    assert isinstance(layer, FastFlipoutConv2d | FastFlipoutLinear)
    found = errors(layer, node.in_shapes[0])
    assert max(found.values()) < ACCURACY, found


@pytest.mark.parametrize("channels", [(4, 8), (1, 5), (5, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3, (1, 3)], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_sizes_of_one_leave_strides_open(channels: tuple[int, int], kernel: int | tuple[int, int], last: bool) -> None:
    """A kernel of 1 x 1, or of one channel, is contiguous and channels_last at once, whatever its other strides."""
    torch.manual_seed(0)
    layer = FastFlipoutConv2d(*channels, kernel, init=WIDE)
    layer.to(memory_format=torch.channels_last if last else torch.contiguous_format)  # type: ignore[call-overload]
    found = errors(layer, (channels[0], 5, 4))
    assert max(found.values()) < ACCURACY, found


def test_output_and_input_gradient_lie_in_memory_as_those_of_torch_do() -> None:
    x, kernel = torch.randn(2, 3, 5, 6), torch.randn(4, 3, 3, 3)
    geometry = ConvGeometry((1, 1), (1, 1), (1, 1), 1)
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        right = functional.conv2d(images, kernel, None, *geometry)
        plain = Convolution.apply(images, kernel, None, geometry)
        flipout, _ = FlipoutConvolution.apply(images, kernel, kernel, None, 1, 1.0, geometry.ungrouped)
        assert right.stride() == plain.stride() == flipout.stride()


def test_plain_convolution_has_the_gradients_of_torchs() -> None:
    torch.manual_seed(0)
    x, kernel, bias = torch.randn(3, 6, 5, 4), torch.randn(7, 6, 3, 3), torch.randn(7)
    geometry = ConvGeometry((2, 1), (1, 1), (1, 1), 1)
    leaves = [value.requires_grad_() for value in (x, kernel, bias)]
    output = Convolution.apply(*leaves, geometry)
    wide = [value.detach().double().requires_grad_() for value in leaves]
    right = functional.conv2d(*wide, *geometry)
    gradient = torch.randn_like(output)
    made = torch.autograd.grad(output, leaves, gradient)
    expected = torch.autograd.grad(right, wide, gradient.double())
    assert max(map(distance, (output, *made), (right.detach(), *expected))) < ACCURACY


def test_without_noise_it_is_the_conventional_layer() -> None:
    x = torch.randn(3, 5, 7, 6)
    still = PosteriorInit(rho_init=-80.0, rho_init_std=0.0)
    fast, slow = FastFlipoutConv2d(5, 4, 3, init=still), FlipoutConv2d(5, 4, 3, init=still)
    slow.load_state_dict(fast.state_dict())
    torch.testing.assert_close(fast(x), slow(x))


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_what_follows_may_change_the_output_in_place(last: bool) -> None:
    """As model `conv` does, whose ReLU is in place and directly behind its convolutions."""
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1), nn.ReLU(inplace=True)
    model = convert(nn.Sequential(*layers))
    layout = torch.channels_last if last else torch.contiguous_format
    model(torch.rand(2, 1, 5, 5).contiguous(memory_format=layout)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
