"""Channels that have the same value for every input: what a unit without weights computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnn.inference.fold import as_affine
from bnn.layers import BayesianLayer
from bnn.layers.parameter import BayesianParameter
from bnn.posterior import GraphNode
from bnn.posterior.arguments import filled, places
from bnn.posterior.operations import OPERATIONS, Role, role_of
from bnn.pruning.axes import CHANNELWISE, CONSTANT_PAD
from bnn.pruning.spaces import BATCHNORMS, CONVOLUTIONS, DENSE, POINTWISE_LAYERS, POOL_LAYERS, Spaces

KEEPING = (Role.POOL, Role.MEAN, Role.PERMUTE, Role.SELECT, Role.ITEM)
ELEMENTWISE = (Role.POINTWISE, Role.BINARY)


@torch.no_grad()
def constants(spaces: Spaces) -> dict[str, Tensor]:
    """For every node with known channels its channels' constants (channels,), double precision; NaN: not constant.

    Padding does not count: where a convolution pads a constant that is not 0, its rows must be zero to be constant.
    """
    found: dict[str, Tensor] = {}
    for node in spaces.network.graph.nodes:
        channels = spaces.channels[node.name] or spaces.several.get(node.name)
        if channels is None or node.op == "output":
            continue
        size = spaces.size(channels)
        value = of_node(node, spaces, found)
        found[node.name] = torch.full((size,), torch.nan, dtype=torch.float64) if value is None else value
    return found


def of_node(node: GraphNode, spaces: Spaces, found: dict[str, Tensor]) -> Tensor | None:
    """The constants of one node from those of its inputs; None where there are none."""
    inputs = [found[name] for name in node.inputs if name in found]
    if node.op == "layer":
        return of_layer(node, spaces, inputs)
    if not inputs:
        return None
    role = role_of(node)
    if role is Role.RESHAPE:
        return flattened(node, spaces, inputs[0])
    if role in KEEPING:
        return inputs[0]
    if role is Role.AVERAGE_POOL or node.type in CHANNELWISE:
        return zero_only(inputs[0])
    if node.type == CONSTANT_PAD:
        return zero_only(inputs[0]) if node.arguments.get("value", 0) == 0 else None
    if role is Role.CAT and len(inputs) == len(node.inputs):
        return torch.cat(inputs)
    return computed(node, found) if role in ELEMENTWISE and len(inputs) == len(node.inputs) else None


def of_layer(node: GraphNode, spaces: Spaces, inputs: list[Tensor]) -> Tensor | None:
    layer = spaces.network.get_submodule(str(node.layer))
    if isinstance(layer, (*DENSE, *CONVOLUTIONS, BayesianParameter)):
        return of_kernel(layer)
    if not inputs:
        return None
    x = inputs[0]
    if isinstance(layer, BATCHNORMS):
        fold = as_affine(layer)
        return torch.where(fold.factor == 0, fold.shift.double(), x * fold.factor.double() + fold.shift.double())
    if isinstance(layer, nn.Flatten):
        return flattened(node, spaces, x)
    if isinstance(layer, nn.AvgPool2d):
        return zero_only(x)
    if isinstance(layer, (*POOL_LAYERS, nn.Identity, nn.Dropout)):
        return x
    return layer(x.clone()) if type(layer) in POINTWISE_LAYERS else None


def computed(node: GraphNode, found: dict[str, Tensor]) -> Tensor | None:
    """An operation, element by element, of constants; None where it is none of numbers."""
    if node.type == "dropout":
        return found[node.inputs[0]]
    positional, named = places(node.type, node.arguments)
    values = {name: found[name].clone() for name in node.inputs}
    try:
        value = OPERATIONS[node.type].function(
            *[filled(item, values) for item in positional], **{key: filled(item, values) for key, item in named.items()}
        )
    except RuntimeError:  # of truth values, for instance
        return None
    if not isinstance(value, Tensor):
        return None
    unknown = torch.stack([x.isnan() for x in values.values()]).any(0)
    return torch.where(unknown, torch.nan, value.double())  # comparisons make something of what is no number


def of_kernel(layer: nn.Module) -> Tensor:
    """A row without weights gives its bias; a number of a vector is a row."""
    if isinstance(layer, BayesianLayer):
        weights = (layer.mu != 0) | (layer.sigma != 0)
    else:
        assert isinstance(layer.weight, Tensor)
        weights = layer.weight != 0
    bias = layer.bias if isinstance(layer.bias, Tensor) else torch.zeros(len(weights))
    return torch.where(weights.reshape(len(weights), -1).any(1), torch.nan, bias.double())


def zero_only(x: Tensor) -> Tensor:
    """Average pooling may count padded zeros, which only a zero stays the same with."""
    return torch.where(x == 0, x, torch.nan)


def flattened(node: GraphNode, spaces: Spaces, x: Tensor) -> Tensor:
    channels = spaces.channels[node.name]
    size = len(x) if channels is None else spaces.size(channels)
    return x.repeat_interleave(size // len(x)) if size % len(x) == 0 else torch.full((size,), torch.nan)
