"""The usual augmentation of small photographs: a pure function of the images, seed, step and which examples they are.

What becomes of an example does not depend on the rank that sees it nor on the rest of its batch, so that a resumed run,
and one on another number of ranks, see the same images.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnn.data.base import Images

Augmentation = Literal["none", "flip", "crop", "flip-crop"]
PADDING = 4  # pixels of zeros around an image, from which a window of its size is cut


def augmented(images: Images, examples: NDArray[np.int64], augmentation: Augmentation, seed: int, step: int) -> Images:
    """Copies of images (N, C, H, W), examples (N,) of the training set, mirrored with probability 1/2 (flip) and then
    shifted by -4 to 4 pixels each way, zeros moving in (crop); all 162 outcomes are equally likely.
    """
    bits = key_bits(seed, step, examples)
    result = np.ascontiguousarray(images)
    if "flip" in augmentation:
        mirror = (bits & np.uint64(1)).astype(bool)
        result = np.where(mirror[:, None, None, None], result[..., ::-1], result)
    if "crop" in augmentation:
        shifts = (bits >> np.uint64(1)) % np.uint64((2 * PADDING + 1) ** 2)
        result = _windows(result, *np.divmod(shifts.astype(np.int64), 2 * PADDING + 1))
    return result


def _windows(images: Images, top: NDArray[np.int64], left: NDArray[np.int64]) -> Images:
    """Windows of the images' size in the padded images, their corners at (top, left) there."""
    count, channels, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    rows = (top[:, None] + np.arange(height))[:, None, :, None]
    columns = (left[:, None] + np.arange(width))[:, None, None, :]
    windows: Images = padded[np.arange(count)[:, None, None, None], np.arange(channels)[:, None, None], rows, columns]
    return windows


def key_bits(seed: int, step: int, examples: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random bits for each example (N,): SplitMix64 (Steele, Lea, Flood 2014) over the key's parts."""
    mixed = _mix(np.array([seed % 2**64], dtype=np.uint64))
    mixed = _mix(mixed ^ np.uint64(step))
    return _mix(mixed ^ examples.astype(np.uint64))


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's next output from a state; arrays wrap around without a warning."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
