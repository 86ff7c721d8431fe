"""Conventional convolutions by this project's kernels, for baseline `cnn-kernels`: what helps the BNN helps the CNN.

Where they are the faster ones is a stated rule rather than a matter of timing, which would make two runs of one seed
differ: 3x3 convolutions of stride 1 (Winograd's algorithm from 8x8 pixels on), and all whose output has at most SMALL
pixels (padding, most of the work there, is left out). The library has the others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnn import kernels
from bnn.errors import UserError
from bnn.layers.affine import ConvGeometry
from bnn.layers.flipout_fast import lies_channels_last

OPS = torch.ops.bnn_kernels
SMALL = 16  # pixels of an output
FEW = 16  # channels, below which Winograd's transforms are most of the work


class Convolution(torch.autograd.Function):
    """(x, weight, bias) -> output. Input (N, C_in, H, W), output (N, C_out, H', W')."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        channels_last = lies_channels_last(x, weight)
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        y: Tensor = OPS.conv(x, weight, None, None, None, bias, *geometry.ungrouped)
        return y if channels_last else y.contiguous()

    @staticmethod
    @kernels.once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        want_x, want_weight, want_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = of_bias = None
        if want_x:
            of_x = OPS.conv_input_gradient(gradient, weight, None, None, None, x.shape[2:], *ctx.geometry.ungrouped)
        if want_weight:
            of_weight, _ = OPS.conv_weight_gradient(x, gradient, None, None, weight.shape[2:], *ctx.geometry.ungrouped)
        if want_bias:
            of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None


class KernelConv2d(nn.Conv2d):
    """`nn.Conv2d` that takes the kernels where they are faster."""

    def faster(self, x: Tensor) -> bool:
        """Whether the kernels are, for this input."""
        transformed = (self.kernel_size, self.stride, self.dilation) == ((3, 3), (1, 1), (1, 1))
        if transformed and min(self.in_channels, self.out_channels) >= FEW:
            return True
        rows, columns = ConvGeometry.of(self).output_size(x.shape[2:], self.kernel_size)
        return rows * columns <= SMALL

    def forward(self, input: Tensor) -> Tensor:  # torch's name for it, by which it may be called
        x = input
        if x.dim() != 4 or not kernels.fits(x, self.weight) or not self.faster(x):
            return super().forward(x)
        return Convolution.apply(x, self.weight, self.bias, ConvGeometry.of(self))


def use_kernels(model: nn.Module) -> nn.Module:
    """Make the convolutions of `model` take the kernels, in place; returns it.

    Raises UserError where there are no kernels. Layers with groups, other padding than zeros or padding by name, and
    subclasses of `nn.Conv2d`, stay as they are.
    """
    kernels.load()
    if not kernels.available():
        raise UserError("baseline cnn-kernels: this machine's vectors are too narrow for the kernels to help")
    for module in model.modules():
        plain = type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros"
        if plain and not isinstance(module.padding, str):
            module.__class__ = KernelConv2d
    return model
