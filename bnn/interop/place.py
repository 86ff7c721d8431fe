"""Puts the arrays of a TensorFlow layer into one of ours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.interop.names import SourceLayer
from bnn.layers import BayesianConv2d, BayesianLayer, BayesianLinear
from bnn.layers.affine import ConvGeometry

KERAS_EPS = 1e-3  # of BatchNormalization; it is no variable, so the file cannot say otherwise


def rho_of(untransformed: NDArray[np.floating]) -> NDArray[np.float64]:
    """Our rho for TFP's untransformed scale: softplus(rho) = sigma = eps + softplus(untransformed).

    eps is that of the array's type, as in tfp.layers.default_mean_field_normal_fn.
    """
    sigma = np.finfo(untransformed.dtype).eps + np.logaddexp(0.0, untransformed.astype(np.float64))
    rho: NDArray[np.float64] = sigma + np.log(-np.expm1(-sigma))
    return rho


def to_torch(kernel: NDArray[np.floating], order: NDArray[np.int64] | None) -> NDArray[np.floating]:
    """(height, width, in, out) -> (out, in, height, width), or (in, out) -> (out, in) with our order of features."""
    return kernel.transpose(3, 2, 0, 1) if order is None else kernel[order].T


def place_kernel(
    name: str, layer: nn.Module, source: SourceLayer, order: NDArray[np.int64] | None
) -> tuple[nn.Module, list[str]]:
    """`layer`, or a conventional one in its place if the file has no posterior for it, and what is to be said.

    `order` (of a dense layer) says where the file has each input feature. Raises UserError for a bias without a place.
    """
    said = []
    if not isinstance(layer, BayesianLayer):
        raise UserError(f"layer {name}: a {type(layer).__name__} cannot take a kernel")
    if source.bias is not None and layer.bias is None:
        raise UserError(f"array {source.name}'s bias: left over; the model's {name} has none")
    if source.bias is None and layer.bias is not None:
        said.append(f"{name}: no bias in the file ({source.name}); it is zero")
    if order is not None and not np.array_equal(order, np.arange(len(order))):
        said.append(f"{name}: inputs reordered from TensorFlow's flattened (H, W, C) to (C, H, W)")
    if source.kind == "point":
        said.append(f"{name}: conventional, without a posterior; the file has only {source.variable}")
        placed = conventional(layer, layer.bias is not None)
        copy(placed.weight, to_torch(source.arrays["kernel"], order))
        copy(placed.bias, source.bias)
        return placed, said
    copy(layer.mu, to_torch(source.arrays["kernel_posterior_loc"], order))
    copy(layer.rho, to_torch(rho_of(source.arrays["kernel_posterior_untransformed_scale"]), order))
    copy(layer.bias, source.bias)
    return layer, said


def conventional(layer: BayesianLayer, bias: bool) -> nn.Conv2d | nn.Linear:
    """A conventional layer with the geometry of a Bayesian one; its values are yet to be set."""
    device, dtype = layer.mu.device, layer.mu.dtype
    if isinstance(layer, BayesianLinear):
        return nn.Linear(layer.in_features, layer.out_features, bias, device, dtype)
    if isinstance(layer, BayesianConv2d):
        stride, padding, dilation, groups = ConvGeometry.of(layer)
        sizes = layer.in_channels, layer.out_channels, layer.kernel_size, stride, padding, dilation
        return nn.Conv2d(*sizes, groups, bias, device=device, dtype=dtype)
    raise TypeError(f"no conventional layer for {type(layer).__name__}")


def place_norm(name: str, layer: nn.Module, source: SourceLayer, order: NDArray[np.int64] | None) -> list[str]:
    """Fill `layer` and return what is to be said. Raises UserError for an array without a place."""
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    if layer.running_mean is None:
        raise UserError(f"layer {name}: it keeps no running statistics, but the file has {source.name}'s")
    said = []
    targets = {
        "gamma": (layer.weight, 1.0),
        "beta": (layer.bias, 0.0),
        "moving_mean": (layer.running_mean, 0.0),
        "moving_variance": (layer.running_var, 1.0),
    }
    for variable, (target, neutral) in targets.items():
        array = source.arrays.get(variable)
        if array is None:
            if target is not None:
                said.append(f"{name}: no {variable} in the file ({source.name}); it is {neutral:g}")
                array = np.full(target.shape, neutral)
        elif target is None:
            raise UserError(f"array {source.name}/{variable}: left over; the model's {name} has no such parameter")
        copy(target, array if array is None or order is None else array[order])
    if layer.eps != KERAS_EPS:
        said.append(f"{name}: epsilon is Keras' {KERAS_EPS:g}, not the model's {layer.eps:g}")
        layer.eps = KERAS_EPS
    return said


def copy(target: Tensor | None, values: NDArray[np.floating] | None) -> None:
    """Set a tensor, with zeros where the file has nothing."""
    if target is not None:
        with torch.no_grad():
            target.zero_() if values is None else target.copy_(torch.from_numpy(np.ascontiguousarray(values)))
