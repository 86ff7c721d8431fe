"""Images as they are not in training: rotated, blurred, noisy, of other contrast or brightness, or through JPEG.

An image becomes the same bytes wherever and with whichever others it is made: noise is keyed by its index in the split,
and all else depends on its pixels alone. Sums of pixels are of whole numbers, all else is float64, of the range 0 to
255; the result is clipped to that and rounded to the nearest whole number, where CIFAR-10-C's program cuts the
fraction off. (JPEG's bytes are those of the library, whose version the records name.)
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bnn.data.base import Images
from bnn.errors import UserError
from bnn.inference.heldout import HeldOut
from bnn.inference.severities import KINDS, Shift

Numbers = NDArray[np.float64]
WHITE = 255.0
NOISE_KEY = 2019  # the lower half of Philox's key; the upper one is the image's index
BLOCK = 500  # images at once: some 40 MB in float64 for 32 x 32 pixels in colour


def shifted(images: HeldOut, shift: Shift) -> HeldOut:
    """The images after a shift, their labels and indices as they were; `source` says what was done.

    Raises UserError where JPEG cannot hold such images, or Pillow is not there.
    """
    made = shifted_pixels(images.images, images.indices, shift)
    by = f" ({jpeg_library(shift)})" if shift.kind == "jpeg" else ""
    done = f"shifted by {shift.kind}, severity {shift.severity}: {shift.value:g}, {KINDS[shift.kind].meaning}{by}"
    return replace(images, images=made, source=f"{images.source}; {done}")


def shifted_pixels(images: Images, indices: NDArray[np.int64], shift: Shift) -> Images:
    """uint8 (N, C, H, W) after a shift; `indices` (N,) are those of the images in their split. Errors as `shifted`."""
    if shift.kind == "jpeg":
        return through_jpeg(images, shift)
    made = np.empty(images.shape, np.uint8)
    for low in range(0, len(images), BLOCK):
        block = images[low : low + BLOCK]
        values = CHANGES[shift.kind](block, indices[low : low + BLOCK], shift.value)
        made[low : low + BLOCK] = np.rint(np.clip(values, 0, WHITE))
    return made


def rotated(images: Images, _indices: NDArray[np.int64], degrees: float) -> Numbers:
    """Turned as one sees it, the first row being on top; what comes in from outside is 0."""
    values = images.astype(np.float64)
    turned = ndimage.rotate(values, degrees, axes=(3, 2), reshape=False, order=1, mode="constant", cval=0.0)
    return np.asarray(turned, np.float64)


def blurred(images: Images, _indices: NDArray[np.int64], sigma: float) -> Numbers:
    """Cut off at four standard deviations, as scikit-image's filter, which CIFAR-10-C uses, does."""
    spread = (0, 0, sigma, sigma)
    return np.asarray(ndimage.gaussian_filter(images.astype(np.float64), spread, mode="nearest", truncate=4.0))


def noisy(images: Images, indices: NDArray[np.int64], sigma: float) -> Numbers:
    """Noise of its own for every value; an image's is the same at all severities but for its size."""
    made = images.astype(np.float64)
    for place, index in enumerate(indices.tolist()):
        generator = np.random.Generator(np.random.Philox(key=index << 64 | NOISE_KEY))
        made[place] += generator.standard_normal(made.shape[1:]) * (sigma * WHITE)
    return made


def less_contrast(images: Images, _indices: NDArray[np.int64], factor: float) -> Numbers:
    pixels = images.shape[2] * images.shape[3]
    mean = images.sum(axis=(2, 3), keepdims=True, dtype=np.int64) / pixels
    return np.asarray((images - mean) * factor + mean, np.float64)


def brighter(images: Images, _indices: NDArray[np.int64], added: float) -> Numbers:
    """The value of HSV is the largest channel; hue and saturation stay if all channels grow by its factor.

    Black has neither, and becomes grey.
    """
    value = images.max(axis=1, keepdims=True).astype(np.float64)
    target = np.minimum(value + added * WHITE, WHITE)
    grown = images * (target / np.maximum(value, 1))
    return np.where(value > 0, grown, target)


CHANGES: dict[str, Callable[[Images, NDArray[np.int64], float], Numbers]] = {
    "rotation": rotated,
    "blur": blurred,
    "noise": noisy,
    "contrast": less_contrast,
    "brightness": brighter,
}


def through_jpeg(images: Images, shift: Shift) -> Images:
    """Every image written as a JPEG file of this quality, in memory, and read again."""
    image = pillow(shift, "Image")
    channels = images.shape[1]
    if channels not in (1, 3):
        raise UserError(f"--shift {shift}: JPEG holds images of 1 or 3 channels, these have {channels}")
    made = np.empty(images.shape, np.uint8)
    for place, pixels in enumerate(images):
        with io.BytesIO() as file:
            last = np.ascontiguousarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))
            image.fromarray(last).save(file, "JPEG", quality=int(shift.value))
            decoded = np.asarray(image.open(file))
        made[place] = decoded[None] if channels == 1 else decoded.transpose(2, 0, 1)
    return made


def jpeg_library(shift: Shift) -> str:
    """What encodes and decodes JPEG here."""
    features = pillow(shift, "features")
    turbo = features.version("libjpeg_turbo")
    return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"


def pillow(shift: Shift, module: str) -> ModuleType:
    """A module of Pillow, which no other shift needs. Raises UserError where it is not installed."""
    import importlib

    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError as error:
        raise UserError(f"--shift {shift}: Pillow, which reads and writes JPEG, cannot be loaded ({error})") from None
