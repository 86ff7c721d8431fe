"""Folds a bias with a posterior, BatchNorm and a ReLU into the convolution or dense layer before it.

That is done where it is exact for every draw.

In evaluation mode BatchNorm is y * factor + shift, channel by channel. Behind a layer it scales mu and sigma of its
rows; behind an addition of tensors of equal shape it goes into both branches, the shift into one of them. It is folded
only where the layer's units are the channels that it normalises, where no other node reads the layer's (or the
addition's) output, and where the layer is used once and its tensors by nobody else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnn.inference.draw_layers import Fold, is_convolution, is_dense
from bnn.layers.base import BayesianLayer
from bnn.layers.parameter import BayesianParameter
from bnn.posterior.operations import Role, role_of
from bnn.posterior.schema import Graph, GraphNode, node_references

BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
ADDITIONS = {"add": ("x", "y"), "aten.add.Tensor": ("self", "other")}
RELUS = ("relu", "aten.relu.default")


@dataclass(frozen=True)
class Survey:
    """What folding asks of a graph: its nodes by name, how many read each, which layers are used but once."""

    nodes: dict[str, GraphNode]
    readers: Counter[str]
    layers: dict[str, nn.Module]
    once: set[str]

    @classmethod
    def of(cls, graph: Graph, layers: dict[str, nn.Module]) -> Survey:
        readers: Counter[str] = Counter()
        for node in graph.nodes:
            readers.update(node.reads)
        uses = Counter(str(node.layer) for node in graph.nodes if node.op == "layer")
        # A layer whose weight or bias is also read as a tensor must keep it as it is.
        uses.update(str(node.tensor).rpartition(".")[0] for node in graph.nodes if node.op == "tensor")
        once = {name for name, count in uses.items() if count == 1}
        return cls({node.name: node for node in graph.nodes}, readers, layers, once)

    def is_foldable(self, node: GraphNode) -> bool:
        """Whether a node is a layer, used once and read by one node, into which something can be folded."""
        if node.op != "layer" or not node.inputs or self.readers[node.name] != 1 or str(node.layer) not in self.once:
            return False
        layer = self.layers[str(node.layer)]
        return is_dense(layer) or (is_convolution(layer) and len(node.output_shape or []) == 4)

    def producers(self, node: GraphNode) -> list[str]:
        """Names of the layers whose sum `node` is, units on axis 1, each with one reader; empty where there are none.

        A layer comes up once at most: it is used once, and has one reader.
        """
        if self.is_foldable(node):
            on_axis_1 = len(node.output_shape or []) == (2 if is_dense(self.layers[str(node.layer)]) else 4)
            return [str(node.layer)] if on_axis_1 else []
        terms = self.terms(node)
        if not terms or self.readers[node.name] != 1:
            return []
        sums = [self.producers(term) for term in terms]
        return sums[0] + sums[1] if all(sums) else []

    def bias(self, node: GraphNode) -> list[GraphNode]:
        """A node that is a vector with a posterior, after those that only change its shape; none if others read it."""
        if self.readers[node.name] != 1:
            return []
        if role_of(node) is Role.RESHAPE and len(node.reads) == 1:
            behind = self.bias(self.nodes[node.inputs[0]])
            return [node, *behind] if behind else []
        layer = self.layers.get(str(node.layer))
        vector = isinstance(layer, BayesianParameter) and len(layer.shape) == 1
        return [node] if vector and str(node.layer) in self.once else []

    def dtype(self, node: GraphNode) -> torch.dtype:
        """The precision of a layer's parameters."""
        return next(self.layers[str(node.layer)].parameters()).dtype

    def terms(self, node: GraphNode) -> list[GraphNode]:
        """The two terms of an addition of tensors of equal shape; empty for any other node."""
        if node.op != "function" or node.type not in ADDITIONS or set(node.arguments) != set(ADDITIONS[node.type]):
            return []
        names = list(node_references([node.arguments[side] for side in ADDITIONS[node.type]]))
        terms = [self.nodes[name] for name in dict.fromkeys(names)]
        equal = all(term.output_shape is not None and term.output_shape == node.output_shape for term in terms)
        return terms if len(terms) == 2 and equal else []


def fold_biases(graph: Graph, layers: dict[str, nn.Module]) -> tuple[Graph, dict[str, str]]:
    """The graph without the additions of a bias with a posterior behind its layer; the names of such layers and biases.

    Only what nothing else reads: the layer's output, the bias, and the bias in the shape in which it is added.
    """
    survey = Survey.of(graph, layers)
    folded: dict[str, str] = {}
    replaced: dict[str, str] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        if node.op != "function" or node.type not in ADDITIONS or set(node.arguments) != set(ADDITIONS[node.type]):
            continue
        terms = [survey.nodes[name] for name in node_references(list(node.arguments.values()))]
        for source, added in (terms, terms[::-1]) if len(terms) == 2 else ():
            chain = survey.bias(added)
            layer = layers.get(str(source.layer))
            if not chain or not survey.is_foldable(source) or not isinstance(layer, BayesianLayer):
                continue
            pixels = [1] * (layer.mu.dim() - 2)  # a convolution's bias is added to every one
            alike = added.output_shape == [len(layer.mu), *pixels] and survey.dtype(chain[-1]) == layer.mu.dtype
            if layer.bias is None and alike:
                folded[str(source.layer)], replaced[node.name] = str(chain[-1].layer), source.name
                gone.update(one.name for one in chain)
                break
    kept = [node for node in graph.nodes if node.name not in gone]
    return without(graph.model_copy(update={"nodes": kept}), replaced), folded


def fold_batchnorm(graph: Graph, layers: dict[str, nn.Module]) -> tuple[Graph, dict[str, Fold]]:
    """The graph without the BatchNorms that can be folded, and what to fold into which layer (by name)."""
    survey = Survey.of(graph, layers)
    folds: dict[str, Fold] = {}
    replaced: dict[str, str] = {}
    for node in graph.nodes:
        norm = layers.get(node.layer or "")
        if not node.inputs or not isinstance(norm, BATCHNORMS) or norm.running_var is None:
            continue
        source = survey.nodes[node.inputs[0]]
        behind = survey.producers(source)
        if not behind or any(name in folds for name in behind):
            continue
        fold = as_affine(norm)
        for place, name in enumerate(behind):
            folds[name] = Fold(fold.factor, fold.shift if place == 0 else torch.zeros_like(fold.shift))
        replaced[node.name] = source.name
    return without(graph, replaced), folds


def fold_relu(graph: Graph, layers: dict[str, nn.Module]) -> tuple[Graph, set[str]]:
    """The graph without each ReLU that is the only reader of a layer, and the names of those layers."""
    survey = Survey.of(graph, layers)
    replaced: dict[str, str] = {}
    rectified: set[str] = set()
    for node in graph.nodes:
        of_layer = node.op == "layer" and bool(node.inputs) and isinstance(layers[str(node.layer)], nn.ReLU)
        if not of_layer and not (node.op == "function" and node.type in RELUS):
            continue
        source = survey.nodes[node.inputs[0]]
        if survey.is_foldable(source):
            rectified.add(str(source.layer))
            replaced[node.name] = source.name
    return without(graph, replaced), rectified


def without(graph: Graph, replaced: dict[str, str]) -> Graph:
    """The graph without the nodes that are keys of `replaced`; their readers read the nodes that are its values."""
    kept = [redirected(node, replaced) for node in graph.nodes if node.name not in replaced]
    return graph.model_copy(update={"nodes": kept})


def as_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> Fold:
    """A BatchNorm in evaluation mode as factor and shift per channel, computed in double precision."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    with torch.no_grad():
        ones = torch.ones_like(norm.running_var, dtype=torch.float64)
        weight: Tensor = ones if norm.weight is None else norm.weight.double()
        bias: Tensor = 0 * ones if norm.bias is None else norm.bias.double()
        factor = weight / (norm.running_var.double() + norm.eps).sqrt()
        shift = bias - factor * norm.running_mean.double()
        dtype = norm.running_var.dtype
        return Fold(factor.to(dtype), shift.to(dtype))


def redirected(node: GraphNode, replaced: dict[str, str]) -> GraphNode:
    """The node with new inputs: wherever it read a key of `replaced`, it reads the value."""

    def now(value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"node"}:
            return {"node": replaced.get(value["node"], value["node"])}
        return [now(item) for item in value] if isinstance(value, list) else value

    inputs = [replaced.get(name, name) for name in node.inputs]
    arguments = {key: now(value) for key, value in node.arguments.items()}
    return node.model_copy(update={"inputs": inputs, "arguments": arguments})
