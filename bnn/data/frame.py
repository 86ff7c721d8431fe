"""Digits in a frame of zeros and in several channels, as networks for photographs, and LeNet of old, take them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field

from bnn.data.base import Options, Split, listed

SIDE = 28  # pixels, of a digit of MNIST and of those made from it
# 70,000 digits in the largest frame take 4.6 GB; channels take nothing
Channels = Annotated[int, Field(ge=1, le=1024)]
Length = Annotated[int, Field(ge=SIDE, le=256)]


class FrameOptions(Options):
    """`shape` (C, H, W) of an image: the digit stands in the middle of zeros, the same in every channel."""

    shape: Annotated[tuple[Channels, Length, Length], BeforeValidator(listed)] = (1, SIDE, SIDE)


def framed(split: Split, shape: tuple[int, int, int]) -> Split:
    """The split with its images (N, 1, 28, 28) in a frame of zeros; channels are a read-only view of the first.

    Where there is an odd number of rows or columns to add, the last side has one more.
    """
    if shape == split.images.shape[1:]:
        return split
    channels, *sides = shape
    margins = [((side - SIDE) // 2, side - SIDE - (side - SIDE) // 2) for side in sides]
    images = np.pad(split.images, [(0, 0), (0, 0), *margins])
    return Split(np.broadcast_to(images, (len(images), channels, *sides)), split.labels)
