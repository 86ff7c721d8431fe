"""The sizes of everything in a graph, as a function of the batch: found by running it on shapes alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bnn.errors import UserError
from bnn.layers import mean_only
from bnn.layers.noise import noisy_layers
from bnn.posterior.alone import ALONE
from bnn.posterior.arguments import UNFITTING
from bnn.posterior.network import GraphNetwork
from bnn.posterior.schema import GraphNode, Size

# The last is the largest that a graph is recorded for. A straight line through these three is one for all between them:
# each number and each axis comes from such lines by sums, products and quotients (rounded down), or is the larger or
# smaller of two.
BATCHES = (2, 3, 1 << 20)
# What a graph may ask for. No network that anybody trains comes near: 4 Gi numbers for one example are 16 GiB.
LARGEST = 1 << 32  # elements of a value, per example


def first_line(error: Exception) -> str:
    """What an error of torch's says, without where in its sources it was raised."""
    text = str(error).partition("Exception raised from")[0].strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())[:300]


def sizes(network: GraphNetwork) -> dict[str, list[Size] | None]:
    """The shape of each node's output, by name; None for what is no tensor.

    Nothing is computed and nothing of that size is allocated. Raises UserError for operations that do not fit together,
    values beyond LARGEST elements per example in any of BATCHES, and numbers and sizes that are no multiple of the
    batch plus a number. So no value has more than twice LARGEST elements per example in a batch of 2 to 2^20.
    """
    empty = without_data(network)
    with ALONE:
        found = [observed(empty, batch) for batch in BATCHES]
    return {name: affine(name, [values[name] for values in found]) for name in found[0]}


def with_sizes(network: GraphNetwork) -> GraphNetwork:
    """`network`, whose graph now says the shape of every node's output."""
    shapes = sizes(network)
    nodes = [node.model_copy(update={"output_shape": shapes[node.name]}) for node in network.graph.nodes]
    network.graph = network.graph.model_copy(update={"nodes": nodes})
    return network


def observed(empty: GraphNetwork, batch: int) -> dict[str, list[int] | float | None]:
    """The shape of each node's output for a batch of that size, or the number that it is; `empty` has no data."""
    found: dict[str, list[int] | float | None] = {}

    def observe(node: GraphNode, value: Any) -> None:
        found[node.name] = list(value.shape) if isinstance(value, Tensor) else number_of(value)
        for tensor in value if isinstance(value, list | tuple) else [value]:
            if isinstance(tensor, Tensor) and tensor.numel() > LARGEST * batch:
                raise UserError(f"node {node.name}: {tensor.numel():,} elements for {batch} examples: too many")

    try:
        x = torch.empty(batch, *empty.graph.input_shape, device="meta", dtype=empty.dtype)
        with torch.no_grad(), mean_only(empty):
            empty(x, observe)
    except UNFITTING as error:
        raise UserError(f"the operations do not fit together: {first_line(error)}") from None
    return found


def number_of(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def without_data(network: GraphNetwork) -> GraphNetwork:
    """A copy whose tensors have shapes but no memory. (`functional_call` would take layers for attributes.)"""
    stand_ins: dict[int, Any] = {
        id(value): value.detach().to("meta") for value in network.state_dict(keep_vars=True).values()
    }
    stand_ins |= {id(layer.generator): None for layer in noisy_layers(network)}
    stand_ins |= {id(value): value for value in (network.graph, *network.graph.nodes)}
    return copy.deepcopy(network, stand_ins)


def affine(name: str, values: list[list[int] | float | None]) -> list[Size] | None:
    """A shape from those of all BATCHES. Of a number it is checked only that it grows with the batch evenly."""
    shapes = [value for value in values if isinstance(value, list)]
    numbers = [value for value in values if isinstance(value, int | float)]
    if numbers:
        line(name, numbers)
    if not shapes:
        return None
    if len({len(shape) for shape in shapes}) > 1:
        raise UserError(f"node {name}: how many axes it has depends on the batch")
    return [size_of(name, list(axis)) for axis in zip(*shapes, strict=True)]


def size_of(name: str, sizes: list[int]) -> Size:
    base, slope = line(name, sizes)
    if slope == 0:
        return int(base)
    return None if (base, slope) == (0, 1) else (int(base), int(slope))


def line(name: str, values: Sequence[float]) -> tuple[float, float]:
    """a and b of a + b * batch, from the values for all BATCHES. Raises UserError where they are no straight line."""
    slope = values[1] - values[0]
    base = values[0] - slope * BATCHES[0]
    if len(values) < len(BATCHES) or not math.isclose(base + slope * BATCHES[2], values[2], rel_tol=1e-12):
        raise UserError(f"node {name}: it does not grow evenly with the number of examples ({BATCHES}: {values})")
    return base, slope


def elements(shape: Sequence[Size] | None) -> int:
    """How many elements a value has per example: a part that does not grow with the batch counts once."""
    total = 1
    for size in shape or []:
        total *= 1 if size is None else (size if isinstance(size, int) else max(1, sum(size)))
    return total
