"""The name of what runs, and whether this project's kernels are part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from bnn import kernels
from bnn.errors import UserError
from bnn.settings import TrainSettings


def implementation_of(settings: TrainSettings, model: nn.Module) -> str:
    """The name of what runs: that of what the settings ask for, unless this machine has no kernels for it."""
    name = settings.implementation
    flipout = name == "bnn-flipout" and not kernels_used(model)
    without = flipout or (name in ("bnn-ivon", "bnn-mc-dropout") and not kernels.available())
    return f"{name}-torch" if without else name


def kernels_used(model: nn.Module) -> bool:
    """Whether this project's kernels compute the model's Flipout layers."""
    try:
        from bnn.layers.flipout_fast import kernels_used as used
    except ImportError:
        return False
    return bool(used(model))


def with_kernels(model: nn.Module) -> nn.Module:
    """The conventional model with this project's convolutions where they are faster. Raises UserError without them."""
    try:
        from bnn.layers.kernel_conv import use_kernels
    except ImportError as error:
        raise UserError(f"baseline cnn-kernels: the kernels cannot be loaded ({error})") from None
    return use_kernels(model)


@contextmanager
def conventional(model: nn.Module) -> Iterator[None]:
    """Within this context convolutions that take the kernels are `nn.Conv2d` again, with the same parameters.

    A posterior holds layers that any machine has; kernels are how a run computes them.
    """
    try:
        from bnn.layers.kernel_conv import KernelConv2d
    except ImportError:  # then no layer can be one
        yield
        return
    layers: list[nn.Module] = [module for module in model.modules() if type(module) is KernelConv2d]
    try:
        for layer in layers:
            layer.__class__ = nn.Conv2d
        yield
    finally:
        for layer in layers:
            layer.__class__ = KernelConv2d
