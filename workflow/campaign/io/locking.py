"""Locks that the kernel releases when their holder dies, however it dies (flock(2))."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnn.errors import UserError

# A look at a lock (`holder`) takes it for microseconds: an acquirer tries again before it gives up.
ATTEMPTS, PAUSE = 5, 0.1
# What flock(2) answers where a file system has no such locks: Lustre mounted without them, some NFS and FUSE.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def unlockable(path: Path, error: OSError) -> UserError:
    """What to say of a file that flock(2) refuses to lock."""
    if error.errno not in NO_LOCKS:
        return UserError(f"{path}: {error.strerror}")
    return UserError(
        f"{path}: cannot be locked ({error.strerror}): its file system has no flock, as Lustre mounted "
        "without it: give site.locks a folder on one that has"
    )


def open_lock(path: Path) -> int:
    """Descriptor of the lock file `path`, which is made if need be. Raises UserError naming what cannot be opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def sign(fd: int, path: Path, who: str) -> None:
    """Say in the lock file who holds the lock, for those who wait. Raises UserError, as on a full disk."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        os.ftruncate(fd, 0)
        os.write(fd, f"{who}process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


class Lock:
    """An exclusive lock on a file, held by this process alone until `release` or its death.

    Its descriptor is not inherited: programs that this process starts do not keep the lock.
    """

    def __init__(self, path: Path, what: str) -> None:
        """Take the lock; `what` is what it guards.

        Raises UserError naming the holder when another process has it, and the file where it cannot be locked.
        """
        self.path = path
        self._fd = open_lock(path)
        for attempt in range(ATTEMPTS):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt + 1 < ATTEMPTS:
                    time.sleep(PAUSE)
                    continue
                os.close(self._fd)
                raise UserError(f"{what} is already being run by {_words(path)}") from None
            except OSError as error:
                os.close(self._fd)
                raise unlockable(path, error) from None
        sign(self._fd, path, "")

    def release(self) -> None:
        os.close(self._fd)


@contextmanager
def shared(path: Path, who: str) -> Iterator[int]:
    """Hold the lock on `path` together with all others who share it, while nobody holds it alone.

    Waits asleep for one who does, and says so once on stderr, in the name of `who`. Yields the lock's descriptor,
    which programs that this process starts do not inherit. Raises UserError naming a file that cannot be locked.
    """
    fd = open_lock(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{who}: waits for a measurement: {_words(path)}", file=sys.stderr, flush=True)
            fcntl.flock(fd, fcntl.LOCK_SH)
        sign(fd, path, f"{who}, ")
    except OSError as error:
        raise unlockable(path, error) from None
    else:
        yield fd
    finally:
        os.close(fd)


def holder(path: Path) -> str | None:
    """Who holds the lock on `path`, in words; None when nobody does. Leaves the lock as it is.

    Where the file system has no locks nobody can hold one: taking it says so.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _words(path)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise UserError(f"{path}: {error.strerror}") from None
    finally:
        os.close(fd)
    return None


def _words(path: Path) -> str:
    return " ".join(path.read_text(errors="replace").split()) or "another process"
