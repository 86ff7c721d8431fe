"""The options that a job script states itself, in comments like #SBATCH -o FILE."""

from __future__ import annotations

import shlex
from itertools import zip_longest
from pathlib import Path


def options(script: Path, mark: str) -> list[str]:
    """All words of the lines that begin with `mark` ("#PBS"), in order; empty if the script cannot be read."""
    try:
        lines = script.read_text(errors="replace").splitlines()
    except OSError:
        return []
    words: list[str] = []
    for line in lines:
        if line.startswith(mark + " "):
            try:
                words += shlex.split(line.removeprefix(mark), comments=True)
            except ValueError:  # an apostrophe in an option: schedulers take it literally
                words += line.removeprefix(mark).split()
    return words


def value(words: list[str], short: str, long: str = "") -> str | None:
    """The last value given for an option: `-o FILE`, `-oFILE`, `--output FILE` or `--output=FILE`."""
    found = None
    for word, following in zip_longest(words, words[1:]):
        if word == short or (long and word == long):
            found = following
        elif long and word.startswith(long + "="):
            found = word.removeprefix(long + "=")
        elif word.startswith(short) and not word.startswith("--"):
            found = word.removeprefix(short)
    return found or None
