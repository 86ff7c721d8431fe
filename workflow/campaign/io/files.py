"""Writing and reading small text files: whole or not at all, and only when their content changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnn.errors import UserError


@contextmanager
def os_errors_named(place: Path) -> Iterator[None]:
    """An OSError within becomes a UserError that names its file, or `place` where the error names none."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or place}: {error.strerror or error}") from None


def write_if_changed(path: Path, text: str, mode: int = 0o644) -> bool:
    """Write `text` atomically unless the file holds it already (its time stamp then stays). Says whether it wrote.

    Raises UserError naming the file when it cannot be written.
    """
    try:
        if path.exists() and path.read_bytes() == text.encode():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text(text, encoding="utf-8")
        aside.chmod(mode)
        aside.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return True
