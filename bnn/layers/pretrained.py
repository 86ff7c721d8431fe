"""A conventional network's weights as the posterior means of its Bayesian twin."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers.base import BayesianLayer
from bnn.layers.biased import conventional_name
from bnn.layers.noise import checked_module

NAMED = 5  # names that an error lists


@torch.no_grad()
def load_conventional(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Take `tensors`, the `state_dict` of the network that `model` is the twin of, as `model`'s means, in place.

    A weight, or a bias that has one, becomes its posterior's mean `mu`; other parameters and buffers are taken as they
    are; `rho` stays.
    Values take the model's precision and device. A tensor that the model shares under several names may be given under
    any of them.

    Raises UserError, naming the tensors, where one is missing, left over, of another shape or kind, not finite, or
    differs between the names of one shared tensor. Then nothing has been changed.
    """
    targets = conventional_names(checked_module(model, "load_conventional"))
    refuse("not in the model", sorted(tensors.keys() - targets.keys()))
    given = {id(targets[name]) for name in tensors}
    refuse("missing", [name for name, target in targets.items() if id(target) not in given])
    first: dict[int, str] = {}
    for name, value in tensors.items():
        check_value(name, value, targets[name])
        other = first.setdefault(id(targets[name]), name)
        if not torch.equal(value, tensors[other]):
            raise UserError(f"tensors {other} and {name}: the model shares them, but their values differ")
    for name, value in tensors.items():
        targets[name].copy_(value)


def conventional_names(model: nn.Module) -> dict[str, Tensor]:
    """The names of the conventional network's `state_dict` and the tensor of its twin `model` that takes each."""
    owners = dict(model.named_modules(remove_duplicate=False))
    names: dict[str, Tensor] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        name, (path, _, leaf) = key, key.rpartition(".")
        owner = owners.get(path)
        if isinstance(owner, BayesianLayer) and leaf == "rho":
            continue
        if isinstance(owner, BayesianLayer) and leaf == "mu":
            name = conventional_name(path, owner, owners)
        if isinstance(value, Tensor):
            names[name] = value
    return names


def refuse(fault: str, names: Iterable[str]) -> None:
    """Raise UserError if there are such names."""
    listed = list(names)
    if listed:
        more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
        raise UserError(f"pretrained weights: {fault}: {', '.join(listed[:NAMED])}{more}")


def check_value(name: str, value: Tensor, target: Tensor) -> None:
    """Raise UserError for a tensor that cannot take its place in the model."""
    if value.shape != target.shape:
        raise UserError(f"tensor {name}: its shape is {tuple(value.shape)}, the model's {tuple(target.shape)}")
    if value.is_floating_point() != target.is_floating_point():
        raise UserError(f"tensor {name}: it is of {value.dtype}, the model's of {target.dtype}")
    if value.is_floating_point() and not bool(torch.isfinite(value.to(target.dtype)).all()):
        raise UserError(f"tensor {name}: not all of its values are finite")
