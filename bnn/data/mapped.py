"""Arrays in .npy files: written piece by piece, then mapped into memory, so that all ranks of a host share one copy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from bnn.errors import UserError
from bnn.regular import require_regular

HASHED_BYTES = 1 << 24  # of an array, taken into memory at once


class ArrayFile:
    """An .npy file of a known shape and type, whose rows are written in any order; none of them stays in memory.

    Rows that are never written are zero. A mapped file would do, but ends the process by a signal where the disk is
    full; this raises OSError.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._dtype, self._row = np.dtype(dtype), math.prod(shape[1:]) * np.dtype(dtype).itemsize
        self._stream = path.open("xb")
        descr = npy.dtype_to_descr(self._dtype)
        npy.write_array_header_1_0(self._stream, {"descr": descr, "fortran_order": False, "shape": shape})
        self._first = self._stream.tell()
        self._stream.truncate(self._first + shape[0] * self._row)

    def put(self, first: int, rows: NDArray[Any]) -> None:
        """Write consecutive rows, the first of them at this index."""
        self._stream.seek(self._first + first * self._row)
        self._stream.write(np.ascontiguousarray(rows, dtype=self._dtype).data)

    def close(self) -> None:
        """All rows have been written."""
        self._stream.close()


@contextmanager
def array_file(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[ArrayFile]:
    """An `ArrayFile` that is closed when the block ends."""
    file = ArrayFile(path, shape, dtype)
    try:
        yield file
    finally:
        file.close()


def open_mapped(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Map an .npy file of this shape and type. Raises UserError naming a missing, truncated or other file."""
    try:
        require_regular(path)
        array = open_memmap(path, mode="r")
    except UserError:
        raise
    except Exception as error:  # numpy parses Python's literals: tokenize.TokenError, SyntaxError, RecursionError, ...
        raise UserError(f"{path}: missing, truncated or damaged ({' '.join(str(error).split())})") from None
    if array.shape != shape or array.dtype != dtype:
        raise UserError(f"{path}: {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    if array.offset + array.nbytes != path.stat().st_size:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes, expected {array.offset + array.nbytes:,}")
    return array


def content_checksum(*arrays: NDArray[Any]) -> str:
    """`sha256:...` of the arrays' bytes, one array after the other."""
    digest = hashlib.sha256()
    for array in arrays:
        rows = max(1, HASHED_BYTES * len(array) // max(1, array.nbytes))
        for start in range(0, len(array), rows):
            digest.update(array[start : start + rows].tobytes())
    return f"sha256:{digest.hexdigest()}"
