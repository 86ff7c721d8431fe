"""The files of a folder, a tar archive or a zip archive: which there are, and their contents, whatever holds them.

Nothing is unpacked onto the disk. Names are checked all the same, so that what is taken here is taken by every other
program: none is absolute or leads out, and all is files and folders. What is listed has bounds, which are checked
before anything is read or decoded.
"""

from __future__ import annotations

import gzip
import lzma
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from bnn.errors import UserError

MOST_FILES = 2_000_000
LARGEST_FILE = 1 << 26  # bytes
MOST_BYTES = 1 << 40  # of all files together
LONGEST_NAME = 1024  # characters
DEEPEST = 16  # folders

UNREADABLE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError, NotImplementedError,
    RuntimeError, UnicodeDecodeError, ValueError, OverflowError, IndexError,
)  # fmt: skip

Found = TypeVar("Found")


@dataclass(frozen=True)
class Entry:
    """One thing that a container lists: its name, its size in bytes, and in words what it is if neither file nor
    folder."""

    name: str
    size: int
    is_folder: bool
    refused: str = ""


class Container(Protocol):
    """A folder or an archive."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    def entries(self) -> Iterator[Entry]:
        """All that is in it, in any order."""
        ...

    def contents(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """The files with these names (as `clean` has them), each once, in any order."""
        ...


@dataclass(frozen=True)
class Listing:
    """The files of a container by name, with their sizes, and its folders, those that only files' names tell of
    included."""

    files: dict[str, int]
    folders: frozenset[str]


def clean(name: str) -> str:
    """A member's name with single slashes, without `.`, in Unicode's composed form: macOS writes another one.

    Raises ValueError saying what is wrong with a name that leads out of its folder, or that is no text.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("its name is not UTF-8") from None
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(f"its name has characters that cannot be printed, or more than {LONGEST_NAME}")
    if "\\" in name:
        raise ValueError("its name has a backslash; folders are separated by /")
    parts = [part for part in unicodedata.normalize("NFC", name).split("/") if part not in ("", ".")]
    if name.startswith("/") or (parts and parts[0][1:2] == ":" and parts[0][0].isalpha()):
        raise ValueError("its name is absolute")
    if ".." in parts:
        raise ValueError("its name leads out of the folder")
    if len(parts) > DEEPEST:
        raise ValueError(f"it lies more than {DEEPEST} folders deep")
    return "/".join(parts)


def list_members(container: Container) -> Listing:
    """All files and folders, checked. Raises UserError naming the container and the member."""
    files: dict[str, int] = {}
    folders: set[str] = set()
    total = 0
    for entry in readable(container.path, container.entries()):
        try:
            name = clean(entry.name)
            if entry.refused:
                raise ValueError(f"{entry.refused}, where a file or folder is expected")
            if entry.is_folder:
                folders.add(name)
                continue
            if name in files:
                raise ValueError("there are two with this name")
            if entry.size > LARGEST_FILE:
                raise ValueError(f"{entry.size:,} bytes, more than {LARGEST_FILE:,}")
        except ValueError as error:
            raise UserError(f"{container.path}: {entry.name!r}: {error}") from None
        files[name] = entry.size
        total += entry.size
        if len(files) > MOST_FILES or total > MOST_BYTES:
            raise UserError(f"{container.path}: more than {MOST_FILES:,} files, or {MOST_BYTES:,} bytes in them")
    for name in files:
        parts = name.split("/")[:-1]
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    if both := folders & files.keys():
        raise UserError(f"{container.path}: {min(both)!r}: a file and a folder have this name")
    return Listing(files, frozenset(folders - {""}))


def readable(path: Path, found: Iterator[Found]) -> Iterator[Found]:
    """The same, where what the libraries raise of a damaged archive is a UserError that names it."""
    try:
        yield from found
    except UNREADABLE as error:
        text = " ".join(str(error).split())
        raise UserError(f"{path}: truncated, damaged or another kind of file ({text})") from None
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror or error}") from None
