"""Pixels of PNG and JPEG files by Pillow: what a file says of itself is checked before anything is decoded."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bnn.errors import UserError

Convert = Literal["none", "RGB", "L"]
ORIENTATION = 0x0112  # EXIF's tag
MOST_PIXELS = 1 << 24  # of one image
FORMATS = {".png": ("PNG",), ".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO")}
CHANNELS = {"L": 1, "RGB": 3}
# What Pillow converts without cutting values off. Of palettes, alpha and inks something is lost: on request only.
CONVERTED = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
DAMAGED = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, IndexError, KeyError, TypeError)


@dataclass(frozen=True)
class Form:
    """What all images of a data set have in common."""

    mode: str
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        return CHANNELS[self.mode], self.height, self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {'grey' if self.mode == 'L' else 'RGB'}"


@contextmanager
def decoding() -> Iterator[None]:
    """Pillow's warnings of large images and odd tags say nothing that is not checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(where: str, name: str, content: bytes, convert: Convert, like: tuple[str, Form] | None) -> tuple[
    Form, NDArray[np.uint8]
]:  # fmt: skip
    """The form and the pixels (C, H, W) of an image file. `like` is another image's name, and its form, to be equal to.

    Raises UserError, beginning with `where` and the name, for a damaged or truncated file, one of another kind than its
    ending says, an animation, one with too many pixels or 16 bits per channel, one that EXIF says to turn, of another
    mode than grey or RGB where none is asked for by `convert`, and for another form than `like`.
    """
    what = f"{where}: {name!r}"
    ending = name[name.rindex(".") :].lower()
    try:
        with _opened(what, content) as image:
            if image.format not in FORMATS[ending]:
                raise UserError(f"{what}: a {image.format} image, which its ending does not say")
            if ending == ".png" and getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{what}: an animation")
            if not image.mode.startswith("I") and any(
                "16" in str(tile[3]) for tile in getattr(image, "tile", ())
            ):  # Pillow makes bytes of them
                raise UserError(f"{what}: 16 bits per channel, which bytes have no room for: convert it first")
            if image.getexif().get(ORIENTATION, 1) not in (0, 1):
                raise UserError(f"{what}: lies turned, by its EXIF orientation: turn its pixels first, or drop the tag")
            form = _form(what, image, convert)
            if like is not None and form != like[1]:
                raise UserError(f"{what} is {form}, but {like[0]!r} is {like[1]}: all images must be alike")
            if ending == ".png":  # its checksums, which decoding does not look at
                with _opened(what, content) as other:
                    other.verify()
            image.load()
            converted = image if image.mode == form.mode else image.convert(form.mode)
            pixels = np.asarray(converted, dtype=np.uint8)
    except Image.DecompressionBombError:
        raise UserError(f"{what}: more than {MOST_PIXELS:,} pixels") from None
    except DAMAGED as error:
        raise UserError(f"{what}: truncated or damaged ({' '.join(str(error).split())})") from None
    return form, pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _opened(what: str, content: bytes) -> Image.Image:
    """Its header has been read, no more."""
    try:
        return Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except UnidentifiedImageError:
        raise UserError(f"{what}: no PNG or JPEG image, or damaged at its beginning") from None


def _form(what: str, image: Image.Image, convert: Convert) -> Form:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UserError(f"{what}: {width}x{height} pixels, more than {MOST_PIXELS:,}")
    if convert == "none":
        if image.mode not in CHANNELS:
            raise UserError(f"{what}: mode {image.mode}, neither RGB nor L (grey): option convert takes one")
        if "transparency" in image.info:
            raise UserError(f"{what}: has a transparent colour: option convert=RGB or L leaves it out")
        return Form(image.mode, width, height)
    if image.mode not in CONVERTED:
        raise UserError(f"{what}: mode {image.mode}, whose values {convert} has no room for")
    return Form(convert, width, height)
