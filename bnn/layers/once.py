"""Backward passes by the kernels, which can be differentiated once: a second derivative is refused, never left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from bnn.errors import UserError

Backward = Callable[..., tuple[Tensor | None, ...]]


class Refusal(torch.autograd.Function):
    """Tensors as they are, whose own backward pass raises UserError."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        raise UserError(
            "the kernels have no second derivatives; take the estimator flipout-reference (for a conventional network, "
            "torch's convolutions) where gradients are differentiated"
        )


def once(backward: Backward) -> Backward:
    """A backward pass whose results cannot be differentiated, of an autograd function's class.

    (torch's own `once_differentiable` gives constants where the incoming gradient is one, though the result depends on
    the weights as well: a penalty on gradients would be left out without a word.)
    """

    @wraps(backward)
    def run(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            results = backward(ctx, *gradients)
        if not torch.is_grad_enabled():  # create_graph=False
            return results
        made = [result.detach().requires_grad_() for result in results if isinstance(result, Tensor)]
        refusing = iter(Refusal.apply(*made) if made else ())
        return tuple(next(refusing) if isinstance(result, Tensor) else result for result in results)

    return run
