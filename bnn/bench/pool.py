"""Worker processes: started, asked, watched and ended."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bnn.bench.implementations import Implementation
from bnn.bench.protocol import Spec
from bnn.errors import UserError
from bnn.records.bench import WorkerFacts

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package bnn
# Appended, not put first: a peer's Python takes nothing of ours that it has itself.
START = "import sys; sys.path.append(sys.argv.pop(1)); from {module} import main; main()"


class UnavailableError(UserError):
    """An implementation that this machine or this version of the package does not have."""


class Worker:
    """One implementation in a process of its own. Its stderr goes to a file, whose last line explains a crash."""

    def __init__(self, python: Path | str, made_of: Implementation, spec: Spec, log: Path) -> None:
        self.name, self._log = spec.implementation, log
        threads = {name: str(spec.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        # another Python's packages must not come before those of the peers' environment; ours is this Python
        foreign = ("PYTHONPATH", "PYTHONHOME") if made_of.peer else ()
        inherited = {k: v for k, v in os.environ.items() if k not in foreign}
        # its own process group: an interrupt from the keyboard reaches the parent alone, which ends them all
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [python, "-c", START.format(module=made_of.module), ROOT, json.dumps(asdict(spec))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**inherited, **threads, **made_of.environment},
                text=True,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def hello(self) -> WorkerFacts:
        """Wait until it is built. Raises UnavailableError with the worker's reason, UserError when it died."""
        said = self._answer("while it was built")
        if said["type"] == "unavailable":
            raise UnavailableError(said["text"])
        return WorkerFacts(**{key: value for key, value in said.items() if key != "type"})

    def ask(self, when: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. `when` is named in the error of a worker that died or diverged."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing answer says more
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        said = self._answer(when)
        if not math.isfinite(said["value"]):
            raise UserError(f"implementation {self.name}: its result is not finite {when}")
        return said

    def _answer(self, when: str) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if line.endswith("\n"):
            said = json.loads(line)
            assert isinstance(said, dict)
            return said
        status = self._process.wait()
        lines = [text.strip() for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
            how += " (out of memory?)" if status == -signal.SIGKILL else ""
        else:
            how = f"ended with exit code {status}"
        raise UserError(f"implementation {self.name}: its process {how} {when}: {lines[-1] if lines else 'no message'}")

    def cpu_seconds(self) -> float:
        """Processor time it has used so far, in clock ticks of 10 ms; 0 once it is gone."""
        import psutil

        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def end(self) -> None:
        """End it and whatever it started, such as torch's compiler processes. It holds nothing worth saving."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Pool:
    """The workers of one benchmark, ended together."""

    def __init__(self, folder: Path, python_of: Callable[[Implementation], Path | str]) -> None:
        self.workers: dict[str, Worker] = {}
        self._folder, self._python_of = folder, python_of

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.workers):
            self.drop(name)

    def start(self, made_of: Implementation, spec: Spec) -> Worker:
        log = self._folder / f"{spec.implementation}.log"
        worker = Worker(self._python_of(made_of), made_of, spec, log)
        self.workers[spec.implementation] = worker
        return worker

    def drop(self, name: str) -> None:
        self.workers.pop(name).end()

    def waiting_cpu_seconds(self, active: str) -> float:
        """Processor time that all workers but `active` have used so far."""
        return sum(worker.cpu_seconds() for name, worker in self.workers.items() if name != active)
