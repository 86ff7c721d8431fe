"""Processes of this machine by what /proc tells: an id that no other process ever has, and which of them are ours."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
# The process, the moment of its start in clock ticks since the machine started, and which start of the machine
ID = re.compile(r"(\d+)-(\d+)-([0-9a-f]{8})")


class Stat(NamedTuple):
    """Of /proc/PID/stat (proc(5)): a letter for the state, the session, clock ticks from the machine's start."""

    state: str
    session: int
    start: int


@cache
def boot() -> str:
    """Which start of the machine this is: the first 8 hexadecimal digits of its random id. Raises OSError."""
    return (PROC / "sys/kernel/random/boot_id").read_text()[:8]


def stat_of(pid: int) -> Stat | None:
    """None where there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the program's name, before it, may hold anything
    return Stat(fields[0], int(fields[3]), int(fields[19]))


def job_of(pid: int) -> str | None:
    """The id of a process that runs, or has ended and was not waited for; None where there is none."""
    stat = stat_of(pid)
    return f"{pid}-{stat.start}-{boot()}" if stat else None


def pid_of(job: str) -> int | None:
    """The process of an id while it runs; None when it has ended, whoever has its number by now."""
    found = ID.fullmatch(job)
    if not found or found[3] != boot():
        return None
    pid = int(found[1])
    stat = stat_of(pid)
    return pid if stat and stat.start == int(found[2]) and stat.state not in "ZX" else None


def started_at(job: str) -> float | None:
    """When a process of this start of the machine began, in seconds since 1970, to a hundredth; None if not known."""
    found = ID.fullmatch(job)
    if not found or found[3] != boot():
        return None
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - up + int(found[2]) / os.sysconf("SC_CLK_TCK")


def command_of(pid: int) -> list[str]:
    """The words of a process's command line; empty where there is none (or no such process)."""
    try:
        return os.fsdecode((PROC / str(pid) / "cmdline").read_bytes()).split("\0")[:-1]
    except OSError:
        return []


def own_leaders(third_word: str) -> Iterator[tuple[int, list[str]]]:
    """This user's processes that lead a session and whose command's third word begins so, with their commands."""
    for entry in os.scandir(PROC):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        words = command_of(pid)
        if len(words) < 3 or not words[2].startswith(third_word):
            continue
        stat = stat_of(pid)  # what a shell forks has its command line, too, until it runs another program
        with suppress(OSError):
            if stat and stat.session == pid and entry.stat().st_uid == os.geteuid():
                yield pid, words


def watch(job: str) -> int | None:
    """A descriptor that becomes readable when the process ends; None where it has, or the kernel has no such thing."""
    pid = pid_of(job)
    if pid is None:
        return None
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None
    if pid_of(job) is None:  # it ended meanwhile, and the number may be another's
        os.close(descriptor)
        return None
    return descriptor


@cache
def can_watch() -> bool:
    """Whether this kernel (5.3 or later) and this Python can wait for a process that is not a child."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):
        return False
    return True
