"""How a 2-d convolution's kernel goes over its input: stride, padding, dilation and groups under one name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Pair = tuple[int, int]  # along rows and along columns


class ConvGeometry(NamedTuple):
    """In the order of `torch.nn.functional.conv2d`. `padding` counts the zeros on each side, in pixels."""

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
