"""What a check is told, and how it says that something is wrong or missing. Loads nothing heavy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

OK, FAULT, ABSENT = "OK", "fault", "not there"


class FaultError(Exception):
    """Something was computed wrongly; one line."""


class AbsentError(Exception):
    """What the check needs is not there, which is no fault; one line."""


@dataclass(frozen=True)
class Context:
    """What all checks are told.

    `folder` is theirs to write in; `launcher` are the words before the ranks' program, which it spreads over `nodes`;
    `mib` is the size of what ranks average.
    """

    device: str
    ranks: int
    folder: Path
    launcher: tuple[str, ...]
    mib: int = 64
    nodes: int = 1

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> Context:
        values = json.loads(text)
        return cls(**values | {"folder": Path(values["folder"]), "launcher": tuple(values["launcher"])})


@dataclass(frozen=True)
class Outcome:
    """How a check ended: `status` OK, FAULT or ABSENT, and one line. `log`: what it printed, of a fault."""

    name: str
    status: str
    seconds: float
    reason: str
    log: str = ""


def one_line(text: object, length: int = 300) -> str:
    """Any text as one line that a table bears."""
    words = " ".join(str(text).split())
    return words if len(words) <= length else f"{words[: length - 3]}..."
