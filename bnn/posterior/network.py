"""Runs a posterior's graph: the interpreter of the whitelisted operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from bnn.errors import UserError
from bnn.posterior.functions import FUNCTIONS, bind
from bnn.posterior.schema import Graph, GraphNode, node_references

Observer = Callable[[GraphNode, Any], None]


class GraphNetwork(nn.Module):
    """A model that executes a graph. Input (N, *graph.input_shape), output logits (N, classes).

    Its layers have the names, parameters and noise of the model that was saved: `set_noise`, `mean_only` and
    `kl_divergence` work on it, and the same noise key gives the same output bit for bit. Raises UserError for a graph
    with an unknown function or names that cannot be those of submodules.
    """

    def __init__(self, graph: Graph, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.graph = graph
        self._calls = [layers[str(node.layer)] if node.op == "layer" else None for node in graph.nodes]
        for path, layer in layers.items():
            attach(self, path, layer)
        last_use: dict[str, int] = {}
        for index, node in enumerate(graph.nodes):
            if node.op == "function":
                bind(node.type, (), node.arguments)
            for name in (*node.inputs, *node_references(node.arguments)):
                last_use[name] = index
        self.finished: list[list[str]] = [[] for _ in graph.nodes]  # values that no later node reads
        for name, index in last_use.items():
            self.finished[index].append(name)

    def forward(self, x: Tensor, observe: Observer | None = None) -> Tensor:
        """Logits. `observe` is called with every node and its output. Raises UserError for a wrong input shape."""
        if list(x.shape[1:]) != self.graph.input_shape:
            raise UserError(f"input shape {list(x.shape[1:])}: this posterior takes {self.graph.input_shape}")
        values: dict[str, Any] = {}
        for node, layer, finished in zip(self.graph.nodes, self._calls, self.finished, strict=True):
            if layer is not None:
                value: Any = layer(values[node.inputs[0]])
            elif node.op == "input":
                value = x
            elif node.op == "function":
                value = FUNCTIONS[node.type](**{key: filled(item, values) for key, item in node.arguments.items()})
            else:
                value = values[node.inputs[0]]
            if observe is not None:
                observe(node, value)
            values[node.name] = value
            for name in finished:
                del values[name]
        return value


def filled(value: Any, values: dict[str, Any]) -> Any:
    """An argument as it is passed: references to nodes replaced by their values, lists by tuples."""
    if isinstance(value, dict):
        return values[value["node"]]
    if isinstance(value, list):
        return tuple(filled(item, values) for item in value)
    return value


def attach(root: nn.Module, path: str, layer: nn.Module) -> None:
    """Make `layer` the submodule `path` (with dots) of `root`. Raises UserError if that name cannot be one."""
    *parents, name = path.split(".")
    try:
        for parent in parents:
            if parent not in root._modules:
                root.add_module(parent, nn.Module())
            root = root.get_submodule(parent)
        root.add_module(name, layer)
    except (KeyError, TypeError) as error:
        raise UserError(f"layer {path!r}: impossible name ({error})") from None
