"""Networks of one's own in tests: converted, saved, loaded, and what they compute at the means and in exact draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import bnn
from bnn.layers import NoiseKey, PosteriorInit, bayesian_layers, mean_only, set_noise
from bnn.posterior import GraphNetwork, load_posterior, save_posterior

WIDE = PosteriorInit(rho_init=-3.0, rho_init_std=0.2)
SHARP = PosteriorInit(rho_init=-60.0, rho_init_std=0.0)  # sigma is 0 in all digits: a draw is the mean network


class Op(nn.Module):
    """What a function makes of an image, a buffer and a parameter, flattened, and a dense layer behind it."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("m", torch.tensor(0.5))
        self.s = nn.Parameter(torch.rand(3, 1, 1) + 0.5)
        with torch.no_grad():
            features = function(self, torch.rand(2, *shape)).flatten(1).shape[1]
        self.last = nn.Linear(features, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, x).flatten(1))


def behind(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """`layer`, and a dense layer behind it."""
    with torch.no_grad():
        features = layer(torch.rand(2, *shape)).flatten(1).shape[1]
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(features, 2))


def saved(twin: nn.Module, folder: Path, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> GraphNetwork:
    """A converted model after saving and loading."""
    save_posterior(twin, folder, example_input=torch.rand(2, *shape, dtype=dtype), step=0)
    return load_posterior(folder)


@torch.no_grad()
def at_means(network: nn.Module, images: Tensor) -> Tensor:
    with mean_only(network):
        return network(images.clone())


@torch.no_grad()
def keyed(network: nn.Module, images: Tensor, step: int = 0) -> Tensor:
    set_noise(network, NoiseKey(3, step))
    return network(images.clone())


def off(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def survives(
    model: nn.Module, folder: Path, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> GraphNetwork:
    """Assert that a model's twin is right at the means, and its posterior too, at the means and for two noise keys."""
    torch.manual_seed(0)
    model = model.eval()
    twin = bnn.convert(model, init=WIDE).eval()
    images = torch.rand(3, *shape, dtype=dtype, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = model(images.clone())
    assert float((expected[1:] - expected[0]).abs().max()) > 0, "the test sees nothing: all outputs are the same"
    loaded = saved(twin, folder, shape, dtype)
    assert off(at_means(twin, images), expected) < 1e-5
    assert off(at_means(loaded, images), expected) < 1e-5
    assert off(keyed(loaded, images, 0), keyed(twin, images, 0)) < 1e-5
    assert off(keyed(loaded, images, 0), keyed(loaded, images, 1)) > 1e-4
    strided = images.transpose(0, 1).contiguous().transpose(0, 1)  # as a sparse convolution leaves its output
    with torch.no_grad(), mean_only(loaded):
        assert off(loaded(strided), expected) < 1e-5
    assert len(list(bayesian_layers(loaded))) == len(list(bayesian_layers(twin)))
    return loaded
