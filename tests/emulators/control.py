"""For tests: an emulated scheduler in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.emulators import core, processes

COMMANDS = {
    "cobalt": {"qsub": "cobalt", "qstat": "cobalt", "qdel": "cobalt", "aprun": "launchers"},
    "pbs": {"qsub": "pbs", "qselect": "pbs", "qstat": "pbs", "qdel": "pbs", "mpiexec": "launchers"},
    "slurm": {"sbatch": "slurm", "squeue": "slurm", "scontrol": "slurm", "scancel": "slurm"},
}
PROGRAM = """#!{python} -IS
import sys
sys.path.insert(0, {root!r})
from tests.emulators.core import finish
from tests.emulators.{module} import {command}
finish({command}, sys.argv[1:])
"""


class Emulator:
    """One scheduler: `kind` is cobalt, pbs or slurm; all its files are below `folder`."""

    def __init__(self, kind: str, folder: Path, **settings: Any) -> None:
        if kind not in COMMANDS:
            raise ValueError(f"no emulator of {kind}: {', '.join(COMMANDS)}")
        self.kind = kind
        self.folder = folder.resolve()
        for name in ("bin", "jobs", "done", "requests", "spool", "home"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # The interpreter itself, not the virtual environment's link: it starts faster and needs nothing of it.
        python = Path(sys.executable).resolve()
        for command, module in COMMANDS[kind].items():
            path = self.folder / "bin" / command
            path.write_text(PROGRAM.format(python=python, root=str(core.ROOT), module=module, command=command))
            path.chmod(0o755)
        self.set(mpiexec=str(Path(sys.executable).parent / "mpiexec"), **settings)

    def env(self, **more: str) -> dict[str, str]:
        """The environment to run programs with: the emulated commands come first on PATH."""
        path = f"{self.folder / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        user = core.user()
        return {**os.environ, "PATH": path, "EMULATOR_HOME": str(self.folder), "USER": user, "LOGNAME": user, **more}

    def run(self, *words: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs one command in the emulator's environment."""
        return subprocess.run(
            words, env=self.env(**more), cwd=cwd or self.folder / "home", capture_output=True, text=True, timeout=120
        )

    def set(self, **changes: Any) -> None:
        """Changes settings and faults, at any time; None takes one back."""
        with core.locked(self.folder, "settings"):
            stored = core.read_json(self.folder / "settings.json") or {}
            stored |= changes
            core.write_json(self.folder / "settings.json", {k: v for k, v in stored.items() if v is not None})

    def events(self, what: str | None = None) -> list[dict[str, Any]]:
        """What happened so far (submitted, started, fault, killing, ended), or only events of one sort."""
        path = self.folder / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [event for event in found if what in (None, event["event"])]

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, ended ones (as far as remembered) and live ones."""
        ended = [core.read_json(path) for path in (self.folder / "done").glob("[0-9]*.json")]
        return sorted([*ended, *core.live_jobs(self.folder)], key=lambda job: job["number"])

    def overlaps(self) -> list[str]:
        """Names of which two jobs ran at the same time; empty as it should be."""
        running: dict[str, int] = {}
        found = []
        for event in self.events():
            if event["event"] == "started":
                running[event["name"]] = running.get(event["name"], 0) + 1
                if running[event["name"]] > 1:
                    found.append(event["name"])
            elif event["event"] == "ended" and event.get("pid"):
                running[event["name"]] -= 1
        return found

    def wait(self, condition: Callable[[], Any] | None = None, timeout_s: float = 60.0) -> Any:
        """Waits until a condition holds (default: no job is live) and returns its value; TimeoutError otherwise."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition() if condition else not core.live_jobs(self.folder)
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"still waiting after {timeout_s} s; jobs: {core.live_jobs(self.folder)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kills the server and all processes of its jobs; forgets the live jobs."""
        server = core.read_json(self.folder / "server.json")
        if server and f"EMULATOR_HOME={self.folder}" in environment(server["pid"]):
            processes.send(signal.SIGKILL, [server["pid"]])
        for path in (self.folder / "jobs").glob("[0-9]*.json"):
            job = core.read_json(path) or {}
            processes.eradicate(f"{self.folder}:{path.stem}", job.get("pid"))
            path.unlink(missing_ok=True)

    def __enter__(self) -> "Emulator":
        return self

    def __exit__(self, *problem: object) -> None:
        self.stop()


def environment(pid: int) -> list[str]:
    """A process's environment, empty if it is gone: tells our server from a later process of the same number."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
