"""This project's CPU kernels in C++ on torch's threads: Flipout convolutions, noise with KL, gradients, optimizers.

They are operators of torch (`torch.ops.bnn_kernels`, listed in src/registration.cpp), in a library that the set-up
builds (`python -m bnn.kernels.build`, half a minute). Code that uses them asks `available()` first: without a
compiler there are no kernels, and everything is computed in plain torch.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnn.errors import UserError

# Without wide vectors the library's two convolutions are the faster form; BNN_KERNELS_ISA=generic asks for ours anyway.
NARROW = "generic"
Backward = Callable[..., tuple[Tensor | None, ...]]


@functools.cache
def available() -> bool:
    """Whether the kernels are built for this environment and worth using on this machine; warns once if not."""
    try:
        load()
    except UserError as error:
        warnings.warn(f"computing in plain torch: {error}", RuntimeWarning, stacklevel=2)
        return False
    return isa() != NARROW or os.environ.get("BNN_KERNELS_ISA") == NARROW


@functools.cache
def load() -> None:
    """Load the library.

    Raises UserError when it is not there, older than its source or cannot be loaded, or for a wrong BNN_KERNELS_ISA.
    """
    from bnn.kernels.build import ISA_FLAGS, library

    wanted = os.environ.get("BNN_KERNELS_ISA")
    if wanted and wanted not in ISA_FLAGS:
        raise UserError(f"BNN_KERNELS_ISA={wanted}: unknown; there are {', '.join(ISA_FLAGS)}")
    path = library()
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be loaded ({error}): run python -m bnn.kernels.build") from None


def isa() -> str:
    """The instruction set in use: avx512, avx2 or generic. The environment variable BNN_KERNELS_ISA narrows it."""
    load()
    return str(torch.ops.bnn_kernels.isa())


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels can compute with these tensors: float32 on a CPU, and not while torch.compile traces."""
    plain = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    return plain and not traced() and available()


def traced() -> bool:
    """Whether torch.compile or torch.export records what this thread computes.

    Torch's own flag is one for all threads: a model that trains beside another that is saved would take other noise.
    """
    if not torch.compiler.is_compiling():
        return False
    return torch.compiler.is_dynamo_compiling() or torch._C._len_torch_dispatch_stack() > 0


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

    @functools.wraps(backward)
    def run(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            results = backward(ctx, *gradients)
        if not torch.is_grad_enabled():  # create_graph=False
            return results
        made = [result.detach().requires_grad_() for result in results if isinstance(result, Tensor)]
        refusing = iter(Refusal.apply(*made) if made else ())
        return tuple(next(refusing) if isinstance(result, Tensor) else result for result in results)

    return run
