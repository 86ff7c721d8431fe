"""What a process may not do while a posterior is loaded: import, compile or run code, start programs, open other files,
take more memory than its files explain, or more time.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The bound on what loading may take at any time, beyond what the process had: so many times the files' size, plus this.
TIMES, CONSTANT = 50, 64 << 20
SECONDS = 20.0
# Events of sys.addaudithook that loading may not cause (Python's documentation, "Audit events table").
FORBIDDEN = re.compile(
    r"compile|exec|subprocess\..*|os\.(system|exec|posix_spawn|spawn|fork|forkpty|remove|rename|mkdir|rmdir|truncate|chmod)|"
    r"socket\..*|ctypes\..*|pickle\..*|marshal\..*|shutil\..*|tempfile\..*|urllib\..*|code\.__new__|cpython\..*|import"
)
# torch imports parts of itself when an operation first needs them, and compiles them.
OURS = re.compile(r"(torch|sympy|mpmath|numpy|safetensors|pydantic|pydantic_core|encodings|unicodedata)(\.|$)")


class Watch:
    """An audit hook, which cannot be taken away: it looks only while `folder` is set."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []
        self.busy = False  # looking at frames is an event, too
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or self.busy:
            return
        self.busy = True
        try:
            self.look(self.folder, event, arguments)
        finally:
            self.busy = False

    def look(self, folder: Path, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "import") and not FORBIDDEN.fullmatch(event):
            return
        if importing():
            return
        if event == "open":
            number = arguments[0]  # of a file that is open already
            path = str(Path(f"/proc/self/fd/{number}").readlink() if isinstance(number, int) else number)
            if not path.startswith((str(folder), "/proc/self/")):
                self.seen.append(f"open {path}")
        elif event == "import":
            if not OURS.match(str(arguments[0])) and arguments[0] not in sys.modules:
                self.seen.append(f"import {arguments[0]}")
        else:
            self.seen.append(f"{event} {str(arguments)[:100]}")

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        """Whatever happens in the block that should not, as a list."""
        self.seen, self.folder = [], folder
        try:
            yield self.seen
        finally:
            self.folder = None


def importing() -> bool:
    """Whether this is the work of an import that has been let through."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>" and frame.f_code.co_name == "_load_unlocked":
            return True
        frame = frame.f_back
    return False


def forget_peak() -> None:
    """The most memory that the process has had is now what it has (Linux: proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(key: str) -> int:
    """A value of /proc/self/status in bytes: VmHWM, the most that was resident; VmRSS, what is; VmSize, mapped."""
    text = Path("/proc/self/status").read_text()
    match = re.search(rf"{key}:\s+([0-9]+) kB", text)
    assert match is not None
    return int(match[1]) * 1024


def limit_memory(room: int) -> None:
    """No allocation that would take the process beyond what it has mapped, plus `room`, succeeds."""
    limit = memory("VmSize") + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
