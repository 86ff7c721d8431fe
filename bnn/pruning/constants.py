"""Channels that have the same value for every input: what a unit without weights computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnn.inference.fold import as_affine
from bnn.layers import BayesianLayer
from bnn.posterior import GraphNode
from bnn.posterior.functions import FUNCTIONS
from bnn.pruning.spaces import KEEPING_LAYERS, Spaces

POOLS = (nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Identity, nn.Dropout)
POOL_FUNCTIONS = ("max_pool2d", "adaptive_avg_pool2d", "mean", "dropout", "flatten", "reshape")


@torch.no_grad()
def constants(spaces: Spaces) -> dict[str, Tensor]:
    """For every node with known channels its channels' constants (channels,), double precision; NaN: not constant.

    Padding does not count: where a convolution pads a constant that is not 0, its rows must be zero to be constant.
    """
    found: dict[str, Tensor] = {}
    for node in spaces.network.graph.nodes:
        channels = spaces.channels[node.name]
        if channels is None or node.op == "output":
            continue
        size = sum(spaces.of(segment).units * segment.factor for segment in channels)
        value = of_node(node, spaces, found)
        found[node.name] = torch.full((size,), torch.nan, dtype=torch.float64) if value is None else value
    return found


def of_node(node: GraphNode, spaces: Spaces, found: dict[str, Tensor]) -> Tensor | None:
    """The constants of one node from those of its inputs; None where there are none."""
    inputs = [found[name] for name in node.inputs if name in found]
    if node.op == "layer":
        layer = spaces.network.get_submodule(str(node.layer))
        if isinstance(layer, BayesianLayer | nn.Conv2d | nn.Linear):
            return of_kernel(layer)
        if not inputs:
            return None
        x = inputs[0]
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            fold = as_affine(layer)
            return torch.where(fold.factor == 0, fold.shift.double(), x * fold.factor.double() + fold.shift.double())
        if isinstance(layer, nn.Flatten):
            return flattened(node, spaces, x)
        if isinstance(layer, nn.AvgPool2d):
            return zero_only(x)
        if isinstance(layer, POOLS):
            return x
        return layer(x.clone()) if isinstance(layer, KEEPING_LAYERS) else None
    if node.type in ("flatten", "reshape") and inputs:
        return flattened(node, spaces, inputs[0])
    if node.type == "avg_pool2d" and inputs:
        return zero_only(inputs[0])
    if node.type in POOL_FUNCTIONS and inputs:
        return inputs[0]
    if node.type == "cat" and len(inputs) == len(node.inputs):
        return torch.cat(inputs)
    if node.op == "function" and len(inputs) == len(node.inputs):
        arguments = {
            key: found[value["node"]].clone() if isinstance(value, dict) else value
            for key, value in node.arguments.items()
        }
        value = FUNCTIONS[node.type](**arguments)
        return value if isinstance(value, Tensor) else None
    return None


def of_kernel(layer: nn.Module) -> Tensor:
    """A row without weights gives its bias."""
    if isinstance(layer, BayesianLayer):
        weights = (layer.mu != 0) | (layer.sigma != 0)
    else:
        assert isinstance(layer.weight, Tensor)
        weights = layer.weight != 0
    bias = layer.bias if isinstance(layer.bias, Tensor) else torch.zeros(len(weights))
    return torch.where(weights.flatten(1).any(1), torch.nan, bias.double())


def zero_only(x: Tensor) -> Tensor:
    """Average pooling may count padded zeros, which only a zero stays the same with."""
    return torch.where(x == 0, x, torch.nan)


def flattened(node: GraphNode, spaces: Spaces, x: Tensor) -> Tensor:
    channels = spaces.channels[node.name] or []
    size = sum(spaces.of(segment).units * segment.factor for segment in channels)
    return x.repeat_interleave(size // len(x)) if size % len(x) == 0 else torch.full((size,), torch.nan)
