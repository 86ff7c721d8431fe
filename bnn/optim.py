"""Adam and RMSProp in one pass over each parameter, by this project's kernels where they fit.

State and numbers are those of torch's optimizers, so that checkpoints fit both. torch's own fused Adam for CPUs makes
several passes and misreads gradients whose strides differ from their parameter's; it has no fused RMSProp there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnn import kernels

OPS = torch.ops.bnn_kernels


def _gradient(parameter: Tensor) -> Tensor:
    """The parameter's gradient, lying in memory as the parameter does."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class FusedAdam(torch.optim.Adam):
    """`torch.optim.Adam` without weight decay, amsgrad and maximize; torch's fused step where the kernels do not fit."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient. Raises ValueError for a closure."""
        if closure is not None:
            raise ValueError("FusedAdam takes no closure")
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not parameters or not kernels.fits(*parameters):
            return super().step()  # type: ignore[no-any-return]
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                state["step"] += 1
                OPS.adam_(
                    parameter, _gradient(parameter), state["exp_avg"], state["exp_avg_sq"],
                    group["lr"], beta1, beta2, group["eps"], state["step"],
                )  # fmt: skip
        return None


class FusedRMSprop(torch.optim.RMSprop):
    """`torch.optim.RMSprop` without momentum, centring and weight decay; torch's step where the kernels do not fit."""

    def __init__(self, params: Any, lr: float, alpha: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(params, lr=lr, alpha=alpha, eps=eps)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient. Raises ValueError for a closure."""
        if closure is not None:
            raise ValueError("FusedRMSprop takes no closure")
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not parameters or not kernels.fits(*parameters):
            return super().step()  # type: ignore[no-any-return]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32)
                    state["square_avg"] = torch.zeros_like(parameter)
                state["step"] += 1
                OPS.rmsprop_(
                    parameter, _gradient(parameter), state["square_avg"], group["lr"], group["alpha"], group["eps"]
                )
        return None
