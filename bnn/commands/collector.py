"""Python's collector of cyclic garbage, where it would look again and again at what imports made, and find none."""

from __future__ import annotations

import atexit
import gc

USUAL = gc.get_threshold()
SELDOM = (50_000, 50, 1_000)  # Python's own: 700, 10, 10; torch alone makes 165,000 objects that it looks at


def seldom() -> None:
    """From here on it seldom looks, until `as_usual` is called; while the interpreter ends it does not look.

    Importing torch takes a seventh less CPU time so, and a process that has imported it ends a second sooner.
    """
    gc.set_threshold(*SELDOM)
    atexit.register(gc.freeze)  # what is there is freed by its reference counts alone


def as_usual() -> None:
    """From here on it looks as often as ever, but not at what was there before: no step pauses for what torch is."""
    gc.freeze()
    gc.set_threshold(*USUAL)
