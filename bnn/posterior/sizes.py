"""The sizes of everything in a graph, as a function of the batch: found by running it on shapes alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bnn.errors import UserError
from bnn.layers import bayesian_layers, mean_only
from bnn.posterior.arguments import UNFITTING
from bnn.posterior.network import GraphNetwork
from bnn.posterior.schema import GraphNode, Size

BATCHES = (2, 3)
# What a graph may ask for. No network that anybody trains comes near: 4 Gi numbers for one example are 16 GiB.
LARGEST = 1 << 32  # elements of a value, per example


def first_line(error: Exception) -> str:
    """What an error of torch's says, without where in its sources it was raised."""
    text = str(error).partition("Exception raised from")[0].strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())[:300]


def sizes(network: GraphNetwork) -> dict[str, list[Size] | None]:
    """The shape of each node's output, by name; None for what is no tensor.

    Nothing is computed and nothing of that size is allocated. Raises UserError for operations that do not fit together,
    values beyond LARGEST elements per example, and sizes that are no multiple of the batch plus a number.
    """
    first, second = (observed(network, batch) for batch in BATCHES)
    return {name: affine(name, first[name], second[name]) for name in first}


def with_sizes(network: GraphNetwork) -> GraphNetwork:
    """`network`, whose graph now says the shape of every node's output."""
    shapes = sizes(network)
    nodes = [node.model_copy(update={"output_shape": shapes[node.name]}) for node in network.graph.nodes]
    network.graph = network.graph.model_copy(update={"nodes": nodes})
    return network


def observed(network: GraphNetwork, batch: int) -> dict[str, list[int] | None]:
    """The shape of each node's output for a batch of that size."""
    found: dict[str, list[int] | None] = {}

    def observe(node: GraphNode, value: Any) -> None:
        found[node.name] = list(value.shape) if isinstance(value, Tensor) else None
        for tensor in value if isinstance(value, list | tuple) else [value]:
            if isinstance(tensor, Tensor) and tensor.numel() > LARGEST * batch:
                raise UserError(f"node {node.name}: {tensor.numel():,} elements for {batch} examples: too many")

    try:
        x = torch.empty(batch, *network.graph.input_shape, device="meta", dtype=network.dtype)
        empty = without_data(network)
        with torch.no_grad(), mean_only(empty):
            empty(x, observe)
    except UNFITTING as error:
        raise UserError(f"the operations do not fit together: {first_line(error)}") from None
    return found


def without_data(network: GraphNetwork) -> GraphNetwork:
    """A copy whose tensors have shapes but no memory. (`functional_call` would take layers for attributes.)"""
    stand_ins: dict[int, Any] = {
        id(value): value.detach().to("meta") for value in network.state_dict(keep_vars=True).values()
    }
    stand_ins |= {id(layer.generator): None for layer in bayesian_layers(network)}
    return copy.deepcopy(network, stand_ins)


def affine(name: str, first: list[int] | None, second: list[int] | None) -> list[Size] | None:
    """A shape from those of both batches."""
    if first is None or second is None:
        return None
    if len(first) != len(second):
        raise UserError(f"node {name}: how many axes it has depends on the batch")
    return [size_of(name, one, two) for one, two in zip(first, second, strict=True)]


def size_of(name: str, one: int, two: int) -> Size:
    slope, steps = two - one, BATCHES[1] - BATCHES[0]
    if slope == 0:
        return one
    base = one - slope * BATCHES[0] // steps
    return None if (base, slope) == (0, 1) else (base, slope)


def elements(shape: Sequence[Size] | None) -> int:
    """How many elements a value has per example: a part that does not grow with the batch counts once."""
    total = 1
    for size in shape or []:
        total *= 1 if size is None else (size if isinstance(size, int) else max(1, sum(size)))
    return total
