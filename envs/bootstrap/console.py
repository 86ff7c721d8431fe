"""Runs long commands: says what is being done and for how long, keeps the full output in a log file."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

HEARTBEAT_SECONDS = 20
PERCENTAGE = re.compile(r"\[ *\d+%\]")
FULL_DISK = "No space left on device"
_print_lock = threading.Lock()
_start = time.monotonic()
_running: list[subprocess.Popen[bytes]] = []
_ended = threading.Event()


class SetupError(Exception):
    """What stops the set-up, in one line that says what to do about it."""


def say(text: str) -> None:
    """Print one line of progress, with the seconds since the set-up began."""
    with _print_lock:
        print(f"[setup {time.monotonic() - _start:4.0f} s] {text}", flush=True)


def last_line(log: Path, room: int = 90) -> str:
    """A log's last percentage of a compilation, else its last non-empty line; at most `room` characters."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65536))
            lines = [line.strip() for line in file.read().decode(errors="replace").split("\n") if line.strip()]
    except OSError:
        return ""
    recent = [line for line in lines if PERCENTAGE.match(line)] or lines or [""]
    text = "".join(character for character in recent[-1] if character.isprintable())
    return text if len(text) <= room else text[: room - 3] + "..."


def _explain(title: str, log: Path, status: int) -> str:
    if FULL_DISK in log.read_text(errors="replace"):
        return f"{title}: the disk is full; free some space (or set TMPDIR to another disk) and run it again; see {log}"
    return f"{title} failed (exit code {status}): {last_line(log)!r}; the full log is {log}"


def run(
    title: str,
    command: Sequence[str | os.PathLike[str]],
    log: Path,
    env: Mapping[str, str] | None = None,
    holds: Sequence[int] = (),
) -> None:
    """Run a command with its output in `log`; a line at the start, every 20 seconds and at the end.

    `holds` are descriptors of locks that last as long as the command, even if we are killed before it ends.
    Raises SetupError naming the log when the command fails.
    """
    if _ended.is_set():
        raise SetupError("interrupted")
    began = time.monotonic()
    words = [os.fspath(word) for word in command]
    say(f"{title} ...")
    with log.open("a") as out:
        out.write(f"$ {shlex.join(words)}\n")
        out.flush()
        # Its own group: an interrupt from the keyboard reaches us alone, and we end the whole group.
        process = subprocess.Popen(
            words,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(holds),
        )
        _running.append(process)
        try:
            while True:
                try:
                    status = process.wait(timeout=HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"{title}: {time.monotonic() - began:.0f} s ({last_line(log)})")
        finally:
            _end(process)
            _running.remove(process)
    if status != 0:
        raise SetupError(_explain(title, log, status))
    say(f"{title}: done in {time.monotonic() - began:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, 15)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def end_all() -> None:
    """End every command that still runs in other threads and start no more: nothing outlives an interrupted set-up."""
    _ended.set()
    for process in list(_running):
        _end(process)
