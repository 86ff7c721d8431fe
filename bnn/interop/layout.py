"""In which order TensorFlow has the features of a vector that was a map: it flattens (H, W, C), torch (C, H, W)."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from bnn.errors import UserError
from bnn.posterior import Graph, GraphNode
from bnn.posterior.operations import Role, role_of

TO_NHWC = [0, 2, 3, 1]
MOVING = (Role.RESHAPE, Role.PERMUTE, Role.SELECT, Role.OTHER)  # operations that may change the order of values


class FeatureOrder:
    """Follows the features of vectors (N, F) through a graph.

    Raises UserError for a graph in which it cannot: values moved other than by flattening a map (N, C, H, W).
    """

    def __init__(self, graph: Graph) -> None:
        self.nodes = {node.name: node for node in graph.nodes}
        for node in graph.nodes:
            if (role_of(node) in MOVING or node.type == "Flatten") and not self.is_understood(node):
                raise UserError(f"operation {node.name} ({node.type}): cannot tell TensorFlow's order of what it moves")

    def __call__(self, name: str) -> NDArray[np.int64]:
        """Where TensorFlow has each of the features of the output (N, F) of node `name`: positions of shape (F,)."""
        node = self.nodes[name]
        shape = sizes(node)
        inputs = self.inputs(node)
        if len(shape) != 2:
            raise UserError(f"operation {node.name}: a dense layer or norm on shape {shape}, expected (N, features)")
        plain = np.arange(shape[1], dtype=np.int64)
        if self.is_flattening(node):
            source = inputs[0]
            if role_of(source) is Role.PERMUTE:  # the model flattens as TensorFlow does
                return plain
            _, channels, height, width = sizes(source)
            return plain.reshape(height, width, channels).transpose(2, 0, 1).ravel()
        if role_of(node) is Role.CAT and all(len(sizes(source)) == 2 for source in inputs):
            parts = [self(source.name) for source in inputs]
            starts = np.cumsum([0, *(len(part) for part in parts)])
            return np.concatenate([part + start for part, start in zip(parts, starts[:-1], strict=True)])
        if node.op == "input" or role_of(node) is Role.MEAN or node.type.endswith("Linear"):
            return plain
        orders = [self(source.name) for source in inputs]
        if not orders or any(not np.array_equal(order, orders[0]) for order in orders) or len(orders[0]) != len(plain):
            raise UserError(f"operation {node.name} ({node.type}): cannot tell TensorFlow's order of its features")
        return orders[0]

    def inputs(self, node: GraphNode) -> list[GraphNode]:
        """The nodes whose tensors it reads (a node without a shape is a number, such as a batch size)."""
        return [self.nodes[name] for name in node.inputs if self.nodes[name].output_shape is not None]

    def is_flattening(self, node: GraphNode) -> bool:
        """Whether it makes vectors (N, C*H*W) of maps (N, C, H, W)."""
        if role_of(node) is not Role.RESHAPE and node.type != "Flatten":
            return False
        before, after = sizes(self.inputs(node)[0]), sizes(node)
        return len(before) == 4 and len(after) == 2 and after[1] == prod(before[1:])

    def is_understood(self, node: GraphNode) -> bool:
        if role_of(node) is Role.PERMUTE and "dims" in node.arguments:
            users = [user for user in self.nodes.values() if node.name in user.inputs]
            return list(node.arguments["dims"]) == TO_NHWC and all(self.is_flattening(user) for user in users)
        if role_of(node) is not Role.RESHAPE and node.type != "Flatten":
            return False
        return self.inputs(node)[0].output_shape == node.output_shape or self.is_flattening(node)


def sizes(node: GraphNode) -> list[int]:
    """Its output shape, the batch size 0; empty if the output is no tensor."""
    return [size if isinstance(size, int) else 0 for size in node.output_shape or []]
