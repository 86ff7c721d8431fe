"""A convolution or dense layer whose bias has a posterior, as its weight has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnn.layers.affine import BayesianConv2d, BayesianLinear
from bnn.layers.base import BayesianLayer, PosteriorInit
from bnn.layers.parameter import SUFFIX, BayesianParameter


def of_layer(name: str) -> Any:
    """An attribute that is the one of the same name of `self.layer`."""

    def read(self: BiasedLayer) -> Any:
        return getattr(self.layer, name)

    def write(self: BiasedLayer, value: Any) -> None:
        setattr(self.layer, name, value)

    return property(read, write)


class BiasedLayer(nn.Module):
    """y = layer(x) + b: a Bayesian layer without a bias of its own, and the posterior of the bias b, (channels,).

    Inputs and outputs are the layer's. Whatever its estimator, one sample of the bias serves a forward pass and all its
    examples; under a key of `set_noise` it is the same in all passes until the next key. Sizes and geometry are read
    and set as on the layer itself. Raises ValueError for a layer that has a bias, or another number of channels.
    """

    in_features, out_features = of_layer("in_features"), of_layer("out_features")
    in_channels, out_channels, kernel_size = of_layer("in_channels"), of_layer("out_channels"), of_layer("kernel_size")
    stride, padding = of_layer("stride"), of_layer("padding")
    dilation, groups = of_layer("dilation"), of_layer("groups")
    padding_mode, transposed = of_layer("padding_mode"), of_layer("transposed")
    output_padding, _conv_forward = of_layer("output_padding"), of_layer("_conv_forward")

    def __init__(self, layer: BayesianConv2d | BayesianLinear, bias_posterior: BayesianParameter) -> None:
        super().__init__()
        if layer.bias is not None or bias_posterior.shape != tuple(layer.mu.shape[:1]):
            raise ValueError(f"a bias of shape {bias_posterior.shape} does not fit a {layer}")
        self.layer = layer
        self.bias_posterior = bias_posterior
        self.pixels = (1,) * (layer.mu.dim() - 2)  # axes of an output behind its channels

    @property
    def weight(self) -> Tensor:
        """The kernel as code that reads it finds it: a sample, or the mean inside `mean_only`."""
        return self.layer.weight

    @property
    def bias(self) -> Tensor:
        """The bias as code that reads it finds it: the sample of this pass, or the mean inside `mean_only`."""
        return self.bias_posterior.weight

    def reset_parameters(self) -> None:
        """Draw a new start of both posteriors, the bias's around zero, as a new layer has it."""
        self.layer.reset_parameters()
        self.bias_posterior.reset_parameters()
        with torch.no_grad():
            self.bias_posterior.mu.zero_()

    def forward(self, input: Tensor) -> Tensor:  # torch's name for it, by which it may be called
        x = input
        y: Tensor = self.layer(x)
        bias: Tensor = self.bias_posterior()
        if bias.dtype != y.dtype:  # by autocast, which computes a conventional layer's bias in its output's precision
            bias = bias.to(y.dtype)
        return y + (bias.view(-1, *self.pixels) if self.pixels else bias)


def with_bias(
    layer: BayesianConv2d | BayesianLinear, bias: nn.Parameter, init: PosteriorInit | None, mean_from: str
) -> BiasedLayer:
    """`layer`, and a posterior whose mean is `bias` (0 unless `mean_from` is "module"), frozen where `bias` is."""
    posterior = BayesianParameter(bias.shape, init=init, device=bias.device, dtype=bias.dtype)
    with torch.no_grad():
        posterior.mu.copy_(bias) if mean_from == "module" else posterior.mu.zero_()
    for part in (posterior.mu, posterior.rho):
        part.requires_grad_(bias.requires_grad)
    return BiasedLayer(layer, posterior).train(layer.training)


def conventional_name(path: str, layer: BayesianLayer, modules: Mapping[str, nn.Module]) -> str:
    """The conventional network's name of the tensor whose posterior is the layer at `path`.

    `modules`: the twin's modules by path.
    """
    if isinstance(layer, BayesianParameter):
        return path.removesuffix(SUFFIX)
    owner, _, _ = path.rpartition(".")
    if path and isinstance(modules.get(owner), BiasedLayer):
        path = owner
    return f"{path}.weight" if path else "weight"
