"""Small layers and a network by the fast Flipout estimator, for the tests of how they behave."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnn.layers import FastFlipoutConv2d, FastFlipoutLinear, NoiseKey, PosteriorInit, number_layers
from bnn.layers.flipout_fast import FastFlipout

WIDE = PosteriorInit(prior_scale=0.7, mu_init_std=0.5, rho_init=-1.0, rho_init_std=0.5)
KEY = NoiseKey(7, 3)


def make(name: str) -> tuple[FastFlipout, Tensor]:
    torch.manual_seed(1)
    if name == "conv":
        return FastFlipoutConv2d(3, 4, 3, padding=1, init=WIDE), torch.randn(5, 3, 6, 5)
    return FastFlipoutLinear(6, 4, init=WIDE), torch.randn(5, 6)


def closed_form(layer: FastFlipout) -> Tensor:
    return super(FastFlipout, layer).kl()


def network() -> nn.Sequential:
    """A shared convolution, used twice, and a dense layer."""
    torch.manual_seed(0)
    shared = FastFlipoutConv2d(3, 3, 3, padding=1, init=WIDE)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Flatten(), FastFlipoutLinear(48, 2, init=WIDE))
    number_layers(model)
    return model
