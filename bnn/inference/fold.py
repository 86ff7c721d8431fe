"""Folds BatchNorm, and a ReLU, into the convolution or dense layer before it, where that is exact for every draw.

In evaluation mode BatchNorm is y * factor + shift, channel by channel. Behind a layer it scales mu and sigma of its
rows; behind an addition it goes into both branches, the shift into one of them. It is folded only where no other node
reads the layer's (or the addition's) output, and where the layer is used once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from bnn.inference.draw_layers import Fold
from bnn.layers import BayesianLayer
from bnn.posterior.schema import Graph, GraphNode, node_references

FOLDABLE = (BayesianLayer, nn.Conv2d, nn.Linear)


def fold_batchnorm(graph: Graph, layers: dict[str, nn.Module]) -> tuple[Graph, dict[str, Fold]]:
    """The graph without the BatchNorms that can be folded, and what to fold into which layer (by name)."""
    nodes, readers, uses = surveyed(graph)
    folds: dict[str, Fold] = {}
    replaced: dict[str, str] = {}
    for node in graph.nodes:
        norm = layers.get(node.layer or "")
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_var is None:
            continue
        source = nodes[node.inputs[0]]
        behind = producers(source, nodes, readers, layers, uses)
        if not behind or len(source.output_shape or []) == 3:  # BatchNorm1d on (N, C, L) has its channels elsewhere
            continue
        if any(name in folds for name in behind):
            continue
        fold = as_affine(norm)
        for place, name in enumerate(behind):
            folds[name] = Fold(fold.factor, fold.shift if place == 0 else torch.zeros_like(fold.shift))
        replaced[node.name] = source.name
    return without(graph, replaced), folds


def fold_relu(graph: Graph, layers: dict[str, nn.Module]) -> tuple[Graph, set[str]]:
    """The graph without each ReLU that is the only reader of a layer, and the names of those layers."""
    nodes, readers, uses = surveyed(graph)
    replaced: dict[str, str] = {}
    rectified: set[str] = set()
    for node in graph.nodes:
        is_relu = isinstance(layers.get(node.layer or ""), nn.ReLU) or (node.op, node.type) == ("function", "relu")
        source = nodes[node.inputs[0]] if is_relu else node
        if is_relu and source.op == "layer" and producers(source, nodes, readers, layers, uses):
            rectified.add(str(source.layer))
            replaced[node.name] = source.name
    return without(graph, replaced), rectified


def surveyed(graph: Graph) -> tuple[dict[str, GraphNode], Counter[str], Counter[str | None]]:
    """The nodes by name, how many nodes read each, and how often each layer is used."""
    readers: Counter[str] = Counter()
    for node in graph.nodes:
        readers.update({*node.inputs, *node_references(node.arguments)})
    uses = Counter(node.layer for node in graph.nodes if node.op == "layer")
    return {node.name: node for node in graph.nodes}, readers, uses


def without(graph: Graph, replaced: dict[str, str]) -> Graph:
    """The graph without the nodes that are keys of `replaced`; their readers read the nodes that are its values."""
    kept = [redirected(node, replaced) for node in graph.nodes if node.name not in replaced]
    return graph.model_copy(update={"nodes": kept})


def producers(
    node: GraphNode,
    nodes: dict[str, GraphNode],
    readers: Counter[str],
    layers: dict[str, nn.Module],
    uses: Counter[Any],
) -> list[str]:
    """Names of the layers whose sum `node` is, if `node` and each of them has one reader; else an empty list."""
    if readers[node.name] != 1:
        return []
    if node.op == "layer" and isinstance(layers.get(str(node.layer)), FOLDABLE) and uses[node.layer] == 1:
        return [str(node.layer)]
    if node.op == "function" and node.type == "add":
        terms = [node.arguments.get(side) for side in ("x", "y")]
        if not all(isinstance(term, dict) for term in terms) or terms[0] == terms[1]:
            return []
        sums = [producers(nodes[str(term["node"])], nodes, readers, layers, uses) for term in terms if term]
        return sums[0] + sums[1] if all(sums) else []
    return []


def as_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Fold:
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
