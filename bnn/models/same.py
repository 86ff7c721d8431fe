"""A converted model beside the one that it was made of: without noise both are the same network, or it is refused.

A Bayesian layer stands for a layer in all that a layer does; code around it may still ask for more: its class, an
attribute, its parameters one by one, or a change of its weight.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from bnn.errors import UserError
from bnn.layers.base import mean_only, modes_kept

OFF = 1e-3  # of the largest output; what is lost shows in the first digits, rounding in the seventh
IMAGES = 2
WHY = (
    "code around a layer asks for what a Bayesian one has not: its class, an attribute, its parameters one by one, or "
    "a change of its weight. Leave that layer out (where), or take the weight as an argument"
)


@torch.no_grad()
def check_same(model: nn.Module, twin: nn.Module, input_shape: Sequence[int]) -> None:
    """Raise UserError where the means of `twin`, converted from `model`, compute something else, on random images.

    In evaluation mode. Nothing is told of a model that cannot be run on such images, or that says something else when
    it is asked again.
    """
    trial = copy.deepcopy(twin)
    parameter = next(model.parameters())
    generator = torch.Generator().manual_seed(11)
    images = torch.randn((IMAGES, *input_shape), generator=generator).to(parameter)
    with torch.random.fork_rng(devices=[]), modes_kept(model):
        model.eval()
        try:
            wanted, again = tensors(model(images.clone())), tensors(model(images.clone()))
        except Exception:  # said where it is run for itself
            return
    if not wanted or distance(wanted, again) > OFF:
        return
    with torch.random.fork_rng(devices=[]), mean_only(trial), torch.enable_grad():
        trial.eval()
        try:
            found = tensors(trial(images.clone()))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"converted, it fails ({type(error).__name__}: {reason}): {WHY}") from error
    if (foreign := unregistered(trial, found)) is not None:
        raise UserError(
            f"a weight of shape {[*foreign.shape]} takes part that belongs to no layer of the model, as one kept in a "
            "class, a global or a function does: it would stay conventional without a word; make it an attribute"
        )
    found = [each.detach() for each in found]
    for (name, before), after in zip(twin.named_parameters(), trial.parameters(), strict=True):
        if not torch.equal(before, after):
            raise UserError(f"its forward pass changes {name}, a mean of its posterior: {WHY}")
    if (off := distance(wanted, found)) > max(OFF, 20 * torch.finfo(parameter.dtype).eps):
        raise UserError(f"converted, it computes something else, off by {off:.2g} of its largest output: {WHY}")


def tensors(outputs: object) -> list[Tensor]:
    """Of whatever a model returns, the tensors of floating point."""
    return [leaf for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def unregistered(model: nn.Module, outputs: list[Tensor]) -> Tensor | None:
    """A tensor to be trained that `outputs` were made of and that is no parameter of `model`; None without any."""
    known = {id(parameter) for parameter in model.parameters()}
    waiting = [each.grad_fn for each in outputs if each.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor) and id(variable) not in known:
            return variable
        further = {each for each, _ in node.next_functions if each is not None} - seen
        seen |= further
        waiting += further
    return None


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    """The greatest difference as a share of the largest value of `some`; infinite between other shapes."""
    if [each.shape for each in some] != [each.shape for each in others]:
        return math.inf
    found = 0.0
    for one, other in zip(some, others, strict=True):
        same = (one == other) | (one.isnan() & other.isnan())
        if one.numel() and not bool(same.all()):
            largest = float(one[one.isfinite()].abs().max()) if bool(one.isfinite().any()) else 0.0
            off = float((one - other)[~same].abs().max())
            found = max(found, off / largest if largest > 0 else math.inf) if math.isfinite(off) else math.inf
    return found
