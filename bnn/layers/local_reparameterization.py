"""Local reparameterization (Kingma, Salimans, Welling 2015): samples outputs instead of weights.

Given its input, every output of a layer is Gaussian, and is drawn as such, with noise of its own:

    y_n = f(x_n; mu) + bias + sqrt(f(x_n^2; sigma^2)) * eps_n

For a dense layer on (N, features) that is the exact distribution: a row of weights serves one output of an example.
For a convolution, and for a dense layer on (N, *, features), it is not: the pixels of a channel share their kernel,
which correlates them, but are drawn independently here. Each output's mean and variance are right, their covariances
are not, and no one weight sample per example is behind them: do not read such outputs as draws of a network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnn.layers.affine import BayesianConv2d, BayesianLinear
from bnn.layers.base import BayesianLayer, LinearMap


def locally_sampled(layer: LinearMap, x: Tensor) -> Tensor:
    """The output for an input `x`, for any linear map f."""
    mean = layer.affine(x, layer.mu, layer.bias)
    variance = layer.affine(x.square(), layer.sigma.square(), None)
    # The root's slope is infinite at 0, where an input is all zeros (padding, ReLU), and infinity * 0 is NaN. From
    # the smallest normal number on, slope * gradient of the variance is at most |x| (for sigma) or sigma (for x),
    # so nothing overflows; below it the gradient is 0, as the derivative of |x| at 0 is commonly taken. What a
    # library's rounding leaves below zero is caught, too. (A summand large enough for that would be noise.)
    deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
    noise = torch.randn(mean.shape, generator=layer.generator, device=mean.device, dtype=mean.dtype)
    return torch.addcmul(mean, deviation, noise)


class LocalReparameterization(BayesianLayer):
    """The sampling of a local reparameterization layer, for any function f (a convolution or a matrix product)."""

    def sample(self, x: Tensor) -> Tensor:
        return locally_sampled(self, x)


class LocalReparameterizationConv2d(LocalReparameterization, BayesianConv2d):
    """Convolution whose output pixels are sampled independently (Kingma, Salimans, Welling 2015).

    Variances are exact, covariances are not. Shapes and errors as of `BayesianConv2d`.
    """


class LocalReparameterizationLinear(LocalReparameterization, BayesianLinear):
    """Dense layer whose outputs are sampled (Kingma, Salimans, Welling 2015, section 2.2).

    That is exact for inputs (N, features). Shapes and errors as of `BayesianLinear`.
    """
