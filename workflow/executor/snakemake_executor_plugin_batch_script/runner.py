"""Runs the scripts of a packed job within its allocation: python runner.py FOLDER, on the node that the job starts on.

Standard library alone: what is installed for the driver need not be here. The folder's `pack.json` says what to run;
of each script there is `LABEL.started` when it starts and `LABEL.ended` when it has ended, whatever becomes of the
others. A file `LABEL.cancel` ends one script, a signal all of them.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

MANIFEST, STARTED, ENDED, CANCEL, NODES = "pack.json", ".started", ".ended", ".cancel", ".nodes"
NODEFILE, PACK = "BATCH_SCRIPT_NODEFILE", "BATCH_SCRIPT_PACK"  # what a script finds in its environment
TICK = 0.2  # seconds between two looks at what runs
LOOK = 2.0  # seconds between two looks for files that cancel something
GRACE = 30.0  # seconds between SIGTERM and SIGKILL
MARGIN = 60.0  # seconds before the job's limit at which scripts are ended, so that they can keep what they have
STAGGER = 1.0  # seconds between two starts under Cobalt: all of a service node's jobs start there
PR_SET_PDEATHSIG = 1  # of prctl(2)

Member = dict[str, Any]


def write(path: Path, content: Any) -> None:
    """Whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(content))
    os.replace(aside, path)


def hosts() -> list[str]:
    """The job's nodes by name; none under Cobalt, where aprun takes free nodes of the job by itself."""
    if file := os.environ.get("PBS_NODEFILE"):
        return list(dict.fromkeys(Path(file).read_text().split()))
    if nodes := os.environ.get("SLURM_JOB_NODELIST"):
        command = ["scontrol", "show", "hostnames", nodes]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return []


def say(text: str) -> None:
    """For the job's output, which may be on a full disk: nothing is kept back that would be tried again at the end."""
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode())


def tie() -> None:
    """In a script's process: it is told to end when the runner is gone, whose process group it leaves."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


class Running:
    """A script that runs; `nodes` are its nodes' numbers in the job."""

    def __init__(self, member: Member, process: "subprocess.Popen[bytes]", nodes: list[int], until: float) -> None:
        self.member, self.process, self.nodes, self.until = member, process, nodes, until
        self.reason = "ended"
        self.kill_at = float("inf")

    def end(self, reason: str) -> None:
        """Ask the script to end, and what it started with it; once."""
        if self.reason == "ended":
            self.reason, self.kill_at = reason, time.time() + GRACE
            self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Runner:
    """The packed job in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pack: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        self.names = hosts()
        if self.names and len(self.names) < self.pack["nodes"]:
            raise SystemExit(f"the job has {len(self.names)} nodes, {folder / MANIFEST} needs {self.pack['nodes']}")
        self.free = list(range(self.pack["nodes"]))
        self.limit = time.time() + self.pack["seconds"] - min(MARGIN, self.pack["seconds"] / 10)
        self.waiting: deque[Member] = deque(self.pack["members"])
        self.running: list[Running] = []
        self.stopped = 0
        self.stagger = STAGGER if "COBALT_JOBID" in os.environ else 0.0
        self.last_start = self.last_look = 0.0

    def run(self) -> int:
        """Until all have ended; 0, or 128 and the number of the signal that ended the job."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        try:
            while self.running or self.waiting:
                if self.stopped:
                    self.waiting.clear()
                    for running in self.running:
                        running.end("stopped")
                self._start_next()
                self._reap()
                time.sleep(TICK)
        finally:  # an error of ours: nothing may go on that nobody watches
            for running in self.running:
                running.signal(signal.SIGKILL)
        return 128 + self.stopped if self.stopped else 0

    def _stop(self, number: int, frame: object) -> None:
        self.stopped = number

    def _start_next(self) -> None:
        """Start scripts in their order as far as there are free nodes."""
        while self.waiting and self.waiting[0]["nodes"] <= len(self.free) and not self.stopped:
            now = time.time()
            if now - self.last_start < self.stagger:
                return
            member = self.waiting.popleft()
            if self._is_cancelled(member):
                self._record(member, None, "cancelled")
            elif self.limit - now >= member["seconds"] / 2:  # else it is left for another job
                self._start(member, now)

    def _is_cancelled(self, member: Member) -> bool:
        return os.path.exists(self.folder / (member["label"] + CANCEL))  # noqa: PTH110 (Path's may raise)

    def _start(self, member: Member, now: float) -> None:
        nodes = [self.free.pop(0) for _ in range(member["nodes"])]
        names = [self.names[i] for i in nodes] if self.names else []
        environment = {**os.environ, PACK: f"{self.folder.name}, one of {len(self.pack['members'])} scripts"}
        if names:
            environment[NODEFILE] = str(self.folder / (member["label"] + NODES))
            if "PBS_NODEFILE" in environment:
                environment["PBS_NODEFILE"] = environment[NODEFILE]
        try:
            if names:
                Path(environment[NODEFILE]).write_text("".join(f"{name}\n" for name in names))
            log = Path(member["log"])
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as output:
                # a process group of its own, to be ended with all that it started; the session stays the job's
                process = subprocess.Popen(
                    [member["script"]], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                    process_group=0, preexec_fn=tie,  # noqa: PLW1509 (there are no threads here)
                )  # fmt: skip
        except OSError as error:
            self.free = sorted([*self.free, *nodes])
            self._record(member, None, f"could not be started: {error.strerror or error}")
            return
        self.running.append(Running(member, process, nodes, min(now + member["seconds"], self.limit)))
        self._note(member, STARTED, {"time": now, "nodes": names or len(nodes)})
        self.last_start = now

    def _reap(self) -> None:
        """Note what has ended; end what is over its time or was cancelled."""
        now = time.time()
        look, self.last_look = (True, now) if now - self.last_look >= LOOK else (False, self.last_look)
        for member in [member for member in self.waiting if look and self._is_cancelled(member)]:
            self.waiting.remove(member)
            self._record(member, None, "cancelled")
        for running in list(self.running):
            code = running.process.poll()
            if code is not None:
                running.signal(signal.SIGKILL)  # what the script left behind must not keep its nodes
                self.running.remove(running)
                self.free = sorted([*self.free, *running.nodes])
                self._record(running.member, code if code >= 0 else 128 - code, running.reason)
            elif now >= running.kill_at:
                running.signal(signal.SIGKILL)
            elif now >= running.until:
                running.end("walltime")
            elif look and self._is_cancelled(running.member):
                running.end("cancelled")

    def _record(self, member: Member, code: int | None, reason: str) -> None:
        """How a script ended."""
        self._note(member, ENDED, {"time": time.time(), "code": code, "reason": reason})

    def _note(self, member: Member, suffix: str, record: dict[str, Any]) -> None:
        """Write a record. Where that fails, the driver judges by the script's output."""
        say(f"{member['label']}{suffix}: {json.dumps(record)}")
        try:
            write(self.folder / (member["label"] + suffix), record)
        except OSError as error:
            say(f"{member['label']}{suffix}: not written: {error}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit("usage: runner.py FOLDER")
    raise SystemExit(Runner(Path(sys.argv[1])).run())
