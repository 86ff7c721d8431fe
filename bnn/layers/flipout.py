"""Flipout (Wen, Vicol, Ba, Tran, Grosse 2018, eq. 4) in plain torch: the reference for every faster implementation.

One perturbation sigma * eps is shared by the batch and decorrelated between examples by random signs r, s:

    y_n = f(x_n; mu) + s_n * f(x_n * r_n; sigma * eps) + bias

with one sign per (example, channel), constant over space. The noise is drawn in this order: eps, r (of the
inputs), s (of the outputs).
"""

from __future__ import annotations

from torch import Tensor

from bnn.layers.affine import BayesianConv2d, BayesianLinear
from bnn.layers.base import BayesianLayer, LinearMap


def flipped(layer: LinearMap, x: Tensor) -> Tensor:
    """The output for an input `x`, for any linear map f."""
    perturbation = layer.sigma * layer.standard_normal()
    turned = x * layer.random_signs(x)
    mean = layer.affine(x, layer.mu, layer.bias)
    return mean + layer.random_signs(mean) * layer.affine(turned, perturbation, None)


class Flipout(BayesianLayer):
    """The sampling of a Flipout layer, for any function f (a convolution or a matrix product)."""

    def sample(self, x: Tensor) -> Tensor:
        return flipped(self, x)


class FlipoutConv2d(Flipout, BayesianConv2d):
    """Convolution by Flipout (Wen et al. 2018, eq. 4) in plain torch. Shapes and errors as of `BayesianConv2d`.

    With `groups`, too, every example's kernel is mu + sigma * eps * (s_n r_n^T).
    """


class FlipoutLinear(Flipout, BayesianLinear):
    """Dense layer by Flipout (Wen et al. 2018, eq. 4) in plain torch. Shapes and errors as of `BayesianLinear`.

    Further dimensions of the input, (N, *, features), share their example's signs.
    """
