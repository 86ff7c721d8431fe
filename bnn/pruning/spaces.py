"""Channel spaces: which layers make the channels of a network, which read them, and which must go together.

Every convolution and dense layer makes a space of units, its output channels, which lie on some axis of its output.
BatchNorm, operations element by element, pooling and dropout keep it, other operations move it to another axis
(`axes`); additions and products of two tensors join the spaces of both, channel by channel; flattening turns a channel
into as many consecutive features as it has pixels; concatenation puts spaces side by side. A bias with a posterior is
a space of its numbers, which the addition joins with that of its layer. The inputs of a network whose first layers are
dense are a space too: a pixel that no layer reads can be left out. A space that an operation makes hard to follow is
frozen, and the reason kept: its units are neither removed by unit nor taken out of the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import nn

from bnn.layers import BayesianConv2d, BayesianLinear
from bnn.layers.parameter import BayesianParameter
from bnn.posterior import GraphNetwork, GraphNode
from bnn.posterior.operations import Role, role_of
from bnn.pruning.axes import axis_after

POOL_LAYERS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
POINTWISE_LAYERS = (
    nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.Mish, nn.GELU,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
)  # fmt: skip
CONVOLUTIONS = (BayesianConv2d, nn.Conv1d, nn.Conv2d, nn.Conv3d)
DENSE = (BayesianLinear, nn.Linear)
BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CATS = ("cat", "aten.cat.default")


@dataclass(frozen=True)
class Segment:
    """Part of a value's channels: all units of a space, each `factor` consecutive features."""

    space: int
    factor: int = 1


@dataclass(frozen=True)
class Reader:
    """A layer that reads a space: unit u is its input channels `first` + u * factor ... + factor - 1."""

    layer: str
    first: int
    factor: int


@dataclass
class Space:
    """Units that are removed together. `producers` make them row by row; `norms` are the BatchNorms on them."""

    units: int
    producers: list[str] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    norms: list[tuple[str, int]] = field(default_factory=list)  # name, and where the units begin in it
    frozen: str | None = None
    after: list[str] = field(default_factory=list)  # of an input space: the nodes that make the features


@dataclass(frozen=True)
class Channels:
    """What a value's channels are, in order, and the axis that they lie on."""

    segments: tuple[Segment, ...]
    axis: int


class Spaces:
    """The analysis of one network. `channels` holds what every node's channels are; None: unknown or no tensor.

    `counted` holds, for a node that is a number, whose number of channels it may depend on; `several` the channels of
    the first output of a node that has several.
    """

    def __init__(self, network: GraphNetwork) -> None:
        self.network = network
        self.all: list[Space] = []
        self.parent: list[int] = []
        self.channels: dict[str, Channels | None] = {}
        self.counted: dict[str, list[Segment]] = {}
        self.several: dict[str, Channels | None] = {}
        self.nodes = {node.name: node for node in network.graph.nodes}
        self.uses = Counter(node.layer for node in network.graph.nodes if node.op == "layer")
        self.read = read_outside(network)
        for node in network.graph.nodes:
            self.channels[node.name] = self.visit(node)

    def groups(self) -> list[Space]:
        """The spaces, joined ones as one."""
        return [space for index, space in enumerate(self.all) if self.root(index) == index]

    def of(self, segment: Segment) -> Space:
        return self.all[self.root(segment.space)]

    def root(self, index: int) -> int:
        while self.parent[index] != index:
            index = self.parent[index]
        return index

    def size(self, channels: Channels) -> int:
        """How many channels they are."""
        return sum(self.of(segment).units * segment.factor for segment in channels.segments)

    def new(self, units: int, producer: str | None, frozen: str | None = None, axis: int = 1) -> Channels:
        self.all.append(Space(units, [producer] if producer else [], frozen=frozen))
        self.parent.append(len(self.parent))
        return Channels((Segment(len(self.all) - 1),), axis)

    def freeze(self, segments: Iterable[Segment], reason: str) -> None:
        for segment in segments:
            space = self.of(segment)
            space.frozen = space.frozen or reason

    def join(self, a: Segment, b: Segment) -> None:
        first, second = self.root(a.space), self.root(b.space)
        if first == second:
            return
        into, other = self.all[first], self.all[second]
        into.producers += other.producers
        into.readers += other.readers
        into.norms += other.norms
        into.after += other.after
        into.frozen = into.frozen or other.frozen
        self.parent[second] = first

    def visit(self, node: GraphNode) -> Channels | None:
        inputs = [self.channels[name] for name in node.inputs]
        if node.op == "input":
            shape = node.output_shape or []
            if len(shape) < 2 or not isinstance(shape[1], int):
                return None
            return self.new(shape[1], None, "the network's input is not flattened")
        if node.op == "output":
            self.freeze(inputs[0].segments if inputs[0] else (), "classes")
            return None
        if node.op == "tensor":
            return None
        if node.op == "layer":
            return self.visit_layer(node, inputs[0]) if node.inputs else self.parameter(node)
        role = role_of(node)
        if role is Role.ITEM and node.inputs[0] in self.several:
            return self.several[node.inputs[0]] if node.arguments["index"] == 0 else self.unknown(node)
        if node.output_shape is not None:
            return self.visit_function(node, role)
        if role in (Role.SIZE, Role.NUMBER, Role.ITEM, Role.BINARY, Role.PARTIAL):
            self.counted[node.name] = self.count(node)
        else:
            self.several[node.name] = self.visit_function(node, role)
        return None

    def count(self, node: GraphNode) -> list[Segment]:
        """Whose number of channels a number may depend on: a size that is not plainly that of another axis."""
        place, size = node.arguments.get("dim"), node
        if node.type == "item":
            place, size = node.arguments["index"], self.nodes[node.inputs[0]]
        if role_of(size) is Role.SIZE:
            source = self.nodes[size.inputs[0]]
            channels = self.channels[source.name]
            if channels is None:
                return []
            plain = isinstance(place, int) and place % len(source.output_shape or [0]) != channels.axis
            return [] if plain else list(channels.segments)
        return self.counts_in(node)

    def counts_in(self, node: GraphNode) -> list[Segment]:
        return [segment for name in node.inputs for segment in self.counted.get(name, [])]

    def visit_layer(self, node: GraphNode, x: Channels | None) -> Channels | None:
        layer = self.network.get_submodule(str(node.layer))
        axes = len(node.output_shape or [])
        if isinstance(layer, DENSE):
            return self.visit_kernel(node, layer, x, axes - 1, layer.out_features)
        if isinstance(layer, CONVOLUTIONS) and axes == len(layer.kernel_size) + 2:
            return self.visit_kernel(node, layer, x, 1, layer.out_channels)
        if x is None:
            return None
        if isinstance(layer, BATCHNORMS):
            plain = all(segment.factor == 1 for segment in x.segments) and self.uses[node.layer] == 1
            if not plain or x.axis != 1 or layer.running_var is None or node.layer in self.read:
                return self.unknown(node)
            first = 0
            for segment in x.segments:
                self.of(segment).norms.append((str(node.layer), first))
                first += self.of(segment).units
            return x
        if isinstance(layer, nn.Flatten):
            return self.flattened(node) or self.moved(node, Role.RESHAPE, x)
        if isinstance(layer, POOL_LAYERS) and x.axis == 1 and axes == 4:
            return x
        return x if type(layer) in POINTWISE_LAYERS else self.unknown(node)

    def parameter(self, node: GraphNode) -> Channels | None:
        """The numbers of a vector with a posterior, such as a bias; None for any other weight that is read."""
        layer = self.network.get_submodule(str(node.layer))
        if not isinstance(layer, BayesianParameter) or len(layer.shape) != 1:
            return None
        return self.new(layer.shape[0], str(node.layer), axis=0)

    def visit_kernel(self, node: GraphNode, layer: Any, x: Channels | None, axis: int, units: int) -> Channels:
        """A convolution or dense layer: reads its inputs' spaces and makes a new one, both on that axis."""
        name = str(node.layer)
        reason = None
        if self.uses[name] > 1:
            reason = f"layer {name} is used twice"
        elif name in self.read:
            reason = f"the weight of layer {name} is read elsewhere"
        elif getattr(layer, "groups", 1) > 1:
            reason = f"layer {name} has groups"
        if x is not None and (reason is not None or x.axis != axis):
            self.freeze(x.segments, reason or f"layer {name} reads another axis")
        elif x is not None:
            first = 0
            for segment in x.segments:
                space = self.of(segment)
                space.readers.append(Reader(name, first, segment.factor))
                first += space.units * segment.factor
        return self.new(units, name, reason, axis)

    def visit_function(self, node: GraphNode, role: Role | None) -> Channels | None:
        tensors = [name for name in node.inputs if self.nodes[name].output_shape is not None]
        known = [channels for name in tensors if (channels := self.channels[name]) is not None]
        if role is Role.RESHAPE and len(tensors) == 1 and (features := self.flattened(node)):
            return features  # whatever its numbers were made of: there is one target only
        if self.counts_in(node) or not known or len(known) < len(tensors):  # the former: another result with fewer
            return self.unknown(node)
        if role is Role.CAT:
            return self.side_by_side(node, known) or self.unknown(node)
        if role is Role.BINARY and len(known) == 2:
            return self.joined(node, known[0], known[1]) or self.unknown(node)
        if len(known) != 1:
            return self.unknown(node)
        if role is Role.BINARY:  # with a number, or with itself
            same = self.nodes[tensors[0]].output_shape == node.output_shape
            return known[0] if same else self.unknown(node)
        return self.moved(node, role, known[0])

    def moved(self, node: GraphNode, role: Role | None, x: Channels) -> Channels | None:
        """The channels behind an operation that keeps them, perhaps on another axis."""
        axis = axis_after(node, role, x.axis, self.source(node).output_shape or [])
        return self.unknown(node) if axis is None else Channels(x.segments, axis)

    def source(self, node: GraphNode) -> GraphNode:
        """The first tensor that a node reads."""
        return next(self.nodes[name] for name in node.inputs if self.nodes[name].output_shape is not None)

    def side_by_side(self, node: GraphNode, known: list[Channels]) -> Channels | None:
        """Concatenation along the axis of the channels, of values that each come once."""
        terms = node.arguments.get("tensors", [])
        if node.type not in CATS or len(terms) != len(node.inputs):
            return None
        axis = node.arguments.get("dim", 0) % len(node.output_shape or [0])
        if any(channels.axis != axis for channels in known):
            return None
        return Channels(tuple(segment for channels in known for segment in channels.segments), axis)

    def joined(self, node: GraphNode, a: Channels, b: Channels) -> Channels | None:
        """Two tensors, element by element: of equal shapes, or one broadcast along other axes than the channels'.

        Axes are counted from the last one, as broadcasting does: the vector of a bias may have fewer.
        """
        shapes = [self.nodes[name].output_shape or [] for name in node.inputs if self.channels[name] is not None]
        axes = [side.axis - len(shape) for side, shape in zip((a, b), shapes, strict=True)]
        units = [[(self.of(s).units, s.factor) for s in side.segments] for side in (a, b)]
        if axes[0] != axes[1] or units[0] != units[1]:
            return None
        if any(x != y and 1 not in (x, y) for x, y in zip(*(shape[::-1] for shape in shapes), strict=False)):
            return None
        for one, other in zip(a.segments, b.segments, strict=True):
            self.join(one, other)
        return Channels(a.segments, max(map(len, shapes)) + axes[0])

    def flattened(self, node: GraphNode) -> Channels | None:
        """(N, C, H, W) to (N, C H W); None for any other change of shape."""
        source = self.source(node)
        x, before, after = self.channels[source.name], source.output_shape or [], node.output_shape or []
        sizes = [size for size in before[1:] if isinstance(size, int)]
        whole = len(sizes) == len(before) - 1 and len(after) == 2 and before[0] is None and after[0] is None
        if x is None or x.axis != 1 or not whole or len(before) == 2 or after[1] != prod(sizes):
            return None
        if source.op == "input":
            features = self.new(prod(sizes), None)
            self.of(features.segments[0]).after.append(node.name)
            return features
        pixels = prod(sizes[1:])
        return Channels(tuple(Segment(segment.space, segment.factor * pixels) for segment in x.segments), 1)

    def unknown(self, node: GraphNode) -> Channels | None:
        """None, with all frozen that a node reads."""
        for name in node.inputs:
            if channels := self.channels[name] or self.several.get(name):  # a later output of several, for instance
                self.freeze(channels.segments, f"operation {node.name} ({node.type}) is not understood")
        self.freeze(self.counts_in(node), f"operation {node.name} ({node.type}) is not understood")
        return None


def read_outside(network: GraphNetwork) -> set[str]:
    """The layers whose weights, biases or other tensors are also read as tensors."""
    nodes = network.graph.nodes
    weights = {str(node.layer) for node in nodes if node.op == "layer" and not node.inputs}
    return weights | {str(node.tensor).rpartition(".")[0] for node in nodes if node.op == "tensor"}
