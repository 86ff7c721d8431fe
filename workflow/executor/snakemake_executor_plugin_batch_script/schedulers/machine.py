"""No scheduler: scripts run on this machine, each in a session of its own that outlives the driver.

A keeper, a shell that costs nothing while it waits, leads the session. Its command line says which script it runs under
which name, so that any driver finds it; when the script has ended it notes the exit code for the driver of that time.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from snakemake_executor_plugin_batch_script.schedulers import processes
from snakemake_executor_plugin_batch_script.schedulers.base import (
    Ended,
    Live,
    RefusedError,
    State,
    UnreachableError,
    exited,
)

RUNS = ".runs"  # folder beside the scripts: how each has ended last
GRACE = 30.0  # seconds between SIGTERM and SIGKILL
PASSING = {errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EINTR}
LOOK = 0.05  # seconds between two looks at whether what was cancelled has ended
KEEPER_WORDS = 6  # bash, -c, KEEPER, and what it is told: the job's name, the script, the file for its note
MARK = "# batch-script keeper"
KEEPER = (
    MARK
    + """: runs the script $1 and notes in $2 how it ended
trap : HUP INT TERM # what ends the script does not end its keeper, which is to tell of it
stat=$(</proc/$$/stat) boot=$(</proc/sys/kernel/random/boot_id)
fields=(${stat##*) })
bash "$1"
code=$?
echo "$$-${fields[19]}-${boot:0:8} $code" >"$2.$$" && mv -f "$2.$$" "$2"
exit "$code"
"""
)


class Machine:
    """Starts scripts at once. `_children` are keepers that this driver started, `_names` the names that it gave them;
    `_descriptors` tell of ends."""

    programs: tuple[str, ...] = ("bash",)

    def __init__(self) -> None:
        self._logs: dict[Path, Path] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._names: dict[str, str] = {}
        self._descriptors: dict[str, int] = {}

    def know(self, script: Path, log: Path | None) -> None:
        """Where the script's output goes; else beside it."""
        self._logs[script] = log or script.with_suffix(".log")

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        found = {job: live for job in jobs if (live := self._live(job))}
        if names:
            found |= {live.job: live for live, _ in _keepers()}
        self.watch_no_more([descriptor for job, descriptor in self._descriptors.items() if not processes.pid_of(job)])
        for job in found:
            self._watch(job)
        return list(found.values())

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        return {job: self._live(job) or self._judge(job, script) for job, script in jobs.items()}

    def submit(self, script: Path, name: str) -> str:
        if not os.access(script, os.R_OK):
            raise RefusedError(f"{script}: no such file, or it cannot be read")
        log, record = self._log(script), _record(script)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            record.parent.mkdir(exist_ok=True)
            with log.open("wb") as output:
                # a session of its own: neither Ctrl-C nor the end of the driver's terminal ends it
                process = subprocess.Popen(
                    ["bash", "-c", KEEPER, name, str(script), str(record)], stdin=subprocess.DEVNULL, stdout=output,
                    stderr=output, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            words = f"{error.filename or script}: {error.strerror or error}"
            raise (UnreachableError if error.errno in PASSING else RefusedError)(words) from None
        job = processes.job_of(process.pid)
        assert job is not None, "a child that was not waited for is in /proc"
        self._children[job], self._names[job] = process, name
        self._watch(job)
        return job

    def cancel(self, jobs: Collection[str]) -> None:
        """SIGTERM to all that the scripts started and is in their process groups; SIGKILL after GRACE."""
        for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            for job in jobs:
                if pid := processes.pid_of(job):
                    with suppress(ProcessLookupError):
                        os.killpg(pid, number)
            deadline = time.monotonic() + seconds
            while (left := [job for job in jobs if processes.pid_of(job)]) and time.monotonic() < deadline:
                time.sleep(LOOK)
            if not left:
                break
        for job in jobs:
            self._reap(job)
        if left:
            raise UnreachableError(f"still there after SIGKILL: {', '.join(left)}")

    def log(self, script: Path, job: str | None) -> Path | None:
        return self._log(script)

    def busy(self) -> str:
        """What runs beside the known scripts though nobody here follows it; empty: nothing."""
        places = {script.parent for script in self._logs}
        return next((f"{script} (process {live.job})" for live, script in _keepers() if script.parent in places), "")

    def watched(self) -> list[int]:
        """Descriptors, each of which is readable when a job has ended."""
        return list(self._descriptors.values())

    def watch_no_more(self, descriptors: Collection[int]) -> None:
        """What has told of its end stays readable: it would wake who waits for it again and again."""
        for job in [job for job, descriptor in self._descriptors.items() if descriptor in descriptors]:
            os.close(self._descriptors.pop(job))

    def _live(self, job: str) -> Live | None:
        """A job that runs. (The command line, which has its name, is empty for a moment while the keeper begins.)"""
        pid = processes.pid_of(job)
        if pid is None:
            return None
        words = processes.command_of(pid)
        name = words[3] if len(words) == KEEPER_WORDS and words[2].startswith(MARK) else self._names.get(job)
        return Live(job, name, State.RUNNING) if name else None

    def _log(self, script: Path) -> Path:
        return self._logs.get(script) or script.with_suffix(".log")

    def _watch(self, job: str) -> None:
        if job not in self._descriptors and (descriptor := processes.watch(job)) is not None:
            self._descriptors[job] = descriptor

    def _judge(self, job: str, script: Path) -> Ended:
        """A job that has ended: by its keeper's note, else by the keeper's own exit code. Nothing is known of it when
        the keeper was killed before it could tell, or with the machine."""
        code = self._reap(job)
        end = None
        try:
            record = _record(script)
            whose, _, noted = record.read_text().partition(" ")
            if whose == job:
                code, end = int(noted), record.stat().st_mtime
        except (OSError, ValueError):
            pass
        if code is None:
            return Ended()
        begin = processes.started_at(job)
        return replace(exited(code), run=max(0.0, end - begin) if end and begin else None)

    def _reap(self, job: str) -> int | None:
        """The exit code of a keeper that is our child and has ended; what its script left behind ends with it."""
        process = self._children.get(job)
        if process is None:
            return None
        if process.returncode is None:
            try:
                # not waited for yet: the number is its own, and no other group's
                if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return None
            except ChildProcessError:
                return None
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _record(script: Path) -> Path:
    """Where the keeper notes how a script has ended."""
    return script.parent / RUNS / script.name


def _keepers() -> list[tuple[Live, Path]]:
    """All keepers of this user with their scripts."""
    found = []
    for pid, words in processes.own_leaders(MARK):
        job = processes.job_of(pid)
        if job and len(words) == KEEPER_WORDS and processes.pid_of(job):
            found.append((Live(job, words[3], State.RUNNING), Path(words[4])))
    return found
