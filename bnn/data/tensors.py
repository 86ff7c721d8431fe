"""Arrays of .npz and .safetensors files, read in pieces: what a header says is checked before anything is allocated."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bnn.data.members import LARGEST_FILE, MOST_BYTES, UNREADABLE
from bnn.errors import UserError
from bnn.regular import open_regular, require_regular

PIECE = 1 << 24  # bytes that are read at once, at least one row
# Types of safetensors that numpy has.
TENSOR_TYPES = {
    "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "I8": np.int8, "I16": np.int16,
    "I32": np.int32, "I64": np.int64, "F16": np.float16, "F32": np.float32, "F64": np.float64,
}  # fmt: skip


@dataclass(frozen=True)
class Array:
    """One array of a file: its name, shape and type, as the header has them."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def what(self) -> str:
        """For messages."""
        return f"{self.path}: array {self.name}"

    def pieces(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """All rows in their order, in pieces: the first one's index, and the rows. Raises UserError where damaged."""
        rows = max(1, PIECE // max(1, math.prod(self.shape[1:]) * self.dtype.itemsize))
        read = _read_tensors if self.path.suffix.lower() == ".safetensors" else _read_npz
        with _damage_named(self.path, self.name):
            first = 0
            for piece in read(self, rows):
                yield first, piece
                first += len(piece)


def arrays_of(path: Path, wanted: Collection[str]) -> dict[str, Array]:
    """The arrays of a file by name, of those that are wanted; no other is looked at. Reads headers alone.

    Raises UserError naming a file that is no .npz or .safetensors, that is damaged, and an array that is no numbers,
    is in Fortran's order, is as large as no data set is, or has another size than its header says.
    """
    ending = path.suffix.lower()
    if ending not in (".npz", ".safetensors"):
        with open_regular(path):
            raise UserError(f"{path}: neither a .npz nor a .safetensors file")
    with _damage_named(path):
        found = list((_list_npz if ending == ".npz" else _list_tensors)(path, frozenset(wanted)))
    named = {array.name: array for array in found}
    if len(named) < len(found):
        raise UserError(f"{path}: two arrays have the same name")
    for array in found:
        if not 1 <= len(array.shape) <= 4 or min(array.shape) < 1:
            raise UserError(f"{array.what}: of shape {array.shape}, as no images or labels are")
        row = math.prod(array.shape[1:]) * array.dtype.itemsize
        if row > LARGEST_FILE or row * array.shape[0] > MOST_BYTES:
            raise UserError(f"{array.what}: {row:,} bytes a row, more than {LARGEST_FILE:,}, or too many rows")
    return named


@contextmanager
def _damage_named(path: Path, name: str = "") -> Iterator[None]:
    """What libraries raise of a damaged file is a UserError that names it."""
    from safetensors import SafetensorError

    where = f"{path}: array {name}" if name else f"{path}"
    try:
        yield
    except (*UNREADABLE, KeyError, SafetensorError) as error:
        raise UserError(
            f"{where}: truncated, damaged or another kind of file ({' '.join(str(error).split())})"
        ) from None
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from None


def _list_npz(path: Path, wanted: frozenset[str]) -> Iterator[Array]:
    with open_regular(path) as raw, zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            if member.filename.removesuffix(".npy") not in wanted:
                continue
            with archive.open(member) as stream:
                array = Array(path, member.filename.removesuffix(".npy"), *_header(stream))
                size = stream.tell() + math.prod(array.shape) * array.dtype.itemsize
            if size != member.file_size:
                raise UserError(f"{array.what}: {member.file_size:,} bytes, its header asks for {size:,}")
            yield array


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array. Raises ValueError for objects, which would have to be unpickled, and other values."""
    if npy.read_magic(stream) != (1, 0):  # others have headers of any length, for types that are no numbers
        raise ValueError("no array of numbers")
    try:
        shape, in_fortran_order, dtype = npy.read_array_header_1_0(stream)
    except Exception as error:  # numpy parses Python's literals: tokenize.TokenError, SyntaxError, RecursionError, ...
        raise ValueError(f"no header of an array: {error}") from None
    if dtype.hasobject or dtype.kind not in "uif":
        raise ValueError(f"values of type {dtype}, not numbers")
    if in_fortran_order and len(shape) > 1:
        raise ValueError("it is in Fortran's order: save numpy.ascontiguousarray of it")
    return tuple(shape), dtype


def _read_npz(array: Array, rows: int) -> Iterator[NDArray[Any]]:
    shape = array.shape[1:]
    row = math.prod(shape) * array.dtype.itemsize
    with open_regular(array.path) as raw, zipfile.ZipFile(raw) as archive, archive.open(f"{array.name}.npy") as stream:
        if _header(stream) != (array.shape, array.dtype):
            raise UserError(f"{array.what}: has changed since it was listed")
        for first in range(0, array.shape[0], rows):
            count = min(rows, array.shape[0] - first)
            content = stream.read(count * row)
            if len(content) < count * row:
                raise EOFError("it ends early")
            yield np.frombuffer(content, array.dtype).reshape(count, *shape)
        stream.read(1)  # past the end: the archive's checksum is looked at there


def _list_tensors(path: Path, wanted: frozenset[str]) -> Iterator[Array]:
    from safetensors import safe_open

    require_regular(path)
    with safe_open(path, framework="np") as file:
        for name in set(file.keys()) & wanted:
            part = file.get_slice(name)
            dtype = TENSOR_TYPES.get(part.get_dtype())
            if dtype is None:
                raise UserError(f"{path}: array {name}: values of type {part.get_dtype()}")
            yield Array(path, name, tuple(part.get_shape()), np.dtype(dtype))


def _read_tensors(array: Array, rows: int) -> Iterator[NDArray[Any]]:
    from safetensors import safe_open

    with safe_open(array.path, framework="np") as file:
        part = file.get_slice(array.name)
        for first in range(0, array.shape[0], rows):
            yield np.asarray(part[first : min(first + rows, array.shape[0])])
