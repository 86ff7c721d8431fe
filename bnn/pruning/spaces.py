"""Channel spaces: which layers make the channels of a network, which read them, and which must go together.

Every convolution and dense layer makes a space of units, its output channels. BatchNorm, activations, pooling and
dropout keep it; an addition joins the spaces of its terms, channel by channel; flattening turns a channel into as many
consecutive features as it has pixels; concatenation puts spaces side by side. The inputs of a network whose first
layers are dense are a space too: a pixel that no layer reads can be left out. A space that an operation makes hard to
follow is frozen, and the reason kept: its units are neither removed by unit nor taken out of the network.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import nn

from bnn.layers import BayesianLayer, BayesianLinear
from bnn.posterior import GraphNetwork, GraphNode

KEEPING_LAYERS = (
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6,
    nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip
KEEPING_FUNCTIONS = (
    "relu", "gelu", "silu", "leaky_relu", "tanh", "sigmoid", "dropout", "max_pool2d", "avg_pool2d",
    "adaptive_avg_pool2d",
)  # fmt: skip


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


Channels = list[Segment] | None


class Spaces:
    """The analysis of one network. `channels` holds what every node's channels are; None: unknown or no tensor.

    `counted` holds, for a node that is a number, whose number of channels it may depend on.
    """

    def __init__(self, network: GraphNetwork) -> None:
        self.network = network
        self.all: list[Space] = []
        self.parent: list[int] = []
        self.channels: dict[str, Channels] = {}
        self.counted: dict[str, list[Segment]] = {}
        self.nodes = {node.name: node for node in network.graph.nodes}
        self.uses = Counter(node.layer for node in network.graph.nodes if node.op == "layer")
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

    def new(self, units: int, producer: str | None, frozen: str | None = None) -> list[Segment]:
        self.all.append(Space(units, [producer] if producer else [], frozen=frozen))
        self.parent.append(len(self.parent))
        return [Segment(len(self.all) - 1)]

    def freeze(self, channels: Channels, reason: str) -> None:
        for segment in channels or []:
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

    def visit(self, node: GraphNode) -> Channels:
        inputs = [self.channels[name] for name in node.inputs]
        if node.op == "input":
            shape = node.output_shape or []
            return self.new(int(shape[1] or 1), None, "the network's input is read by a convolution")
        if node.op == "output":
            self.freeze(inputs[0], "classes")
            return None
        if node.output_shape is None:
            self.counted[node.name] = self.count(node)
            return None  # a number, such as a batch size
        if node.op == "layer":
            return self.visit_layer(node, inputs[0])
        return self.visit_function(node, inputs)

    def count(self, node: GraphNode) -> list[Segment]:
        """Whose number of channels a number may depend on: a size that is not plainly the batch's or the pixels'."""
        place, size = node.arguments.get("dim"), node
        if node.type == "item":
            place, size = node.arguments["index"], self.nodes[node.inputs[0]]
        if size.type == "size":
            source = self.nodes[size.inputs[0]]
            plain = isinstance(place, int) and place % len(source.output_shape or [0]) != 1
            return [] if plain else self.channels[source.name] or []
        return self.counts_in(node)

    def counts_in(self, node: GraphNode) -> list[Segment]:
        return [segment for name in node.inputs for segment in self.counted.get(name, [])]

    def visit_layer(self, node: GraphNode, x: Channels) -> Channels:
        layer = self.network.get_submodule(str(node.layer))
        if isinstance(layer, BayesianLayer | nn.Conv2d | nn.Linear):
            return self.visit_kernel(node, layer, x)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            plain = x is not None and all(segment.factor == 1 for segment in x) and self.uses[node.layer] == 1
            if x is None or not plain or len(node.output_shape or []) == 3 or layer.running_var is None:
                return self.unknown(node, [x])
            first = 0
            for segment in x:
                self.of(segment).norms.append((str(node.layer), first))
                first += self.of(segment).units
            return x
        if isinstance(layer, nn.Flatten):
            return self.flattened(node, x)
        return x if isinstance(layer, KEEPING_LAYERS) else self.unknown(node, [x])

    def visit_kernel(self, node: GraphNode, layer: Any, x: Channels) -> Channels:
        """A convolution or dense layer: reads its inputs' spaces and makes a new one."""
        name, dense = str(node.layer), isinstance(layer, BayesianLinear | nn.Linear)
        flat = len(node.output_shape or []) == 2
        reason = None
        if self.uses[name] > 1:
            reason = f"layer {name} is used twice"
        elif not dense and layer.groups > 1:
            reason = f"layer {name} has groups"
        elif dense and not flat:
            reason = f"layer {name} works on more than two dimensions"
        if x is None or reason is not None:
            self.freeze(x, reason or "unknown")
        else:
            first = 0
            for segment in x:
                space = self.of(segment)
                space.readers.append(Reader(name, first, segment.factor))
                first += space.units * segment.factor
        made = self.new(layer.out_features if dense else layer.out_channels, name, reason)
        return made if flat or not dense else None  # else its units are not on dimension 1

    def visit_function(self, node: GraphNode, inputs: list[Channels]) -> Channels:
        tensors = [self.channels[name] for name in node.inputs if self.nodes[name].output_shape is not None]
        if node.type in ("flatten", "reshape"):
            return self.flattened(node, tensors[0])
        if self.counts_in(node):  # the result would be another one with fewer channels
            return self.unknown(node, tensors)
        if node.type in KEEPING_FUNCTIONS and len(tensors) == 1:
            return tensors[0]
        if node.type in ("add", "sub") and len(tensors) == 2 and all(tensors):
            a, b = tensors[0] or [], tensors[1] or []
            shapes = [[(self.of(s).units, s.factor) for s in side] for side in (a, b)]
            if shapes[0] == shapes[1] and all(self.same_shape(node, name) for name in node.inputs):
                for one, other in zip(a, b, strict=True):
                    self.join(one, other)
                return a
        if (
            node.type in ("add", "sub", "mul", "truediv")
            and len(tensors) == 1
            and self.same_shape(node, node.inputs[0])
        ):
            return tensors[0]  # with a number
        if node.type == "mean" and len(tensors) == 1 and self.over_pixels(node):
            return tensors[0]
        if node.type == "cat" and all(tensors) and node.arguments.get("dim", 0) % len(node.output_shape or [0]) == 1:
            return [segment for channels in tensors for segment in channels or []]
        return self.unknown(node, tensors)

    def same_shape(self, node: GraphNode, source: str) -> bool:
        return self.nodes[source].output_shape == node.output_shape

    def over_pixels(self, node: GraphNode) -> bool:
        """Whether a mean leaves the channels: it is over the last two of four dimensions."""
        dims = node.arguments.get("dim")
        before = self.nodes[node.inputs[0]].output_shape or []
        return isinstance(dims, list) and len(before) == 4 and sorted(d % 4 for d in dims) == [2, 3]

    def flattened(self, node: GraphNode, x: Channels) -> Channels:
        """(N, C, H, W) to (N, C H W), or (N, C) as it is."""
        source = next(name for name in node.inputs if self.nodes[name].output_shape is not None)
        before, after = self.nodes[source].output_shape or [], node.output_shape or []
        if x is None or len(after) != 2 or after[1] != prod(size or 1 for size in before[1:]):
            return self.unknown(node, [x])
        if len(before) == 2:
            return x
        if self.nodes[source].op == "input":
            features = self.new(int(after[1] or 1), None)
            self.of(features[0]).after.append(node.name)
            return features
        pixels = prod(size or 1 for size in before[2:])
        return [Segment(segment.space, segment.factor * pixels) for segment in x]

    def unknown(self, node: GraphNode, inputs: list[Channels]) -> Channels:
        for channels in (*inputs, self.counts_in(node)):
            self.freeze(channels, f"operation {node.name} ({node.type}) is not understood")
        return None
