"""How tensors lie in memory for a model, and where channels_last would corrupt memory.

oneDNN's gradient of the weights of a 1x1 convolution with a stride writes past its workspace where tensors are
channels_last and the input has fewer channels than it takes at once (github.com/uxlfoundation/oneDNN/issues/6035; torch
2.13 has oneDNN 3.12): on a processor with AVX2 gradients are wrong, or the process ends. It takes 8 channels with AVX2;
AT_ONCE is what it may take with wider vectors, so that a model lies alike on all processors.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnn.settings import TrainSettings

AT_ONCE = 16


class NarrowError(Exception):
    """A convolution that must not be channels_last is."""


def layout_of(settings: TrainSettings, model: nn.Module) -> torch.memory_format:
    """What a run with these settings wants for its model, which, if it is one's own, may refuse (bnn.training.fit)."""
    return layout_for(model, torch.channels_last if settings.tuned else torch.contiguous_format, settings.device)


def layout_for(model: nn.Module, wanted: torch.memory_format, device: str) -> torch.memory_format:
    """`wanted`, or contiguous where a layer of the model does not stand channels_last."""
    narrow = wanted == torch.channels_last and device == "cpu" and any(map(is_narrow, model.modules()))
    return torch.contiguous_format if narrow else wanted


def is_narrow(layer: nn.Module) -> bool:
    """Whether a layer is a 1x1 convolution with a stride and few input channels: torch's, or a Bayesian one."""
    kernel, stride, channels = (getattr(layer, name, None) for name in ("kernel_size", "stride", "in_channels"))
    if not (isinstance(kernel, tuple) and isinstance(stride, tuple) and isinstance(channels, int)):
        return False
    return _narrow(channels // int(getattr(layer, "groups", 1)), kernel, stride)


def lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Put the kernels of convolutions, tensors of four dimensions, into that order."""
    if layout == torch.channels_last and any(parameter.dim() == 5 for parameter in model.parameters()):
        raise ValueError("tensors of five dimensions cannot be channels_last")
    model.to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stubs


class NoneNarrow(TorchDispatchMode):
    """Within it, a convolution on the CPU that must not be channels_last raises NarrowError, whoever computes it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            x, kernel, _, stride = args[:4]
            channels, size = kernel.shape[1], tuple(kernel.shape[2:])
            on_cpu = x.device.type == "cpu" and x.dim() == 4
            if on_cpu and _narrow(channels, size, tuple(stride)) and (_last(x) or _last(kernel)):
                what = f"a 1x1 convolution with stride {tuple(stride)} of {channels} channels"
                raise NarrowError(
                    f"{what} in channels_last: torch's oneDNN writes past memory there (oneDNN issue 6035)"
                )
        return func(*args, **(kwargs or {}))


def _narrow(channels: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    return channels < AT_ONCE and math.prod(kernel) == 1 and math.prod(stride) > 1


def _last(x: Tensor) -> bool:
    """Whether torch takes a tensor for channels_last: strides grow by channel, column, row, image; else contiguous."""
    least = 0
    for axis in (1, 3, 2, 0):
        stride, size = x.stride(axis), x.shape[axis]
        if size == 0 or stride < least or (axis == 0 and least == x.stride(1)):
            return False
        least = stride * size
    return x.stride(1) != 0
