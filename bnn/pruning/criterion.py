"""What to remove: the weights, or the units, of the lowest signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn.errors import UserError
from bnn.layers.parameter import SUFFIX
from bnn.posterior import GraphNetwork
from bnn.pruning.snr import bayesian, layer_snr
from bnn.pruning.spaces import Space, Spaces


@dataclass(frozen=True)
class Selection:
    """`keep`: masks of the kernels' shapes, by layer. `threshold`: the lowest SNR that stays (of weights or units).

    `percent`: the share of all kernel weights that is zero after the removal, earlier zeros included; `left`: how many
    are not zero. `units`: where units are removed, a mask of them for each space, in the order of
    `Spaces.groups()`.
    """

    keep: dict[str, Tensor]
    threshold: float | None
    percent: float
    left: int
    units: list[Tensor] | None = None

    @property
    def units_removed(self) -> int | None:
        return None if self.units is None else sum(int(gone.sum()) for gone in self.units)


def select(
    network: GraphNetwork, *, percent: float | None = None, threshold: float | None = None, scope: str, by: str
) -> Selection:
    """Choose by `percent` of all kernel weights or by a `threshold` on the SNR, one of the two.

    By weight a percentage is met to the weight: that many of the lowest SNR, ties in order of place. By unit it is the
    smallest number of units that reaches it, or all that can go: one unit of each space stays, classes always.
    Scope "layer" takes the same share of every layer (of every space's units).

    Raises UserError for a network without a unit that can be removed.
    """
    if by == "unit":
        return select_units(network, percent, threshold, scope)
    ratios = layer_snr(network)
    # weights that are zero already go first, before those whose mean is 0 (so that their SNR is 0) but not their sigma
    order = {
        name: ratios[name].masked_fill((layer.mu == 0) & (layer.sigma == 0), -1.0)
        for name, layer in bayesian(network).items()
    }
    if scope == "layer" and percent is not None:
        keep = {name: lowest(values.flatten(), percent).view(values.shape) for name, values in order.items()}
    elif percent is not None:
        flat = lowest(torch.cat([values.flatten() for values in order.values()]), percent)
        parts = flat.split([values.numel() for values in ratios.values()])
        keep = {name: part.view(ratios[name].shape) for name, part in zip(ratios, parts, strict=True)}
    else:
        keep = {name: values >= float(threshold or 0) for name, values in ratios.items()}
    stays = torch.cat([values[keep[name]] for name, values in ratios.items()])
    return finished(network, keep, float(stays.min()) if len(stays) else None, None)


def lowest(ratios: Tensor, percent: float) -> Tensor:
    """Mask (weights,) that is False for the given share of lowest values."""
    keep = torch.ones(len(ratios), dtype=torch.bool)
    keep[torch.sort(ratios, stable=True).indices[: round(percent / 100 * len(ratios))]] = False
    return keep


def finished(
    network: GraphNetwork, keep: dict[str, Tensor], threshold: float | None, units: list[Tensor] | None
) -> Selection:
    left, total = left_of(network, keep), sum(mask.numel() for mask in keep.values())
    return Selection(keep, threshold, 100 * (1 - left / total), left, units)


def left_of(network: GraphNetwork, keep: dict[str, Tensor]) -> int:
    """Kernel weights that are kept and were not zero before."""
    layers = bayesian(network)
    return sum(int((mask & ((layers[name].mu != 0) | (layers[name].sigma != 0))).sum()) for name, mask in keep.items())


def unit_snr(network: GraphNetwork, space: Space) -> Tensor:
    """SNR of a space's units, (units,): sqrt(sum mu^2 / sum sigma^2) over the unit's weights in all its producers.

    An input has no weights of its own: the sums are then over the weights that read it.
    """
    layers = bayesian(network)
    signal, noise = torch.zeros(space.units, dtype=torch.float64), torch.zeros(space.units, dtype=torch.float64)
    for name in space.producers:
        signal += layers[name].mu.detach().double().square().reshape(space.units, -1).sum(1)
        noise += layers[name].sigma.detach().double().square().reshape(space.units, -1).sum(1)
    for reader in space.readers if not space.producers else ():
        columns = slice(reader.first, reader.first + space.units * reader.factor)
        layer = layers[reader.layer]
        of_mu, of_sigma = (v.detach().double()[:, columns].square() for v in (layer.mu, layer.sigma))
        signal += of_mu.reshape(len(of_mu), space.units, -1).sum((0, 2))
        noise += of_sigma.reshape(len(of_sigma), space.units, -1).sum((0, 2))
    return torch.where(signal == 0, torch.zeros_like(signal), (signal / noise).sqrt())


def select_units(network: GraphNetwork, percent: float | None, threshold: float | None, scope: str) -> Selection:
    """The units of the lowest SNR."""
    groups = Spaces(network).groups()
    layers = bayesian(network)
    places, values, ranks = [], [], []
    for number, space in enumerate(groups):
        if why_kept(space, layers) is not None:
            continue
        ratios = unit_snr(network, space)
        order = torch.sort(ratios, stable=True).indices[:-1]  # the best one stays
        places += [(number, int(unit)) for unit in order]
        values.append(ratios[order])
        ranks.append(torch.arange(1, len(order) + 1, dtype=torch.float64) / space.units)
    if not places:
        reasons = "; ".join(kept_units(network)) or "the only units that it has are the classes"
        raise UserError(f"--by unit: no unit of this network can be removed: {reasons}")
    ratios = torch.cat(values)
    by_rank = scope == "layer" and percent is not None
    places_in_order: list[int] = torch.sort(torch.cat(ranks) if by_rank else ratios, stable=True).indices.tolist()

    def removed(count: int) -> list[Tensor]:
        gone = [torch.zeros(space.units, dtype=torch.bool) for space in groups]
        for place in places_in_order[:count]:
            number, unit = places[place]
            gone[number][unit] = True
        return gone

    total = sum(layer.mu.numel() for layer in layers.values())

    def share(count: int) -> float:
        return 100 * (1 - left_of(network, unit_masks(network, groups, removed(count))) / total)

    if percent is None:
        count = int((ratios < float(threshold or 0)).sum())
    else:
        low, high = 0, len(places_in_order)  # the smallest count whose share reaches the percentage
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if share(middle) >= percent - 1e-9 else (middle + 1, high)
        count = low
    gone = removed(count)
    stays = ratios[places_in_order[count:]]
    return finished(network, unit_masks(network, groups, gone), float(stays.min()) if len(stays) else None, gone)


def why_kept(space: Space, layers: Container[str]) -> str | None:
    """Why no unit of a space can be removed; None where they can be. `layers`: the names of all Bayesian layers."""
    if space.frozen is not None:
        return space.frozen
    bare = [name for name in (*space.producers, *(reader.layer for reader in space.readers)) if name not in layers]
    return f"layer {bare[0]} is conventional" if bare else None


def kept_units(network: GraphNetwork) -> list[str]:
    """One line for each reason why units of hidden layers cannot be removed, and the layers whose units they are."""
    layers = bayesian(network)
    found: dict[str, list[str]] = {}
    nodes = network.graph.nodes
    read = {str(node.layer) for node in nodes if node.op == "layer" and not node.inputs}
    followed: set[str] = set()  # biases whose units are those of another layer
    for space in Spaces(network).groups():
        reason, makers = why_kept(space, layers), [name for name in space.producers if name not in read]
        followed.update(space.producers if makers else ())
        if reason is not None and reason != "classes" and makers:
            found.setdefault(reason, []).extend(dict.fromkeys(shown(name, read) for name in makers))
    for node in nodes:
        if node.op == "layer" and not node.inputs and node.layer not in followed:  # a recurrent layer's, for instance
            readers = dict.fromkeys(f"{user.name} ({user.type})" for user in nodes if node.name in user.reads)
            reason = f"units are not followed through what reads the weight: {', '.join(readers)}"
            found.setdefault(reason, []).append(shown(str(node.layer), read))
    return [f"{', '.join(names)}: {reason}" for reason, names in found.items()]


def shown(name: str, read: Container[str]) -> str:
    """What a user calls a layer; `read` are the names of those whose weight is read."""
    owner = name.removesuffix(".layer")  # of a BiasedLayer
    return owner if f"{owner}.bias{SUFFIX}" in read else name.removesuffix(SUFFIX)


def unit_masks(network: GraphNetwork, groups: list[Space], gone: list[Tensor]) -> dict[str, Tensor]:
    """Masks of the kernels without the rows and columns of removed units."""
    keep = {name: torch.ones(layer.mu.shape, dtype=torch.bool) for name, layer in bayesian(network).items()}
    for space, units in zip(groups, gone, strict=True):
        if not units.any():
            continue
        for name in space.producers:
            keep[name][units] = False
        for reader in space.readers:
            columns = units.repeat_interleave(reader.factor).nonzero()[:, 0] + reader.first
            keep[reader.layer][:, columns] = False
    return keep
