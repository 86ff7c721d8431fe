"""Files and folders that appear whole or not at all: they are written beside their place and then renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """The path to write a file to, which becomes `path` when the block ends; an older file there stays until then.

    If the block raises, what it wrote is removed. The name carries the process's number, so that no two processes write
    to the same one. Raises OSError as renaming does.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
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

    If the block raises, what it wrote is removed and the older folder stays. Raises OSError as renaming does.
    """
    aside = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    older = folder.with_name(f".{folder.name}.old-{os.getpid()}")
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
