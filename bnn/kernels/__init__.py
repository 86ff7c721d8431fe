"""This project's CPU kernels in C++ on torch's threads: Flipout convolutions, noise with KL, gradients, optimizers.

They are operators of torch (`torch.ops.bnn_kernels`, listed in src/registration.cpp), in a library that the set-up
builds (`python -m bnn.kernels.build`, half a minute). Code that uses them asks `available()` first: without a
compiler there are no kernels, and everything is computed in plain torch.
"""

from __future__ import annotations

import functools
import os
import warnings

import torch
from torch import Tensor

from bnn.errors import UserError

# Without wide vectors the library's two convolutions are the faster form; BNN_KERNELS_ISA=generic asks for ours anyway.
NARROW = "generic"


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
    return plain and not torch.compiler.is_compiling() and available()
