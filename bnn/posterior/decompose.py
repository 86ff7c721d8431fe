"""What operations become when a model is recorded: core ATen, but for a few that stay whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Operations that are one call of a library, and would be dozens of core ATen ones.
WHOLE = [
    "pad.default", "scaled_dot_product_attention.default", "rms_norm.default", "lstm.input", "gru.input",
    "rnn_tanh.input", "rnn_relu.input", "upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec",
    "upsample_bicubic2d.vec", "upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec",
    "pixel_shuffle.default", "hardswish.default", "hardsigmoid.default", "silu.default", "mish.default",
]  # fmt: skip


def decompositions() -> Any:
    """Torch's decompositions into core ATen, but for operations that run better, or only, as a whole."""
    table = torch.export.default_decompositions()
    for name in WHOLE:
        packet, _, overload = name.partition(".")
        table.pop(getattr(getattr(torch.ops.aten, packet), overload), None)
    table[torch.ops.aten._trilinear.default] = trilinear
    return table


def trilinear(
    i1: Tensor, i2: Tensor, i3: Tensor, expand1: list[int], expand2: list[int], expand3: list[int], sumdim: list[int],
    unroll_dim: int = 1,
) -> Tensor:  # fmt: skip
    """ATen's product of three tensors, each with new axes, summed over some: what `nn.Bilinear` computes.

    A bilinear map's (x A_k y for every class k) is a matrix product first: all three at once would take as many times
    the memory as the first input has features.
    """
    if (expand1, expand2, expand3, sumdim) == ([1, 3], [0], [1, 2], [2, 3]):
        classes, rows, columns = i2.shape
        left = (i1 @ i2.permute(1, 0, 2).reshape(rows, classes * columns)).view(-1, classes, columns)
        return (left * i3.unsqueeze(1)).sum(-1)
    product = expanded(i1, expand1) * expanded(i2, expand2) * expanded(i3, expand3)
    return product.sum(sumdim) if sumdim else product


def expanded(x: Tensor, axes: list[int]) -> Tensor:
    for axis in axes:
        x = x.unsqueeze(axis)
    return x
