"""Files on disk: locks, hashes, downloads. Only `prepare` functions write or download."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bnn.atomic import atomic_folder
from bnn.errors import UserError
from bnn.regular import open_regular

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
CONNECT_SECONDS = 30  # a mirror silent for longer is given up


def file_digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file's bytes. Raises UserError naming what is no file (a pipe, a folder, a device)."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def refuse_os_error(dataset: str, folder: Path, error: OSError) -> NoReturn:
    """Turn a full disk, a missing permission and the like into a UserError that names the file."""
    raise UserError(f"{dataset}: {error.filename or folder}: {error.strerror or error}") from None


@contextmanager
def locked(folder: Path, console: Console) -> Iterator[None]:
    """Hold the folder's lock, making the folder first; wait while another process holds it, saying so.

    The kernel releases the lock of a process that dies. Where the file system has no flock, the lock is a file that is
    there or not, and the console says so.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock: FileLock | SoftFileLock = FileLock(folder / ".lock")
    if not _has_flock(folder / ".lock"):
        lock = SoftFileLock(folder / ".preparing")
        console.print(
            f"{folder}: its file system has no flock: {lock.lock_file} is the lock; if no other process prepares this "
            "folder, remove it",
            markup=False,
        )
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"waiting for another process that prepares {folder}", markup=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _has_flock(path: Path) -> bool:
    """Whether a file can be locked there: Lustre mounted without it, and some NFS and FUSE, cannot."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in NO_LOCKS
    finally:
        os.close(descriptor)
    return True


@contextmanager
def progress_bar(
    console: Console, title: str, total: int | None, *, in_bytes: bool
) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar; on a console that is no terminal only its last state is printed."""
    amount = DownloadColumn() if in_bytes else TextColumn("{task.completed:,.0f}/{task.total:,.0f}")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield progress, progress.add_task(title, total=total)


class _DownloadBar:
    """What pooch calls while it downloads: the interface of tqdm, drawn by rich."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    @property
    def total(self) -> int | None:
        return None

    @total.setter
    def total(self, value: int) -> None:
        self._progress.update(self._task, total=value or None)

    def update(self, amount: int) -> None:
        self._progress.advance(self._task, amount)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """The enclosing `progress_bar` ends the drawing."""


def download(dataset: str, urls: Sequence[str], path: Path, md5: str, console: Console) -> None:
    """Download `path` from the first of `urls` that delivers the content with this MD5 (pooch; written atomically).

    Raises UserError naming every address that failed and why.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for url in urls:
        with progress_bar(console, path.name, None, in_bytes=True) as (progress, task):
            bar = _DownloadBar(progress, task)
            downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=CONNECT_SECONDS)
            try:
                pooch.retrieve(url, f"md5:{md5}", fname=path.name, path=path.parent, downloader=downloader)
                return
            except requests.RequestException as error:
                failures.append(f"{url}: {_reason(error)}")
            except ValueError:  # pooch's word for a digest that does not match
                failures.append(f"{url}: damaged or another file (MD5 differs)")
    raise UserError(f"{dataset}: cannot download {path.name} ({'; '.join(failures)}): copy it to {path.parent}")


def _reason(error: Exception) -> str:
    """A few words on why a request failed; the libraries' own texts run over several lines."""
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else type(error).__name__


def check_room(source: Path, folder: Path, needed: int) -> None:
    """Raises UserError where the disk of a folder has no room for so many bytes: better before the work than after."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{source}: prepared it takes {needed:,} bytes, {folder.parent} has {free:,} free")


def write_folder(target: Path, names: Collection[str], fill: Callable[[Path], None]) -> None:
    """Make folder `target` whole or not at all by `fill`, which is given another folder to write files `names` into.

    The caller holds the lock of the parent folder, so that what is left there beside `target` is a killed process's: it
    is removed. Raises UserError where `target` has files of other names: somebody else's, which would be lost.
    """
    if others := sorted({path.name for path in target.iterdir()} - set(names) if target.is_dir() else ()):
        raise UserError(f"{target}: has {others[0]!r}, which no prepared data set has: move it elsewhere")
    for left in target.parent.glob(f".{escape(target.name)}.partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    with atomic_folder(target) as aside:
        fill(aside)
