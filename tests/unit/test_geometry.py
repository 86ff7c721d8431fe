"""A convolution's geometry: that of its layer, and the size of output that torch computes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from bnn.layers import FlipoutConv2d
from bnn.layers.affine import ConvGeometry


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), list(itertools.product([(1, 1), (2, 3)], [(0, 0), (1, 2)], [(1, 1), (2, 1)]))
)
def test_the_output_is_as_large_as_torchs(
    stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    geometry = ConvGeometry(stride, padding, dilation, 1)
    x, kernel = torch.zeros(1, 1, 11, 13), torch.zeros(1, 1, 3, 2)
    expected = functional.conv2d(x, kernel, None, *geometry).shape[2:]
    assert geometry.output_size(x.shape[2:], kernel.shape[2:]) == tuple(expected)


def test_it_is_read_from_both_kinds_of_layers() -> None:
    arguments = (4, 6, 3, (2, 1), (1, 0), (1, 2), 2)
    geometry = ConvGeometry((2, 1), (1, 0), (1, 2), 2)
    assert ConvGeometry.of(nn.Conv2d(*arguments)) == geometry
    assert ConvGeometry.of(FlipoutConv2d(*arguments)) == geometry
    assert geometry.ungrouped == ((2, 1), (1, 0), (1, 2))
    with pytest.raises(ValueError, match="padding='same': not in pixels"):
        ConvGeometry.of(nn.Conv2d(1, 1, 3, padding="same"))
