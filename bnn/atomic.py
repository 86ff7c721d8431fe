"""Files and folders that appear whole or not at all: they are written beside their place and then renamed into it.

That holds whenever the process dies. It is no promise about a power cut: nothing is forced to the disk.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def writer() -> str:
    """Names this process among all that may write to a shared file system."""
    return f"{os.uname().nodename[:64]}-{os.getpid()}"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """The path to write a file to, which becomes `path` when the block ends; an older file there stays until then.

    If the block raises, what it wrote is removed. The name carries the host and the process's number, so that no two
    processes write to the same one. A symbolic link stays one: the file it leads to is replaced. Raises OSError as
    renaming does, and, before anything is written, for what is there and no file, such as a device.
    """
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is there, and no regular file", str(path))
    aside = path.with_name(f".{path.name}.{writer()}")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what counts
            aside.unlink()
        raise


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` when the block ends; an older folder there is then removed.

    Between the two renamings that this takes there is no folder of that name; a process that dies just there leaves the
    older one as `.NAME.old-HOST-PID`. A symbolic link stays one: the folder it leads to is replaced. If the block
    raises, what it wrote is removed and the older folder stays. Raises OSError as renaming does, for a file in its
    place, and for the current folder or one that it lies in.
    """
    folder = replaceable(folder)
    aside = folder.with_name(f".{folder.name}.partial-{writer()}")
    older = folder.with_name(f".{folder.name}.old-{writer()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        if folder.exists():
            folder.rename(older)
        try:
            aside.rename(folder)
        except OSError:
            if older.exists():
                older.rename(folder)
            raise
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(older, ignore_errors=True)


def replaceable(folder: Path) -> Path:
    """Where `folder` really lies. Raises OSError if a new folder cannot take its place."""
    real = Path(os.path.realpath(folder))
    if os.path.lexists(real) and not real.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    here = Path.cwd()
    if real == here or real in here.parents:
        raise OSError(errno.EBUSY, "the current folder cannot be replaced, nor one that it lies in", str(folder))
    return real
