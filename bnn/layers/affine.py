"""The two functions a Bayesian layer can have: 2-d convolution and matrix product; and a convolution's geometry."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bnn.layers.base import BayesianLayer, PosteriorInit

Pair = tuple[int, int]  # along rows and along columns
Size2 = int | Pair


class ConvGeometry(NamedTuple):
    """How a 2-d convolution goes over its input, in the order of `torch.nn.functional.conv2d`.

    `padding` counts the zeros on each side, in pixels.
    """

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @classmethod
    def of(cls, layer: Any) -> ConvGeometry:
        """The geometry of a convolution layer, ours or torch's. Raises ValueError for padding given by name."""
        if isinstance(layer.padding, str):
            raise ValueError(f"padding={layer.padding!r}: not in pixels")
        return cls(layer.stride, layer.padding, layer.dilation, layer.groups)

    @property
    def ungrouped(self) -> tuple[Pair, Pair, Pair]:
        """Stride, padding and dilation: the last arguments of the kernels' operators, which know no groups."""
        return self[:3]

    def output_size(self, size: Sequence[int], kernel: Sequence[int]) -> Pair:
        """Rows and columns of the output, for an input of `size` pixels and a kernel of `kernel` taps."""
        rows, columns = (
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in range(2)
        )
        return rows, columns


class BayesianConv2d(BayesianLayer):
    """2-d convolution. Input (N, C_in, H, W), output (N, C_out, H', W'); arguments as in `torch.nn.Conv2d`.

    The kernel is (C_out, C_in / groups, kh, kw), the bias (C_out,). Zeros are padded; `padding` is a number of pixels,
    or 'valid' or 'same' where that is the same on both sides. How weights are sampled is left to subclasses.
    Raises ValueError for sizes that do not fit, and in the forward pass for an input that is not four-dimensional.
    """

    channel_dim = 1
    takes = (4, 4, "(N, C, H, W)")
    padding_mode, transposed, output_padding = "zeros", False, (0, 0)  # as torch's, for code that reads them

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2,
        stride: Size2 = 1,
        padding: Size2 | str = 0,
        dilation: Size2 = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        init: PosteriorInit | None = None,
        layer_index: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes(in_channels=in_channels, out_channels=out_channels, groups=groups)
        in_channels, out_channels, groups = int(in_channels), int(out_channels), int(groups)  # they may be numpy's
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{groups} groups do not divide {in_channels} and {out_channels} channels")
        kernel = pair(kernel_size)
        super().__init__((out_channels, in_channels // groups, *kernel), bias, init, layer_index, device, dtype)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.dilation, self.groups = pair(stride), pair(dilation), groups
        self.padding = pixels(padding, kernel, self.stride, self.dilation)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Torch's name for `affine`, by which code around a layer calls it."""
        return self.affine(input, weight, bias)

    def affine(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(x, kernel, bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )


class BayesianLinear(BayesianLayer):
    """Dense layer. Input (N, *, in_features), output (N, *, out_features); arguments as in `torch.nn.Linear`.

    An input (in_features,) is that of one example, and so is its output. The kernel is (out_features, in_features),
    the bias (out_features,). How weights are sampled is left to subclasses. Raises ValueError for sizes below 1, and in
    the forward pass for a number.
    """

    channel_dim = -1
    takes = (2, 64, "(N, *, features)")
    takes_one = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: PosteriorInit | None = None,
        layer_index: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes(in_features=in_features, out_features=out_features)
        in_features, out_features = int(in_features), int(out_features)  # they may be numpy's
        super().__init__((out_features, in_features), bias, init, layer_index, device, dtype)
        self.in_features, self.out_features = in_features, out_features

    def affine(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, kernel, bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def sizes(**values: int) -> None:
    """Raise ValueError, by name, for a size that is no whole number from 1 on."""
    for name, value in values.items():
        try:
            whole = operator.index(value)  # numpy's are, too
        except TypeError:
            whole = 0
        if whole < 1:
            raise ValueError(f"{name}={value!r}: must be a whole number from 1 on")


def pair(value: Size2) -> Pair:
    first, second = (value[0], value[1]) if isinstance(value, Sequence) else (value, value)
    return int(first), int(second)


def pixels(padding: Size2 | str, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """Padding in pixels per side. Raises ValueError for a 'same' that would pad one side more than the other."""
    if not isinstance(padding, str):
        return pair(padding)
    if padding == "valid":
        return (0, 0)
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding != "same" or stride != (1, 1) or any(size % 2 for size in total):
        raise ValueError(f"padding={padding!r} with kernel {kernel} and stride {stride}: give the pixels per side")
    return (total[0] // 2, total[1] // 2)
