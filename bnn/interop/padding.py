"""TensorFlow's SAME padding of strided convolutions, which may pad less above and left than below and right."""

from __future__ import annotations

from collections.abc import Container, Sequence

from torch import nn

from bnn.layers import BayesianConv2d
from bnn.posterior import GraphNetwork, GraphNode
from bnn.posterior.schema import Size

Sides = tuple[int, int]  # pixels before (above, left) and after (below, right)
Pads = tuple[Sides, Sides]  # of rows and of columns


def same_sides(size: int, kernel: int, stride: int, dilation: int) -> Sides:
    """Zeros that TensorFlow's SAME adds before and after `size` pixels (tf.nn, "Notes on padding")."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return (total // 2, total - total // 2)


def pad_as_tensorflow(network: GraphNetwork) -> tuple[GraphNetwork, list[str]]:
    """`network` with a layer ZeroPad2d before strided convolutions where SAME needs it, and what was done.

    A strided convolution that pads, and whose output has ceil(size / stride) pixels, is taken for a SAME one. Torch
    pads as many pixels on every side; for even sizes and odd kernels TensorFlow's is one pixel off that. A model that
    means something else pads by its own ZeroPad2d and a convolution that does not: that is left as it is. So is a layer
    whose uses all agree with TensorFlow. A convolution keeps its name, kernel and noise, only its padding becomes 0.
    """
    shapes = {node.name: node.output_shape or [] for node in network.graph.nodes}
    layer_of = {node.name: node.layer for node in network.graph.nodes}
    pads: dict[str, Pads] = {}
    differing = set()
    said = []
    for node in network.graph.nodes:
        layer = network.get_submodule(node.layer) if node.layer is not None else None
        if isinstance(layer, BayesianConv2d | nn.Conv2d) and max(layer.stride) > 1 and isinstance(layer.padding, tuple):
            before, after = (numbers(shapes[name][2:]) for name in (node.inputs[0], node.name))
            ours = [(pixels, pixels) for pixels in layer.padding]
            theirs = [
                same_sides(before[axis], layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis])
                for axis in (0, 1)
            ]
            same = any(layer.padding) and all(after[axis] == -(-before[axis] // layer.stride[axis]) for axis in (0, 1))
            rows, columns = theirs if same else ours
            pads[node.name] = (rows, columns)
            if [rows, columns] != ours:
                differing.add(node.layer)
            elif any(layer.padding) and not same:
                said.append(f"{node.layer}: padded as the model has it, which is not TensorFlow's SAME")
    padded, inserted = insert_pads(network, {name: pads[name] for name in pads if layer_of[name] in differing})
    return padded, [*said, *inserted]


def insert_pads(network: GraphNetwork, pads: dict[str, Pads]) -> tuple[GraphNetwork, list[str]]:
    """`network` with a ZeroPad2d before these nodes, convolutions whose own padding becomes 0, and what was done."""
    layers = network.layers
    names = {node.name for node in network.graph.nodes}
    shapes: dict[str, list[Size]] = {}
    nodes: list[GraphNode] = []
    said = []
    for node in network.graph.nodes:
        shapes[node.name] = node.output_shape or []
        if node.name in pads and node.layer is not None:
            (top, bottom), (left, right) = pads[node.name]
            sides = [left, right, top, bottom]
            examples, channels, *sizes = shapes[node.inputs[0]]
            pixels = numbers(sizes)
            layer, name = pad_name(node.layer, layers), pad_name(node.name, names)
            layers[layer] = nn.ZeroPad2d((left, right, top, bottom))
            convolution = layers[node.layer]
            assert isinstance(convolution, BayesianConv2d | nn.Conv2d)
            convolution.padding = (0, 0)
            names.add(name)
            pad = GraphNode(
                name=name,
                op="layer",
                type="ZeroPad2d",
                layer=layer,
                arguments={"padding": sides},
                inputs=node.inputs,
                output_shape=[examples, channels, pixels[0] + top + bottom, pixels[1] + left + right],
            )
            arguments = node.arguments | {"padding": [0, 0]}
            nodes += [pad, node.model_copy(update={"inputs": [name], "arguments": arguments})]
            said.append(
                f"{node.layer}: padded as TensorFlow's SAME by {layer}: "
                f"{top} above, {bottom} below, {left} left, {right} right"
            )
        else:
            nodes.append(node)
    graph = network.graph.model_copy(update={"nodes": nodes})
    return GraphNetwork(graph, layers, network.tensors).eval(), said


def pad_name(name: str, taken: Container[str]) -> str:
    """A free name for the padding before `name`."""
    name = f"{name}_pad"
    while name in taken:
        name += "_"
    return name


def numbers(shape: Sequence[Size]) -> list[int]:
    """The sizes of a map of pixels, which do not depend on the batch."""
    return [size for size in shape if isinstance(size, int)]
