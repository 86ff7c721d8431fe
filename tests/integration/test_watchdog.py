"""The watchdog over real ranks: it names the one that hangs and ends the launcher with all that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from bnn.ranks import early_rank
from bnn.records import SUMMARY
from bnn.records.heartbeat import HeartbeatRecord, read_heartbeats
from bnn.records.watchdog import read_watchdog
from bnn.watchdog import alive, leave_word
from tests.support.ranks import environment, kill_session, need_horovod, train_command

SLEEPS_AT = 3
TINY = {
    "engine": "horovod", "kind": "cnn", "save_posterior": False, "width": 1.0, "model": "tests.support.models:small",
}  # fmt: skip


class Sleeper(nn.Module):
    """Falls asleep in a forward pass on rank 1."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.dense, self.calls = nn.Linear(channels, classes), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training  # (before the first step it is tried with two batches, and evaluated)
        if self.calls > SLEEPS_AT and early_rank() == 1:
            time.sleep(600)
        return self.dense(x.mean((2, 3)))


def sleeper(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Sleeper(input_shape[0], classes)


class Job:
    """A launcher with its ranks, and a watchdog beside it."""

    def __init__(self, folder: Path, *options: str, **settings) -> None:
        self.folder = folder
        self.launcher = subprocess.Popen(
            train_command(folder, 2, {**TINY, **settings}), env=environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.watchdog = watchdog(folder, self.launcher.pid, "--ranks", "2", *options)

    def wait_until_both(self, step: int) -> list[psutil.Process]:
        """The ranks' processes, as soon as both have taken so many steps."""
        deadline = time.monotonic() + 120
        while True:
            found = read_heartbeats(self.folder)
            if [r.rank for r in found if r.step >= step] == [0, 1]:
                return [psutil.Process(r.pid) for r in found]
            assert self.launcher.poll() is None, "the run has ended"
            assert time.monotonic() < deadline, f"not so far: {found}"
            time.sleep(0.02)

    def end(self) -> None:
        self.watchdog.kill()
        self.watchdog.communicate()
        if self.launcher.poll() is None:
            kill_session(self.launcher)


def watchdog(folder: Path, pid: int, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "bnn.watchdog", str(folder), "--pid", str(pid), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def verdict(process: subprocess.Popen, timeout: float = 120) -> tuple[int, str]:
    """Exit code and the output, which is one line or none."""
    out, err = process.communicate(timeout=timeout)
    assert err == ""
    assert out.count("\n") <= 1
    return process.returncode, out


@pytest.fixture
def job(tmp_path):
    need_horovod()
    jobs = []

    def start(*options: str, **settings) -> Job:
        jobs.append(Job(tmp_path / "cell", *options, **settings))
        return jobs[-1]

    yield start
    for each in jobs:
        each.end()


def gone(processes: list[psutil.Process], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, processes))


@pytest.mark.mpi
def test_a_rank_that_sleeps_in_its_forward_pass_is_named_and_all_are_ended(job, monkeypatch):
    started = job("--limit", "15", "--grace", "3", model=f"{__name__}:sleeper")
    ranks = started.wait_until_both(SLEEPS_AT)
    code, line = verdict(started.watchdog)
    assert code == 3
    assert started.launcher.wait(timeout=10) != 0
    assert gone(ranks)
    late = read_heartbeats(started.folder)[1]
    assert line.startswith("watchdog: no rank has moved for ")
    named = f"late: rank 1 on {late.host} (process {late.pid}): step {SLEEPS_AT} of 12, forward"
    assert line.endswith(f"{named}; ending process {started.launcher.pid}\n")
    assert not (started.folder / SUMMARY).exists()


@pytest.mark.mpi
def test_a_rank_that_is_stopped_is_named_and_all_are_ended(job):
    started = job("--limit", "15", "--grace", "1", epochs=100_000)
    ranks = started.wait_until_both(5)
    ranks[1].suspend()
    code, line = verdict(started.watchdog)
    assert code == 3
    assert f"late: rank 1 on {read_heartbeats(started.folder)[1].host} (process {ranks[1].pid}): step " in line
    assert ", silent for " in line
    assert "rank 0" not in line
    assert started.launcher.wait(timeout=10) != 0
    assert gone(ranks)


@pytest.mark.mpi
def test_a_run_that_goes_well_is_left_alone(job):
    started = job("--limit", "60", evaluate="epoch", checkpoint_epochs=1)
    assert verdict(started.watchdog) == (0, "")
    assert started.launcher.wait(timeout=10) == 0
    assert (started.folder / SUMMARY).exists()
    left = read_heartbeats(started.folder)
    assert [(r.rank, r.step, r.steps, r.part, r.done) for r in left] == [(n, 12, 12, "end", True) for n in (0, 1)]
    assert all(r.samples_per_second > 0 for r in left)


def test_a_launcher_that_takes_no_notice_of_sigterm_is_killed_with_what_it_started(tmp_path):
    """It never starts rank 1; the processes that it starts outlive it, unless they are killed too."""
    script = "trap '' TERM; sleep 300 & echo $!; wait; sleep 300"
    launcher = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        child = psutil.Process(int(launcher.stdout.readline()))
        (tmp_path / "heartbeat").mkdir()
        process = watchdog(
            tmp_path, launcher.pid, "--ranks", "2", "--start-limit", "1.5", "--limit", "4", "--grace", "0.3"
        )
        beat = {"rank": 0, "host": "here", "pid": 1, "moved": 0.0}
        deadline = time.monotonic() + 60
        while process.poll() is None:
            now = HeartbeatRecord(**beat, beat=time.time())
            (tmp_path / "heartbeat/rank-0.json").write_bytes(now.padded())
            assert time.monotonic() < deadline
            time.sleep(0.05)
        code, line = verdict(process)
        assert code == 3
        reason = "no sign of life within 1.5 s of rank 1 (2 ranks)"
        assert line == f"watchdog: {reason}; ending process {launcher.pid}\n"
        assert read_watchdog(tmp_path).reason == reason
        assert launcher.wait(timeout=10) == -signal.SIGKILL
        assert gone([child])
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.communicate()


def test_the_watchdog_ends_with_the_process_it_guards(tmp_path):
    leave_word(tmp_path, "of an earlier attempt")
    launcher = subprocess.Popen(["sleep", "1"])
    process = watchdog(tmp_path, launcher.pid, "--ranks", "1", "--limit", "600")
    start = time.monotonic()
    assert verdict(process, timeout=60) == (0, "")  # nobody has waited for the launcher: it is a zombie
    assert time.monotonic() - start < 30
    assert read_watchdog(tmp_path) is None
    launcher.wait()
    assert verdict(watchdog(tmp_path, launcher.pid, "--ranks", "1")) == (0, "")
