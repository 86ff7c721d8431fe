"""Divides a network: what comes before the first draw, computed once for all of them, and the rest."""

from __future__ import annotations

from torch import Tensor, nn

from bnn.inference.draw_layers import DrawLayer
from bnn.inference.draw_masks import DrawMask
from bnn.layers.noise import NoisyLayer
from bnn.posterior import Graph, GraphNetwork, GraphNode
from bnn.posterior.schema import needed

SIZES = ("aten.sym_size.int",)


def divided(
    graph: Graph, layers: dict[str, nn.Module], tensors: dict[str, Tensor]
) -> tuple[GraphNetwork | None, GraphNetwork]:
    """The network in two. The first part is None if it is nothing, or gives more than one tensor to the second.

    `tensors`: those of the graph's tensor nodes. What depends on neither the input nor a draw (tensors, numbers) is in
    the part that reads it, or in both; how many examples there are, the second part asks its own input.
    """
    before, constant = parted(graph, layers)
    nodes = {node.name: node for node in graph.nodes}
    crossing: set[str] = set()
    for node in graph.nodes:
        if node.name not in before and node.name not in constant:
            crossing.update(name for name in node.reads if name in before)
    numbers = {name for name in crossing if is_batch_size(nodes[name], nodes)}
    values = crossing - numbers
    if len(values) != 1 or nodes[entry := values.pop()].op == "input" or not is_batch(nodes[entry]):
        return None, part(graph, graph.nodes, graph.input_shape, layers, tensors)
    last = nodes[entry]
    output = GraphNode(name=unused("output", nodes), op="output", inputs=[entry], output_shape=last.output_shape)
    first = needed([*(node for node in graph.nodes if node.name in before | constant), output])
    second = [GraphNode(name=entry, op="input", output_shape=last.output_shape)]
    for node in graph.nodes:
        if node.name in numbers:
            arguments = {"self": {"node": entry}, "dim": 0}
            second.append(node.model_copy(update={"arguments": arguments, "inputs": [entry]}))
        elif node.name not in before:
            second.append(node)
    shape = [size for size in (last.output_shape or [])[1:] if isinstance(size, int)]
    return (
        part(graph, first, graph.input_shape, layers, tensors),
        part(graph, needed(second), shape, layers, tensors),
    )


def parted(graph: Graph, layers: dict[str, nn.Module]) -> tuple[set[str], set[str]]:
    """Names of the nodes that depend on the input but on no draw, and of those that depend on neither."""
    before: set[str] = set()
    constant: set[str] = set()
    for node in graph.nodes:
        names = node.reads
        if node.op == "input":
            before.add(node.name)
        elif node.op == "output" or is_drawn(layers.get(str(node.layer))) or not names <= before | constant:
            continue
        elif names <= constant:
            constant.add(node.name)
        else:
            before.add(node.name)
    return before, constant


def is_drawn(layer: nn.Module | None) -> bool:
    drawn = isinstance(layer, DrawLayer) and layer.scale is not None
    return drawn or isinstance(layer, NoisyLayer | DrawMask)


def is_batch(node: GraphNode) -> bool:
    """Whether a value's first axis is that of the examples, and no other depends on them."""
    shape = node.output_shape
    return bool(shape) and shape[0] is None and all(isinstance(size, int) for size in shape[1:])  # type: ignore[index]


def is_batch_size(node: GraphNode, nodes: dict[str, GraphNode]) -> bool:
    """Whether a node is the number of examples."""
    if node.type not in SIZES:
        return False
    shape, place = nodes[node.inputs[0]].output_shape, node.arguments["dim"]
    return bool(shape) and isinstance(place, int) and shape[place] is None  # type: ignore[index]


def unused(name: str, nodes: dict[str, GraphNode]) -> str:
    while name in nodes:
        name += "_"
    return name


def part(
    graph: Graph, nodes: list[GraphNode], shape: list[int], layers: dict[str, nn.Module], tensors: dict[str, Tensor]
) -> GraphNetwork:
    """A network of these nodes, for inputs of that shape."""
    used = {str(node.layer): layers[str(node.layer)] for node in nodes if node.op == "layer"}
    read = {str(node.tensor): tensors[str(node.tensor)] for node in nodes if node.op == "tensor"}
    return GraphNetwork(graph.model_copy(update={"nodes": nodes, "input_shape": shape}), used, read).eval()
