"""Adam and RMSProp in one pass over each parameter, by this project's kernels; rates, weight decay and clipping.

State and numbers are those of torch's optimizers, so that checkpoints fit both. torch's own fused Adam for CPUs makes
several passes and misreads gradients whose strides differ from their parameter's; it has no fused RMSProp there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bnn import kernels

OPS = torch.ops.bnn_kernels


def laid_as(parameter: Tensor, other: Tensor | None) -> Tensor:
    """`other` (a gradient, or state from a checkpoint), lying in memory as the parameter does."""
    assert other is not None
    if other.stride() == parameter.stride():
        return other
    return torch.empty_like(parameter).copy_(other)


def _lay_out(parameters: list[Tensor]) -> None:
    """Make gradients lie in memory as their parameters do, as torch's fused Adam takes for granted."""
    for parameter in parameters:
        parameter.grad = laid_as(parameter, parameter.grad)


def _fits(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> bool:
    """Whether the kernels can do the step. (A loaded checkpoint may bring options that they lack.)"""
    lacking = ("weight_decay", "amsgrad", "maximize", "momentum", "centered")
    asked = any(group.get(option) for group in optimizer.param_groups for option in lacking)
    return bool(parameters) and not asked and kernels.fits(*parameters)


def _states(
    optimizer: torch.optim.Optimizer, parameters: list[Tensor], moments: tuple[str, ...]
) -> dict[str, list[Tensor]]:
    """The state of every parameter by name, made where it is missing; the steps are counted on by one."""
    for parameter in parameters:
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
        for name in moments:
            state[name] = laid_as(parameter, state[name]) if name in state else torch.zeros_like(parameter)
    states = {name: [optimizer.state[p][name] for p in parameters] for name in ("step", *moments)}
    torch._foreach_add_(states["step"], 1.0)
    return states


def _bare(method: Callable[..., Any]) -> Callable[..., Any]:
    return getattr(method, "__wrapped__", method)


class Uncompiled(torch.optim.Optimizer):
    """An optimizer that stands in no compiled graph.

    torch guards an optimizer's methods against that, for which it loads its compiler on the first call: a second or two
    of every rank's start.
    """

    add_param_group = _bare(torch.optim.Optimizer.add_param_group)
    zero_grad = _bare(torch.optim.Optimizer.zero_grad)
    state_dict = _bare(torch.optim.Optimizer.state_dict)
    load_state_dict = _bare(torch.optim.Optimizer.load_state_dict)


class FusedAdam(Uncompiled, torch.optim.Adam):
    """`torch.optim.Adam` without weight decay, amsgrad, maximize; torch's fused step where the kernels do not fit."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient. Raises ValueError for a closure."""
        if closure is not None:
            raise ValueError("FusedAdam takes no closure")
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not _fits(self, parameters):
            _lay_out(parameters)
            return super().step()
        for group in self.param_groups:
            some = [p for p in group["params"] if p.grad is not None]
            if not some:
                continue
            states = _states(self, some, ("exp_avg", "exp_avg_sq"))
            gradients = [laid_as(p, p.grad) for p in some]
            OPS.adam_(
                some, gradients, states["exp_avg"], states["exp_avg_sq"], states["step"],
                group["lr"], *group["betas"], group["eps"],
            )  # fmt: skip
        torch.autograd.graph.increment_version(parameters)  # (operators of one's own do not)
        return None


class FusedRMSprop(Uncompiled, torch.optim.RMSprop):
    """`torch.optim.RMSprop` without momentum, centring and weight decay; torch's step where the kernels do not fit."""

    def __init__(self, params: Any, lr: float, alpha: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(params, lr=lr, alpha=alpha, eps=eps)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient. Raises ValueError for a closure."""
        if closure is not None:
            raise ValueError("FusedRMSprop takes no closure")
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not _fits(self, parameters):
            return super().step()
        for group in self.param_groups:
            some = [p for p in group["params"] if p.grad is not None]
            if not some:
                continue
            states = _states(self, some, ("square_avg",))
            gradients = [laid_as(p, p.grad) for p in some]
            OPS.rmsprop_(some, gradients, states["square_avg"], group["lr"], group["alpha"], group["eps"])
        torch.autograd.graph.increment_version(parameters)  # (operators of one's own do not)
        return None


@dataclass(frozen=True)
class RateSchedule:
    """Which share of the full learning rate each step takes: a pure function of the step.

    The first `warmup` steps rise linearly to 1, from 1 / warmup (Goyal et al. 2017). The others keep it, or, with
    `cosine`, fall from 1 towards `final`, which step `steps` would have (Loshchilov, Hutter 2017, without restarts).
    """

    steps: int
    warmup: int = 0
    cosine: bool = False
    final: float = 0.0

    def share(self, step: int) -> float:
        """The share of `step`, from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if not self.cosine:
            return 1.0
        passed = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * passed)) / 2


@torch.no_grad()
def descend(
    optimizer: torch.optim.Optimizer, rate: float, weight_decay: float = 0.0, clip: float | None = None
) -> None:
    """One update with the learning rate `rate` of all parameters that have gradients, which are gone then.

    `clip` first scales all gradients down to that norm, where together they exceed it, as torch's `clip_grad_norm_`.
    `weight_decay` shrinks the parameters by `rate` times it before the update, as `torch.optim.AdamW`. IVON is given
    neither (bnn.settings refuses them): it has its own.
    """
    stepped = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(stepped, clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if weight_decay and stepped:
        torch._foreach_mul_(stepped, 1 - rate * weight_decay)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
