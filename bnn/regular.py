"""Opening files that must be files: a pipe would keep its reader waiting for ever, a device may never end."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from bnn.errors import UserError

KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"), (stat.S_ISLNK, "a symbolic link"),
)  # fmt: skip


def require_regular(path: Path) -> None:
    """Raises UserError naming a path that leads to something else than a file; OSError where it leads to nothing."""
    _refuse(path, path.stat().st_mode)


def open_regular(path: Path) -> BufferedReader:
    """A file opened for reading its bytes, links followed, without ever waiting for what is no file.

    Raises UserError naming a path that leads to a folder, pipe, socket or device; OSError where it cannot be opened.
    """
    try:
        # O_NONBLOCK: or opening a pipe waits for its writer. Of files it changes nothing.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device without a driver
            require_regular(path)
        raise
    try:
        _refuse(path, os.fstat(descriptor).st_mode)
    except UserError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_text_regular(path: Path) -> str:
    """The UTF-8 text of a file. Raises UserError as `open_regular`, and naming one that is missing or no such text."""
    try:
        with open_regular(path) as stream:
            return stream.read().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes. Raises as `open_regular`."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: {kind_of(mode)}, where a file is expected")


def kind_of(mode: int) -> str:
    """What something is that is no file, in words, by the mode that `stat` gives it."""
    return next((words for matches, words in KINDS if matches(mode)), "no file")
