"""A text file read line by line, whose faults are reported with file and line."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NoReturn

from bnn.errors import UserError

# Numbers as C prints them. Digits are the ten ASCII ones; more than 15 would not come back as they were written.
INTEGER = r"([0-9]{1,15})"
NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?(?:e[+-][0-9]{2})?)"
PACKED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress",
}  # fmt: skip
MEMORY_UNITS = {"KBytes": 2**10, "KB": 2**10, "MBytes": 2**20, "MB": 2**20, "MiB": 2**20}


def pattern(text: str) -> re.Pattern[str]:
    """A whole line: `<i>` and `<x>` are an integer and a number, a blank is any number of blanks (at least one)."""
    return re.compile(text.replace("<i>", INTEGER).replace("<x>", NUMBER).replace(" ", " +"), re.ASCII)


def memory(value: str, unit: str) -> int:
    """Bytes. What mpitrace calls MBytes is its kilobytes divided by 1024, hence MiB."""
    return round(float(value) * MEMORY_UNITS[unit])


def half_unit(printed: str, significant: int = 0) -> float:
    """How far a printed number may be from the value that was printed: half a unit of its last digit.

    `significant`: the number was printed by %.<significant>g, which drops zeros at the end, or by %.3f (mpiP's -e).
    """
    mantissa, _, exponent = printed.partition("e")
    last = int(exponent or 0) - len(mantissa.partition(".")[2])
    value = float(printed)
    if significant and value and not re.fullmatch(r"[0-9]+\.[0-9]{3,}", printed):
        last = min(last, math.floor(math.log10(value)) - significant + 1) if "." in mantissa or exponent else last
        if "." not in mantissa and not exponent:  # 2500 is exact, 10 is 10.0
            last = min(0, math.floor(math.log10(value)) - significant + 1)
    return 0.5 * 10.0**last if value or not significant or "." in mantissa else 0.0  # %g prints a zero as 0


class Lines:
    """The lines of a file and the one being read."""

    def __init__(self, path: Path) -> None:
        """Raises UserError when the file cannot be read, is compressed or is not text."""
        self.path = path
        self._at = -1
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        for magic, name in PACKED.items():
            if data.startswith(magic):
                raise UserError(f"{path}:1: compressed ({name}): unpack it first")
        try:
            text = data.decode("utf-8")
            if "\0" in text:
                raise UnicodeDecodeError("utf-8", data, data.index(b"\0"), len(data), "NUL")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise UserError(f"{path}:{line}: not text") from None
        self._lines = [line.rstrip(" \r") for line in text.split("\n")]
        self.ended = text.endswith("\n")
        if self._lines[-1] == "":
            self._lines.pop()

    def refuse(self, reason: str) -> NoReturn:
        """Raise UserError for the line being read."""
        raise UserError(f"{self.path}:{max(self._at, 0) + 1}: {reason}")

    @property
    def unfinished(self) -> bool:
        """Whether the line being read is the last and has no end: its last number may be cut."""
        return not self.ended and self._at == len(self._lines) - 1

    def next(self) -> str | None:
        """The next line without blanks at its end, or None after the last."""
        if self._at + 1 >= len(self._lines):
            return None
        self._at += 1
        return self._lines[self._at]

    def expect(self, what: re.Pattern[str], name: str) -> re.Match[str]:
        """The next line, which must be `what`; `name` says in the error what was expected."""
        line = self.next()
        if line is None:
            self.refuse(f"the file ends before {name}")
        found = what.fullmatch(line)
        if found is None:
            self.refuse(f"expected {name}, found {line[:80]!r}")
        return found
