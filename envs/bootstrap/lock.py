"""One set-up at a time: a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap.console import SetupError, say


@contextmanager
def locked(path: Path, what: str) -> Iterator[int]:
    """Hold an exclusive lock on `path`, waiting for another holder (and saying so); yields its file descriptor.

    Raises SetupError when the file system has no locks or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise SetupError(f"{path}: cannot be written ({error.strerror})") from None
    with file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process is busy with {what}; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise SetupError(
                f"{path}: cannot be locked ({error.strerror}); is its file system without locks?"
            ) from None
        yield file.fileno()
