"""Layers that are recorded whole: while a model is recorded, an operator of our own stands in the place of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers import BayesianLayer, BayesianLinear
from bnn.posterior.layer_types import is_leaf, replaced_method

LIBRARY = torch.library.Library("bnn_record", "DEF")
LIBRARY.define("layer(Tensor x, int number) -> Tensor")
LIBRARY.define("weight(int number) -> Tensor")
OPS = torch.ops.bnn_record


@dataclass
class Leaves:
    """The layers that are recorded whole, by number. `inside`: one of them is running itself."""

    paths: list[str] = field(default_factory=list)
    layers: list[nn.Module] = field(default_factory=list)
    inside: bool = False


_leaves = Leaves()  # of the model that is being recorded


def layer_output(x: Tensor, number: int) -> Tensor:
    """What a layer gives, on tensors without data: memory of its own, in the usual order."""
    layer = _leaves.layers[number]
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
    empty = {name: torch.empty(t.shape, dtype=t.dtype, device=t.device) for name, t in tensors.items()}
    _leaves.inside = True
    try:
        y: Tensor = torch.func.functional_call(layer, empty, (x,))
    finally:
        _leaves.inside = False
    return torch.empty(y.shape, dtype=y.dtype, device=y.device)


def layer_weight(number: int) -> Tensor:
    """The weight of a layer, on tensors without data."""
    layer = _leaves.layers[number]
    assert isinstance(layer, BayesianLayer)
    return torch.empty(layer.mu.shape, dtype=layer.mu.dtype, device=layer.mu.device)


torch.library.register_fake("bnn_record::layer", layer_output, lib=LIBRARY)
torch.library.register_fake("bnn_record::weight", layer_weight, lib=LIBRARY)


def leaf(number: int) -> tuple[str, nn.Module]:
    """Path and layer of a leaf of the model that is being recorded."""
    return _leaves.paths[number], _leaves.layers[number]


@contextlib.contextmanager
def leaves_of(model: nn.Module) -> Iterator[None]:
    """While open, the model's leaf layers are recorded whole; afterwards they, and what was recorded, are as before.

    Raises UserError for a Bayesian layer that does not compute what its class says.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, BayesianLayer) and (replaced := replaced_method(layer)):
            raise UserError(f"layer {name}: its {replaced} was replaced on the object; a posterior cannot hold that")
    found = {name: layer for name, layer in model.named_modules() if is_leaf(layer)}
    outer = _leaves.paths, _leaves.layers
    _leaves.paths, _leaves.layers = list(found), list(found.values())
    try:
        for number, layer in enumerate(_leaves.layers):
            layer.__dict__["forward"] = standing_in(layer, number)
            if isinstance(layer, BayesianLayer):
                layer.__dict__["recorded"] = partial(OPS.weight, number)
        yield
    finally:
        for layer in found.values():
            layer.__dict__.pop("forward", None)  # no leaf has one of its own
            layer.__dict__.pop("recorded", None)
        _leaves.paths, _leaves.layers = outer


def standing_in(layer: nn.Module, number: int) -> Callable[..., Tensor]:
    """The forward pass of a layer while it is recorded."""

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        if not _leaves.inside and len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            if torch.is_autocast_enabled(args[0].device.type):
                raise UserError(
                    f"layer {_leaves.paths[number]}: the model runs it within torch.autocast; a posterior computes "
                    "in the precision of its weights"
                )
            if args[0].dim() == 1 and isinstance(layer, BayesianLinear):  # (a graph holds what has a batch's axis)
                y: Tensor = OPS.layer(args[0].unsqueeze(0), number).squeeze(0)
                return y
            y = OPS.layer(args[0], number)
            return y
        if not _leaves.inside and not args and not kwargs and isinstance(layer, BayesianLayer):  # a Bayesian parameter
            weight: Tensor = OPS.weight(number)
            return weight
        y = type(layer).forward(layer, *args, **kwargs)
        return y

    return forward
