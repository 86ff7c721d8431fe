"""The two functions a Bayesian layer can have: 2-d convolution and matrix product."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bnn.layers.base import BayesianLayer, PosteriorInit
from bnn.layers.geometry import Pair

Size2 = int | Pair


class BayesianConv2d(BayesianLayer):
    """2-d convolution. Input (N, C_in, H, W), output (N, C_out, H', W'); arguments as in `torch.nn.Conv2d`.

    The kernel is (C_out, C_in / groups, kh, kw), the bias (C_out,). Zeros are padded; `padding` is a number of pixels,
    or 'valid' or 'same' where that is the same on both sides. How weights are sampled is left to subclasses.
    Raises ValueError for sizes that do not fit, and in the forward pass for an input that is not four-dimensional.
    """

    channel_dim = 1

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
        layer_index: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{groups} groups do not divide {in_channels} and {out_channels} channels")
        kernel = pair(kernel_size)
        super().__init__((out_channels, in_channels // groups, *kernel), bias, init, layer_index, device, dtype)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.dilation, self.groups = pair(stride), pair(dilation), groups
        self.padding = pixels(padding, kernel, self.stride, self.dilation)

    def affine(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(x, kernel, bias, self.stride, self.padding, self.dilation, self.groups)

    def check_input(self, x: Tensor) -> None:
        if x.dim() != 4:
            raise ValueError(f"expected an input of shape (N, C, H, W), got {tuple(x.shape)}")

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )


class BayesianLinear(BayesianLayer):
    """Dense layer. Input (N, *, in_features), output (N, *, out_features); arguments as in `torch.nn.Linear`.

    The kernel is (out_features, in_features), the bias (out_features,). How weights are sampled is left to subclasses.
    Raises ValueError in the forward pass for an input of one dimension.
    """

    channel_dim = -1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: PosteriorInit | None = None,
        layer_index: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__((out_features, in_features), bias, init, layer_index, device, dtype)
        self.in_features, self.out_features = in_features, out_features

    def affine(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, kernel, bias)

    def check_input(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"expected an input of shape (N, *, features), got {tuple(x.shape)}")

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def pair(value: Size2) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


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
