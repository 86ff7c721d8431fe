"""Locks that the kernel releases when their holder dies, however it dies (flock(2))."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from bnn.errors import UserError

# A look at a lock (`holder`) takes it for microseconds: an acquirer tries again before it gives up.
ATTEMPTS, PAUSE = 5, 0.1
# What flock(2) answers where a file system has no such locks: Lustre mounted without them, some NFS and FUSE.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class Lock:
    """An exclusive lock on a file, held by this process alone until `release` or its death.

    Its descriptor is not inherited: programs that this process starts do not keep the lock.
    """

    def __init__(self, path: Path, what: str) -> None:
        """Take the lock; `what` is what it guards.

        Raises UserError naming the holder when another process has it, and the file where it cannot be locked.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
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
                if error.errno not in NO_LOCKS:
                    raise UserError(f"{path}: {error.strerror}") from None
                raise UserError(
                    f"{path}: cannot be locked ({error.strerror}): its file system has no flock, as Lustre mounted "
                    "without it: give site.locks a folder on one that has"
                ) from None
        os.ftruncate(self._fd, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.write(self._fd, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())

    def release(self) -> None:
        os.close(self._fd)


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
