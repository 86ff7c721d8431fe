"""Dropout for exact Monte-Carlo draws: one set of masks per draw, which all images share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bnn.layers.dropout import KeyedDropout
from bnn.posterior.schema import Graph


@dataclass(slots=True)
class Masks:
    """A layer's masks in one draw, in the order in which the network first calls for them."""

    seed: int = 0
    generator: torch.Generator | None = None
    made: list[Tensor] = field(default_factory=list)


class DrawMask(nn.Module):
    """One use of a layer of dropout. The uses of a layer draw from one generator, in the order of the graph."""

    def __init__(self, layer: KeyedDropout, masks: Masks, use: int) -> None:
        super().__init__()
        self.layer, self.masks, self.use = layer, masks, use

    def key(self, seed: int, keep: bool = False) -> None:
        """Make the next forward passes use the masks named by this 64-bit seed; they are kept for all blocks."""
        self.masks.seed, self.masks.generator, self.masks.made = seed, None, []

    def forward(self, x: Tensor) -> Tensor:
        masks = self.masks
        if self.use == len(masks.made):
            if masks.generator is None:
                masks.generator = torch.Generator(device=x.device).manual_seed(masks.seed)
            masks.made.append(self.layer.mask(x, 1, masks.generator))
        return x * masks.made[self.use]


def uses_apart(graph: Graph, layers: dict[str, nn.Module]) -> tuple[Graph, dict[str, DrawMask], dict[str, int]]:
    """The graph in which each use of a layer of dropout has a layer of its own; these, and which noise each draws."""
    taken = {str(node.layer).partition(".")[0] for node in graph.nodes if node.op == "layer"}
    of_layer = {name: Masks() for name, layer in layers.items() if isinstance(layer, KeyedDropout)}
    seen: Counter[str] = Counter()
    made: dict[str, DrawMask] = {}
    index: dict[str, int] = {}
    nodes = []
    for node in graph.nodes:
        name = str(node.layer)
        layer = layers.get(name)
        if node.op == "layer" and isinstance(layer, KeyedDropout):
            own = f"mask_{len(made)}"
            while own in taken:
                own += "_"
            assert layer.layer_index is not None
            made[own], index[own] = DrawMask(layer, of_layer[name], seen[name]), layer.layer_index
            seen[name] += 1
            nodes.append(node.model_copy(update={"layer": own}))
        else:
            nodes.append(node)
    return graph.model_copy(update={"nodes": nodes}), made, index
