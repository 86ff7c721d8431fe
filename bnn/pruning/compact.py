"""Takes out of a network what cannot influence its output: first its weights, then the units themselves."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from bnn.inference.fold import redirected
from bnn.layers import BayesianLayer
from bnn.layers.kept_features import Select
from bnn.posterior import GraphNetwork, GraphNode
from bnn.posterior.layer_types import make_layer
from bnn.posterior.operations import Role, role_of
from bnn.posterior.sizes import with_sizes
from bnn.pruning.constants import constants
from bnn.pruning.spaces import Space, Spaces


def kernels_of(layer: nn.Module) -> list[Tensor]:
    """Mean and scale, or the weight of a conventional layer."""
    tensors = (layer.mu, layer.rho) if isinstance(layer, BayesianLayer) else (layer.weight,)
    return [tensor for tensor in tensors if isinstance(tensor, Tensor)]


def weights_left(layer: nn.Module) -> Tensor:
    """Mask of the kernel's weights that are not zero."""
    if isinstance(layer, BayesianLayer):
        return (layer.mu != 0) | (layer.sigma != 0)
    return kernels_of(layer)[0] != 0


def zero_(layer: nn.Module, where: tuple[Any, ...]) -> None:
    """Set weights to exactly zero: mean 0, rho -inf (sigma 0)."""
    for tensor, value in zip(kernels_of(layer), (0.0, -torch.inf), strict=False):
        tensor[where] = value


@torch.no_grad()
def eliminate_dead(network: GraphNetwork) -> GraphNetwork:
    """A copy with the same outputs in which all weights are zero that cannot influence them, to a fixpoint.

    A unit is dead if every layer that reads it does so with zero weights or sees the constant 0 there.
    """
    network = copy.deepcopy(network)
    while True:
        changed = False
        for space, dead in dead_units(Spaces(network)):
            changed |= bury(network, space, dead)
        if not changed:
            return network


@torch.no_grad()
def dead_units(spaces: Spaces) -> list[tuple[Space, Tensor]]:
    """The spaces that are understood, and which of their units (units,) are dead."""
    network = spaces.network
    known = constants(spaces)
    seen = {
        str(node.layer): known.get(node.inputs[0]) for node in network.graph.nodes if node.op == "layer" and node.inputs
    }
    found = []
    for space in spaces.groups():
        if space.frozen is not None or not space.readers:
            continue
        dead = torch.ones(space.units, dtype=torch.bool)
        for reader in space.readers:
            columns = slice(reader.first, reader.first + space.units * reader.factor)
            left = weights_left(network.get_submodule(reader.layer))[:, columns].transpose(0, 1).flatten(1).any(1)
            values = seen[reader.layer]
            silent = torch.zeros_like(left) if values is None else values[columns] == 0
            dead &= (~left | silent).view(space.units, -1).all(1)
        found.append((space, dead))
    return found


def bury(network: GraphNetwork, space: Space, dead: Tensor) -> bool:
    """Zero all weights, biases and norms of dead units; returns whether any was not zero before."""
    changed = False
    for name in space.producers:
        layer = network.get_submodule(name)
        changed |= bool(weights_left(layer)[dead].any())
        zero_(layer, (dead,))
        if isinstance(layer.bias, Tensor):
            layer.bias[dead] = 0.0
    for name, first in space.norms:
        norm = network.get_submodule(name)
        for parameter in (norm.weight, norm.bias):
            if isinstance(parameter, Tensor):
                parameter[first : first + space.units][dead] = 0.0
    for reader in space.readers:
        layer = network.get_submodule(reader.layer)
        columns = dead.repeat_interleave(reader.factor).nonzero()[:, 0] + reader.first
        changed |= bool(weights_left(layer)[:, columns].any())
        zero_(layer, (slice(None), columns))
    return changed


@torch.no_grad()
def compact(network: GraphNetwork) -> GraphNetwork:
    """The network without its dead units: smaller layers, the same outputs, a posterior like any other.

    One unit of each space stays. Weights that are left keep their order, so that the same draws are made. Dead inputs
    are left out by a `Select` layer.
    """
    network = eliminate_dead(network)
    spaces = Spaces(network)
    cut = Cut(spaces)
    for space, dead in dead_units(spaces):
        if bool(dead.all()):
            dead[0] = False
        cut.take(space, dead)
    return cut.rebuilt()


class Cut:
    """Which rows, columns and features leave which layers: masks, by layer."""

    def __init__(self, spaces: Spaces) -> None:
        self.network, self.spaces = spaces.network, spaces
        self.gone: dict[int, Tensor] = {}  # units, by the number of their space
        self.rows: dict[str, Tensor] = {}
        self.columns: dict[str, Tensor] = {}
        self.selects: dict[str, Tensor] = {}  # by the node behind which inputs are selected

    def take(self, space: Space, dead: Tensor) -> None:
        """Take the dead units of a space out of what makes and reads them."""
        self.gone[id(space)] = dead
        for name in space.producers:
            self.rows[name] = dead
        for name, first in space.norms:
            norm = self.network.get_submodule(name)
            self.rows.setdefault(name, torch.zeros(int(norm.num_features), dtype=torch.bool))  # type: ignore[arg-type]
            self.rows[name][first : first + space.units] |= dead
        for reader in space.readers:
            width = kernels_of(self.network.get_submodule(reader.layer))[0].shape[1]
            self.columns.setdefault(reader.layer, torch.zeros(width, dtype=torch.bool))
            self.columns[reader.layer][reader.first : reader.first + space.units * reader.factor] |= (
                dead.repeat_interleave(reader.factor)
            )
        if bool(dead.any()):
            self.selects |= dict.fromkeys(space.after, ~dead)

    def rebuilt(self) -> GraphNetwork:
        """The smaller network."""
        nodes: list[GraphNode] = []
        layers: dict[str, nn.Module] = {}
        replaced: dict[str, str] = {}
        for old in self.network.graph.nodes:
            node = redirected(old, replaced)
            if role_of(node) is Role.RESHAPE and self.spaces.channels[node.name] is not None:
                node = self.reshaped(node)
            if node.op == "layer":
                node, layers[str(node.layer)] = self.smaller(node)
            nodes.append(node)
            if node.name in self.selects:
                select, layer = selection_of(node.name, self.selects[node.name])
                nodes.append(select)
                layers[str(select.layer)] = layer
                replaced[node.name] = select.name
        graph = self.network.graph.model_copy(update={"nodes": nodes})
        return with_sizes(GraphNetwork(graph, layers, self.network.tensors).eval())

    def reshaped(self, node: GraphNode) -> GraphNode:
        """A change of shape whose target does not name the old number of channels any more."""
        channels, target = self.spaces.channels[node.name], node.arguments.get("size", node.arguments.get("shape"))
        if channels is None or not isinstance(target, list) or target[channels.axis] == -1:
            return node
        if any(node.name in self.spaces.of(segment).after for segment in channels.segments):
            return node  # its features are selected behind it
        left = 0
        for segment in channels.segments:
            space = self.spaces.of(segment)
            gone = self.gone.get(id(space))
            left += segment.factor * (space.units if gone is None else int((~gone).sum()))
        now = [left if place == channels.axis else size for place, size in enumerate(target)]
        key = "size" if "size" in node.arguments else "shape"
        return node.model_copy(update={"arguments": node.arguments | {key: now}})

    def smaller(self, node: GraphNode) -> tuple[GraphNode, nn.Module]:
        """A layer without the rows and columns that go, and its node."""
        name = str(node.layer)
        layer = self.network.get_submodule(name)
        rows, columns = self.rows.get(name), self.columns.get(name)
        if rows is None and columns is None:
            return node, layer
        tensors = {}
        for key, tensor in layer.state_dict().items():
            kept = tensor if rows is None or tensor.dim() == 0 else tensor[~rows]
            tensors[key] = kept[:, ~columns] if columns is not None and tensor.dim() > 1 else kept
        sizes = {"num_features": rows, "out_channels": rows, "out_features": rows,
                 "in_channels": columns, "in_features": columns}  # fmt: skip
        new: dict[str, Any] = {
            key: int((~mask).sum()) for key, mask in sizes.items() if mask is not None and key in node.arguments
        }
        if rows is not None and "shape" in node.arguments:  # a bias with a posterior
            new["shape"] = [int((~rows).sum())]
        node = node.model_copy(update={"arguments": node.arguments | new})
        made = make_layer(node.type, node.arguments)
        made.load_state_dict({key: tensor.contiguous() for key, tensor in tensors.items()}, assign=True)
        return node, made


def selection_of(after: str, kept: Tensor) -> tuple[GraphNode, Select]:
    """The layer that selects the features that are kept, behind the node `after`."""
    layer = Select(len(kept), int(kept.sum()))
    layer.index.copy_(kept.nonzero()[:, 0])
    name = f"{after}_select"
    arguments = {"features": layer.features, "kept": layer.kept}
    return GraphNode(name=name, op="layer", type="Select", layer=name, arguments=arguments, inputs=[after]), layer
