"""The idx format of MNIST's files (http://yann.lecun.com/exdb/mnist), read strictly."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnn.errors import UserError
from bnn.regular import open_regular

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], bytes]:
    """Read an idx file of unsigned bytes (gzip-compressed when its name ends in .gz) that must have this shape.

    Returns the array and the file's uncompressed bytes. Raises UserError naming a file that is truncated, damaged,
    of another kind or of another shape.
    """
    expected = 4 + 4 * len(shape) + math.prod(shape)
    try:
        with open_regular(path) as raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as stream:
            data = stream.read(expected + 1)  # never more than one byte too many, whatever the file expands to
    except EOFError:
        raise UserError(f"{path}: truncated gzip file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    return parse_idx(data, path, shape), data


def parse_idx(data: bytes, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Parse idx content that must have this shape: two zero bytes, type, number of dimensions, sizes, values."""
    header = 4 + 4 * len(shape)
    magic = bytes((0, 0, UNSIGNED_BYTE, len(shape)))
    if data[:4] != magic:
        raise UserError(f"{path}: not an idx file of bytes in {len(shape)} dimensions (starts {data[:4].hex(' ')!r})")
    if len(data) < header:
        raise UserError(f"{path}: truncated: {len(data)} bytes, its header alone takes {header}")
    found = struct.unpack(f">{len(shape)}I", data[4:header])
    if found != shape:
        raise UserError(f"{path}: holds an array of shape {found}, expected {shape}")
    expected = header + math.prod(shape)
    if len(data) < expected:
        raise UserError(f"{path}: truncated: {len(data):,} bytes, expected {expected:,}")
    if len(data) > expected:
        raise UserError(f"{path}: more than the expected {expected:,} bytes")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)
