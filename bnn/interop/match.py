"""Which layer of a file of TensorFlow variables is which layer of a model."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from bnn.errors import UserError
from bnn.interop.names import SourceLayer
from bnn.layers import BayesianLayer
from bnn.posterior import GraphNetwork

Family = tuple[type[nn.Module], ...]
KERNEL_LAYERS: Family = (BayesianLayer, nn.Conv2d, nn.Linear)
NORM_LAYERS: Family = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Slot:
    """A layer of the model that takes arrays. `shape` is what its kernel (a norm: its mean) has in the file.

    `after` are the layers whose outputs this one depends on, directly or through others.
    """

    layer: str
    shape: tuple[int, ...]
    after: frozenset[str]


def find_slots(network: GraphNetwork, family: Family) -> list[Slot]:
    """The model's layers of that family (KERNEL_LAYERS or NORM_LAYERS), as they are executed; a shared one comes once.

    Kernels are (out, in, height, width) and (out, in) here, (height, width, in, out) and (in, out) in the file.
    """
    before: dict[str, frozenset[str]] = {}  # node -> layers that its value depends on
    slots: dict[str, Slot] = {}
    for node in network.graph.nodes:
        above = frozenset[str]().union(*(before[name] for name in node.inputs))
        before[node.name] = above
        if node.layer is None:
            continue
        before[node.name] = above | {node.layer}
        layer = network.get_submodule(node.layer)
        if isinstance(layer, family) and node.layer not in slots:
            slots[node.layer] = Slot(node.layer, file_shape(layer), above)
    return list(slots.values())


def file_shape(layer: nn.Module) -> tuple[int, ...]:
    """Shape that the layer's kernel, or its norm's mean, has in the file."""
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return (layer.num_features,)
    weight = layer.mu if isinstance(layer, BayesianLayer) else layer.weight
    assert isinstance(weight, nn.Parameter)
    return (*weight.shape[2:], weight.shape[1], weight.shape[0])


def match(source: Sequence[SourceLayer], slots: Sequence[Slot]) -> list[tuple[SourceLayer, Slot]]:
    """Pair layers in order: each of the file with the model's first of its shape that is still free.

    Keras lists parallel branches (a shortcut) in an order of its own, so the order need not be that of execution; but
    what depends on another layer must follow it. Raises UserError naming what is left over or missing, or a layer that
    comes too early.
    """
    check_complete(source, slots)
    check_numbers(source)
    free = list(slots)
    pairs = []
    for layer in source:
        names = {slot.layer for slot in free}
        fitting = [slot for slot in free if slot.shape == layer.shape]
        ready = [slot for slot in fitting if not slot.after & names]
        if not ready:
            earlier = next(slot.layer for slot in free if slot.layer in fitting[0].after)
            raise UserError(
                f"{layer.variable} comes too early: the next layer of its shape, {fitting[0].layer}, "
                f"follows {earlier}, whose arrays come later in the file; save them in the model's order"
            )
        pairs.append((layer, ready[0]))
        free.remove(ready[0])
    return pairs


def check_complete(source: Sequence[SourceLayer], slots: Sequence[Slot]) -> None:
    """Raise UserError unless file and model have equally many layers of every shape."""
    room, supply = Counter(slot.shape for slot in slots), Counter(layer.shape for layer in source)
    left, missing = [], []
    for layer in source:
        room[layer.shape] -= 1
        if room[layer.shape] < 0:
            left.append(f"{layer.variable} {layer.shape}")
    for slot in slots:
        supply[slot.shape] -= 1
        if supply[slot.shape] < 0:
            missing.append(f"{slot.layer} {slot.shape}")
    named = (("left over", left), ("missing for the model's", missing))
    if parts := [f"{what}: {short_list(layers)}" for what, layers in named if layers]:
        raise UserError("; ".join(parts))


def short_list(items: Sequence[str], most: int = 4) -> str:
    more = [f"{len(items) - most} more"] if len(items) > most else []
    return ", ".join([*items[:most], *more])


def check_numbers(source: Sequence[SourceLayer]) -> None:
    """Raise UserError if layers of one shape are not in the order of Keras' numbers, as after sorting by name."""
    last: dict[tuple[str, tuple[int, ...]], tuple[int, str]] = defaultdict(lambda: (-1, ""))
    for layer in source:
        found = re.fullmatch(r"(.*?)(?:_(\d+))?", layer.name, re.DOTALL)
        assert found is not None
        number, key = int(found[2] or 0), (found[1], layer.shape)
        if number < last[key][0]:
            raise UserError(
                f"{layer.name} follows {last[key][1]}: layers of one shape must come in the model's order "
                "(sorted by name?)"
            )
        last[key] = (number, layer.name)
