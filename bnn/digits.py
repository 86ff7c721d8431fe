"""Numbers as people and other programs write them: Python's own reading takes more for one than any of these means."""

from __future__ import annotations

import re

_DECIMAL = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def decimal(text: str) -> float:
    """The number that decimal digits say, with a point and an exponent or not; inf where it is beyond all floats.

    Raises ValueError for anything else that Python's float takes: 1_000, digits of other scripts, nan, infinity.
    """
    if not _DECIMAL.fullmatch(text.strip()):
        raise ValueError(text)
    return float(text)
