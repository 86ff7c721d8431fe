"""Starts real ranks: `bnn` alone or under the environment's own mpiexec."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
# Small enough for seconds per run, with every layer type but the residual sum. To record a posterior takes longer than
# all of its steps: a test that wants one says so.
SMALL = {
    "dataset": "synthetic", "dataset_options": {"shape": [1, 12, 12], "size": 96}, "model": "vgg16", "width": 0.0625,
    "batch_size": 8, "epochs": 2, "warmup_steps": 2, "rho_init": -4.0, "learning_rate": 1e-3, "engine": "single",
    "threads": 1, "save_posterior": False,
}  # fmt: skip


def need_horovod() -> None:
    """Skip where Horovod or its launcher was not built; a set-up by `make` always has both."""
    pytest.importorskip("horovod.torch")
    if not (BIN / "mpiexec").exists() and shutil.which("mpiexec") is None:
        pytest.skip("no mpiexec")


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


def train_command(folder: Path, ranks: int, settings: dict) -> list[str]:
    """Write the settings beside `folder` and return the command that trains into it."""
    file = folder.with_suffix(".json")
    file.write_text(json.dumps({**SMALL, **settings}))
    launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 or settings.get("engine") == "horovod" else []
    return [*launcher, str(BIN / "bnn"), "train", "--settings", str(file), "--out", str(folder)]


def run_train(folder: Path, ranks: int = 1, timeout: float = 240, **settings) -> subprocess.CompletedProcess[str]:
    """Train to the end; the caller judges the exit code."""
    command = train_command(folder, ranks, settings)
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment(), check=False)


def run_until(marker: str, folder: Path, ranks: int = 1, timeout: float = 240, **settings) -> None:
    """Start training and kill every rank with SIGKILL as soon as a path matching `marker` exists in `folder`.

    Fails when the run ends first or the time is up.
    """
    process = subprocess.Popen(
        train_command(folder, ranks, settings), env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + timeout
    while not list(folder.glob(marker)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, f"nothing matched {marker}"
        time.sleep(0.01)
    kill_session(process)


def kill_session(process: subprocess.Popen) -> None:
    """SIGKILL for a process and all that it started (mpiexec's proxy starts ranks in sessions of their own)."""
    import psutil

    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        if member.is_running():
            member.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family, timeout=30)
