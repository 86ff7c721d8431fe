"""Runs the checks one after another, each in a process of its own: a crash or a hang is a row, not the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from bnn.check.outcome import FAULT, Context, Outcome
from bnn.check.plan import TOTAL_SECONDS, Check

LOG_BYTES = 20_000  # of what a fault printed, its end
GRACE_SECONDS = 5.0


def run_checks(
    checks: Sequence[Check],
    context: Context,
    begun: Callable[[Check], None] = lambda check: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
    total: float = TOTAL_SECONDS,
) -> list[Outcome]:
    """Run all checks; after `total` seconds those that are left are faults. `begun` and `ended` are told of each."""
    end = time.monotonic() + total
    outcomes = []
    for number, check in enumerate(checks):
        begun(check)
        left = end - time.monotonic()
        if left > 0:
            outcome = run_check(check, context, number, min(check.seconds, left))
        else:
            outcome = Outcome(check.name, FAULT, 0.0, f"not run: the {total:.0f} s for all checks are over")
        outcomes.append(outcome)
        ended(outcome)
    return outcomes


def run_check(check: Check, context: Context, number: int, limit: float) -> Outcome:
    """Run one check for at most `limit` seconds."""
    answer, log = context.folder / f"{number}.json", context.folder / f"{number}.log"
    command = [sys.executable, "-m", "bnn.check.one", check.function, context.to_json(), str(answer)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    start = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # an interruption, too, leaves nothing behind
            shut(process)
    seconds = time.monotonic() - start
    printed = tail(log)
    if code is None:
        return Outcome(check.name, FAULT, seconds, f"no end within {limit:.0f} s: killed", printed)
    try:
        said = json.loads(answer.read_text())
    except (OSError, ValueError):
        return Outcome(check.name, FAULT, seconds, f"the process {how_it_ended(code)} without an answer", printed)
    if code != 0:
        reason = f"the process {how_it_ended(code)} after its answer: {said['reason']}"
        return Outcome(check.name, FAULT, seconds, reason, printed)
    return Outcome(check.name, said["status"], seconds, said["reason"], printed if said["status"] == FAULT else "")


def shut(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it has started; launchers give ranks sessions of their own."""
    family = []
    with contextlib.suppress(psutil.Error):
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=GRACE_SECONDS)


def how_it_ended(code: int) -> str:
    """In words: 'was ended by SIGSEGV', 'ended with code 3'."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def tail(log: Path) -> str:
    """The end of what was printed."""
    data = log.read_bytes()
    return data[-LOG_BYTES:].decode(errors="replace")
