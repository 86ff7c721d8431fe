"""Ends a job whose ranks stand still, and says which rank is late: `python -m bnn.watchdog FOLDER --ranks N --pid PID`.

It runs beside the launcher PID on the first node and reads the ranks' heartbeats in the run's FOLDER. It ends the job

- when not all N ranks have shown a sign of life within the start limit (their libraries are loaded in that time),
- when no rank has moved for the limit: neither its step nor its part of a step changed. Reading the data, compiling in
  the first forward pass, an evaluation's chunk of images and a checkpoint are parts too, under this one limit: choose
  it longer than the longest of them,
- when a rank's file has not been written for the limit while others' were and no step was completed any more (its
  process has stopped). A rank whose file alone falls silent while steps go on is well: its exchange needs every rank.

Only what changes while the watchdog looks counts, by its own clock: files of earlier attempts do not, and nodes whose
clocks differ do no harm. Time in which the watchdog itself was stopped (a suspended job) does not count either, and
where nothing can be written (a full disk), silence says nothing: the watchdog then says so and counts from there again.

What it prints when it ends a job it also leaves in the folder (bnn.records.watchdog), until the next attempt starts.

Exit codes: 0 the process has ended by itself, 2 a mistake on the command line, 3 the watchdog has ended the job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

from bnn.records.files import HEARTBEAT, heartbeat_name, write_text
from bnn.records.heartbeat import HeartbeatRecord, read_heartbeat
from bnn.records.watchdog import WatchdogRecord, watchdog_path

NAMED = 8  # late ranks that are named; of more only the number is


@dataclass
class Seen:
    """What has been seen of one rank, and when it changed, in seconds of the watchdog's clock."""

    record: HeartbeatRecord
    written: float
    moved: float
    stepped: float


class Watch:
    """The ranks of one attempt as seen so far, and the verdict on them. Times are seconds of the caller's clock."""

    def __init__(self, folder: Path, ranks: int, limit: float, start_limit: float, now: float) -> None:
        self.limit, self.start_limit, self.start = limit, start_limit, now
        self.seen: dict[int, Seen] = {}
        self._paths = [folder / HEARTBEAT / heartbeat_name(rank) for rank in range(ranks)]
        self._old = [read_heartbeat(path) for path in self._paths]  # until they change: an earlier attempt's

    def look(self, now: float) -> None:
        """Read every rank's file."""
        for rank, path in enumerate(self._paths):
            record = read_heartbeat(path)
            if record is None or record == self._old[rank]:
                continue
            seen = self.seen.get(rank)
            if seen is None or seen.record.pid != record.pid:
                self.seen[rank] = Seen(record, now, now, now)
                continue
            if record.beat != seen.record.beat:
                seen.written = now
            if (record.moved, record.part, record.step) != (seen.record.moved, seen.record.part, seen.record.step):
                seen.moved = now
            if record.step != seen.record.step:
                seen.stepped = now
            seen.record = record

    def verdict(self, now: float) -> str | None:
        """Why the job must end, naming the late ranks; None while it may go on."""
        missing = [rank for rank in range(len(self._paths)) if rank not in self.seen]
        if missing:
            if now - self.start <= self.start_limit:
                return None
            names = listed([f"rank {rank}" for rank in missing])
            return f"no sign of life within {self.start_limit:g} s of {names} ({len(self._paths)} ranks)"
        still = now - max(seen.moved for seen in self.seen.values())
        if still > self.limit:
            return f"no rank has moved for {still:.0f} s; late: {self._late(self._latest(now), now)}"
        stopped = self._silent(now, self.limit)
        if stopped and now - max(seen.stepped for seen in self.seen.values()) > self.limit / 2:
            return f"no sign of life for {self.limit:g} s; late: {self._late(stopped, now)}"
        return None

    def restart(self, now: float) -> None:
        """Count all limits from now again."""
        self.start = now
        for seen in self.seen.values():
            seen.written = seen.moved = seen.stepped = now

    def _silent(self, now: float, seconds: float) -> list[Seen]:
        """Ranks that have not written for so long, unless they are done, where another one has written since."""
        live = [seen for seen in self.seen.values() if not seen.record.done]
        silent = [seen for seen in live if now - seen.written > seconds]
        return silent if any(now - seen.written < self.limit / 2 for seen in live) else []

    def _latest(self, now: float) -> list[Seen]:
        """The late ranks: stopped ones; else, of those that do not wait for others, those of the lowest step."""
        if silent := self._silent(now, self.limit / 2):
            return silent
        live = [seen for seen in self.seen.values() if not seen.record.done] or list(self.seen.values())
        busy = [seen for seen in live if seen.record.part != "exchange"] or live
        lowest = min(seen.record.step for seen in busy)
        return [seen for seen in busy if seen.record.step == lowest]

    def _late(self, late: Sequence[Seen], now: float) -> str:
        return listed([describe(seen, now, self.limit) for seen in sorted(late, key=lambda seen: seen.record.rank)])


def describe(seen: Seen, now: float, limit: float) -> str:
    """One rank: where it is, and that its process gives no sign of life if so."""
    record, silent = seen.record, now - seen.written
    of = f" of {record.steps}" if record.steps is not None else ""
    where = f"rank {record.rank} on {record.host} (process {record.pid}): step {record.step}{of}, {record.part}"
    return f"{where}, silent for {silent:.0f} s" if silent > limit / 2 else where


def listed(items: Sequence[str]) -> str:
    """Some of many items in one line."""
    more = f"; and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return "; ".join(items[:NAMED]) + more


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written beside the heartbeats, so that their silence says nothing; None if something can."""
    heartbeats = folder / HEARTBEAT
    try:
        with tempfile.TemporaryFile(dir=heartbeats if heartbeats.is_dir() else folder) as file:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
    return None


def alive(process: psutil.Process) -> bool:
    """Whether the process still runs; one that has ended and only waits for its parent does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def family(process: psutil.Process) -> set[psutil.Process]:
    """The process and all that it has started and that is still found below it."""
    try:
        return {process, *process.children(recursive=True)}
    except psutil.NoSuchProcess:
        return {process}


def end_job(launcher: psutil.Process, grace: float) -> None:
    """SIGTERM to the launcher; what is left of it and of its descendants after `grace` seconds gets SIGKILL.

    So does its process group where it leads one of its own (in a script it shares the script's). Ranks on other nodes
    are ended by the launcher's helpers there.
    """
    members = family(launcher)
    leads = _group(launcher.pid) == launcher.pid != os.getpgrp()
    _send(launcher, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while any(map(alive, members)) and time.monotonic() < deadline:
        time.sleep(0.1)
        members |= family(launcher)
    left = [member for member in members if alive(member)]
    if not left:
        return
    if leads:
        _ignore_gone(lambda: os.killpg(launcher.pid, signal.SIGKILL))
    for member in left:
        _send(member, signal.SIGKILL)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    _ignore_gone(lambda: process.send_signal(number))


def _ignore_gone(action: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        action()


def watch(folder: Path, ranks: int, pid: int, limit: float, start_limit: float, grace: float) -> int:
    """Look at the ranks until the process `pid` is gone (returns 0) or had to be ended (3). All times in seconds."""
    with contextlib.suppress(OSError):
        watchdog_path(folder).unlink(missing_ok=True)  # of an earlier attempt
    try:
        launcher = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return 0
    interval = min(5.0, limit / 20)
    now, last = 0.0, time.monotonic()
    state = Watch(folder, ranks, limit, start_limit, now)
    while alive(launcher):
        state.look(now)
        reason = state.verdict(now)
        if reason and (why := unwritable(folder)):
            print(f"watchdog: cannot judge: {folder / HEARTBEAT} cannot be written: {why}", flush=True)
            state.restart(now)
        elif reason and alive(launcher):
            print(f"watchdog: {reason}; ending process {pid}", flush=True)
            leave_word(folder, reason)
            end_job(launcher, grace)
            return 3
        _wait(launcher, interval)
        # time in which this process did not run (a suspended job) was none for the ranks either
        now += min(time.monotonic() - last, limit / 4)
        last = time.monotonic()
    return 0


def leave_word(folder: Path, reason: str) -> None:
    """Keep the reason for whoever asks after the run. If that fails nothing is lost: it has been printed."""
    path = watchdog_path(folder)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, WatchdogRecord(reason=reason, ended_at=time.time()).model_dump_json())


def _wait(launcher: psutil.Process, seconds: float) -> None:
    """Sleep, but not longer than the process lives."""
    deadline = time.monotonic() + seconds
    while alive(launcher) and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))


SECONDS = click.FloatRange(min=0, min_open=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--ranks", type=click.IntRange(min=1), required=True, help="number of ranks that the job has")
@click.option("--pid", type=click.IntRange(min=2), required=True, help="process of the launcher")
@click.option("--limit", type=SECONDS, default=600, show_default=True, help="s without any rank's movement")
@click.option("--start-limit", type=SECONDS, default=1800, show_default=True, help="s until all ranks must be seen")
@click.option("--grace", type=SECONDS, default=20, show_default=True, help="s between SIGTERM and SIGKILL")
def cli(folder: Path, ranks: int, pid: int, limit: float, start_limit: float, grace: float) -> None:
    """End the job PID whose ranks write heartbeats in FOLDER when they stand still, and name the late rank."""
    sys.exit(watch(folder, ranks, pid, limit, start_limit, grace))


def main() -> None:
    """Entry point: a mistake on the command line is one line and exit code 2."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        print(f"watchdog: {error.format_message()}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
