"""What a job's own files say of its end, where the scheduler does not tell: the last lines that were written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Words, in lower case, by which the system says why it ended a program.
MEMORY_WORDS = ("oom killer terminated", "oom-kill", "oom_kill")
NODE_WORDS = ("received node event", "ec_node_failed", "node failed")
TAIL = 65_536  # bytes at the end of a file that are looked at


@dataclass(frozen=True)
class Mark:
    """A file as it was before a job was submitted: its length in bytes and its time in ns; zeros without a file."""

    length: int = 0
    time: int = 0


NOTHING = Mark()


def mark(path: Path | None) -> Mark:
    """The file's mark."""
    try:
        stat = path.stat() if path else None
    except OSError:
        stat = None
    return Mark(stat.st_size, stat.st_mtime_ns) if stat else NOTHING


def tail(path: Path | None, since: Mark = NOTHING, appended: bool = True) -> str:
    """The end of a file, without what it already held at `since`; empty if it cannot be read.

    Where a job's output is not `appended`, the file is replaced and counts as a whole, and so does one that is shorter
    by now. (The new text may begin as the old one: it cannot be told from its words.)
    """
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            same = (stat.st_size, stat.st_mtime_ns) == (since.length, since.time)
            begin = since.length if same or (appended and since.length <= stat.st_size) else 0
            file.seek(max(begin, stat.st_size - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def says(text: str, words: Iterable[str]) -> bool:
    """Whether a text has one of the words (given in lower case)."""
    lower = text.lower()
    return any(word in lower for word in words)
