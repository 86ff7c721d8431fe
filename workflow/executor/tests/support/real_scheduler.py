"""A scheduler in this process that really runs its jobs, and the driver at work on it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_batch_script.contact import Limits
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.pack_folder import FOLDER
from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    LimitError,
    Live,
    Outcome,
    RefusedError,
    State,
    UnreachableError,
    exited,
)
from snakemake_executor_plugin_batch_script.task import Result
from snakemake_executor_plugin_batch_script.tracking import Tracker

START_S = 60.0  # until something must have happened, on a machine that does much else


@dataclass
class Local:
    """A scheduler that starts each job at once, on nodes n1, n2, ...; or keeps it queued while `hold` is set."""

    nodes: int = 4
    hold: bool = False
    fault: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    queued: dict[str, Path] = field(default_factory=dict)
    verdicts: dict[str, Ended] = field(default_factory=dict)
    submissions: list[Path] = field(default_factory=list)
    programs: tuple[str, ...] = ()

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        if not self.hold:
            for job in list(self.queued):
                self._start(job, self.queued.pop(job))
        found = [Live(job, self.names[job], State.QUEUED) for job in self.queued]
        found += [Live(job, self.names[job], State.RUNNING) for job, p in self.processes.items() if p.poll() is None]
        return [job for job in found if names or job.job in jobs]

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        found: dict[str, Ended | Live] = {}
        for job in jobs:
            if job in self.verdicts:
                found[job] = self.verdicts[job]
            elif job in self.processes and (code := self.processes[job].poll()) is not None:
                found[job] = exited(code if code >= 0 else 128 - code)
            else:
                found[job] = next((live for live in self.live([job], False)), UNKNOWN)
        return found

    def submit(self, script: Path, name: str) -> str:
        if self.fault == "refuse":
            raise RefusedError("no more jobs today")
        if self.fault == "limit" and (self.queued or any(p.poll() is None for p in self.processes.values())):
            raise LimitError("one job at a time")
        self.submissions.append(script)
        job = str(len(self.submissions))
        self.names[job], self.queued[job] = name, script
        if self.fault == "lost":
            raise UnreachableError("no answer")
        return job

    def cancel(self, jobs: Collection[str]) -> None:
        for job in jobs:
            self.verdicts[job] = Ended(Outcome.CANCELLED, detail="deleted")
            self.queued.pop(job, None)
            if job in self.processes:
                self.end(job, signal.SIGTERM)

    def log(self, script: Path, job: str | None) -> Path | None:
        return script.with_suffix(".log")

    def end(self, job: str, number: int) -> None:
        """A signal to all processes of a job's own group."""
        if self.processes[job].poll() is None:
            os.killpg(self.processes[job].pid, number)

    def _start(self, job: str, script: Path) -> None:
        hosts = script.parent / "hosts"
        hosts.write_text("".join(f"n{i + 1}\n" for i in range(self.nodes)))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "COBALT"))}
        with (script.parent / f"out-{job}").open("wb") as log:
            self.processes[job] = subprocess.Popen(
                ["/bin/bash", script],
                env=environment | {"PBS_NODEFILE": str(hosts)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@dataclass
class Bench:
    """Scripts in a folder, the scheduler and the driver at work."""

    folder: Path
    scheduler: Local = field(default_factory=Local)
    limits: Limits = field(default_factory=lambda: Limits(poll=0.1, retries=2, latency=0.5, gather=0.3))
    said: list[str] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.head(4, 60)
        self.restart()

    def restart(self, since: float | None = None) -> None:
        """The driver is killed, another one starts."""
        self.journals = Journals()
        self.tracker = Tracker(
            self.scheduler, self.journals, self.limits, self.said.append, time.monotonic, random.Random(1), since
        )

    def head(self, nodes: int, minutes: int) -> None:
        (self.folder / "head.sh").write_text(
            f"#!/bin/bash\n#BATCH_SCRIPT --nodes {nodes} --minutes {minutes}\n# @PACK@\n"
        )

    def script(self, name: str, body: str = "", nodes: int = 1, minutes: int = 60) -> None:
        """It notes when and where it runs; its output appears at the end."""
        path = self.folder / f"{name}.sh"
        path.write_text(
            f"#!/bin/bash\n#BATCH_SCRIPT --pack {self.folder}/head.sh --nodes {nodes} --minutes {minutes}\n"
            f"cd {self.folder}\necho $(date +%s.%N) {name} start $(cat ${{BATCH_SCRIPT_NODEFILE:-/dev/null}}) >>runs\n"
            f"trap 'echo $(date +%s.%N) {name} stop >>runs' EXIT\n{body}\n"
            f"echo x >{name}.new && mv {name}.new {name}.out\n"
        )
        path.chmod(0o755)

    def add(self, *names: str, order: int = 0) -> None:
        for name in names:
            self.tracker.add(self.folder / f"{name}.sh", self.folder / f"{name}.out", order)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {self.said}, {self.results}, {self.runs()}"
            for result in self.tracker.step().values():
                assert result.script.stem not in self.results, "reported twice"
                self.results[result.script.stem] = result
            time.sleep(0.02)

    def finish(self, count: int) -> None:
        self.until(lambda: len(self.results) == count)

    def runs(self) -> list[list[str]]:
        """Lines [time, script, start or stop, nodes ...] in their order."""
        path = self.folder / "runs"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def started(self, name: str) -> int:
        return sum(line[1:3] == [name, "start"] for line in self.runs())

    def all_started(self, *names: str) -> bool:
        return all(self.started(name) for name in names)

    def packs(self) -> list[Path]:
        return sorted((self.folder / FOLDER).glob("p-*"), key=lambda pack: pack.stat().st_ctime)

    def check(self) -> None:
        """No node is used by two scripts at a time, and no script runs twice at a time."""
        used: dict[str, str] = {}
        nodes: dict[str, list[str]] = {}
        for _, name, what, *where in self.runs():
            if what == "start":
                assert name not in nodes, f"{name} twice at a time"
                assert not used.keys() & set(where), f"{name} on nodes of {[used.get(node) for node in where]}"
                nodes[name] = where
                used |= dict.fromkeys(where, name)
            else:
                for node in nodes.pop(name):
                    used.pop(node, None)


def wait_for(name: str) -> str:
    return f"until [ -e {name} ]; do sleep 0.05; done"
