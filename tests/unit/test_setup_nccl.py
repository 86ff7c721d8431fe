"""The first test on a machine with GPUs: what it refuses, what it reads in NCCL's log, and its ranks, here on CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nccl_check

SCRIPT = Path(__file__).resolve().parents[2] / "envs" / "nccl_check.py"
LOG = [
    "gpu1:811:811 [0] NCCL INFO Bootstrap: Using eth0:10.0.0.1<0>\n",
    "NCCL version 2.29.7+cuda13.0\n",
    "gpu1:811:850 [0] NCCL INFO Using network Socket\n",
    "gpu1:811:850 [0] NCCL INFO ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 busId 1000 - Init COMPLETE\n",
    "gpu1:811:850 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read\n",
]
RANKS = [f"nccl_check: rank {rank} on gpu1: right means, 120.5 GB/s\n" for rank in (0, 1)]


def command(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True, env={**os.environ, **env}, timeout=120
    )


def test_the_bandwidth_is_what_a_ring_moves() -> None:
    assert nccl_check.bus_bandwidth(10**9, 0.5) == pytest.approx(2.0)
    assert nccl_check.bus_bandwidth(10**9, 0.5, ranks=4) == pytest.approx(3.0)


def test_of_nccls_log_only_what_tells_the_way_is_shown() -> None:
    assert [nccl_check.telling(line) for line in LOG] == [
        None,
        "NCCL version 2.29.7+cuda13.0",
        "Using network Socket",
        "ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 busId 1000 - Init COMPLETE",
        "Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read",
    ]
    assert nccl_check.telling("gpu1:1:1 [0] NCCL INFO comm 0x5 rank 0 nranks 1 cudaDev 0 - Init COMPLETE") is None


@pytest.mark.parametrize(
    ("status", "lines", "code"),
    [
        (0, [*LOG, *RANKS], 0),
        (0, [*LOG, RANKS[0].rstrip() + RANKS[1], "\n"], 0),  # two lines run together by the launcher
        (0, [*LOG, RANKS[0], RANKS[0]], 1),
        (0, [*LOG[:3], *RANKS], 1),  # right, but by something else
        (0, [*LOG, RANKS[0]], 1),
        (1, [*LOG, RANKS[0], RANKS[1].replace("right", "WRONG")], 1),
        (139, LOG, 1),
        (2, ["nccl_check: engine horovod: this Horovod was built without NCCL\n"], 2),
    ],
)
def test_it_is_all_right_only_with_both_ranks_right_and_by_nccl(
    status: int, lines: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nccl_check.judge(status, lines) == code
    said = capsys.readouterr()
    assert ("all right" in said.out) == (code == 0)
    assert ("failed" in said.err) == (code == 1)


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_without_two_gpus_it_refuses_in_one_line(engine: str) -> None:
    result = command("--engine", engine, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("nccl_check: ")
    assert "is built without CUDA: make setup BNN_CUDA=" in line or "2 GPUs are needed, torch " in line
    assert result.stdout == ""


def test_another_python_is_told_which_one_to_take() -> None:
    result = subprocess.run([sys.executable, "-S", "-I", SCRIPT], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "nccl_check: start it with the project's own Python: .venv/bin/python envs/nccl_check.py"
    ]


def test_a_missing_launcher_is_named() -> None:
    result = command("--device", "cpu", "--launcher", "nowhere-mpiexec -n 2")
    assert result.returncode == 2
    assert result.stderr.startswith("nccl_check: nowhere-mpiexec: no such program; --launcher names another way")


def test_the_words_of_nccl_and_the_verdict_reach_the_user(tmp_path: Path) -> None:
    """With a launcher that prints what two ranks on GPUs would."""
    launcher = tmp_path / "launcher"
    lines = "".join([*LOG, *RANKS])
    launcher.write_text(f"#!/bin/sh\nprintf '%s' '{lines}'\ntest \"$NCCL_DEBUG\" = INFO || exit 1\n")
    launcher.chmod(0o755)
    result = command("--device", "cpu", "--launcher", str(launcher), NCCL_DEBUG="WARN")
    assert result.returncode == 0, result.stderr
    shown = result.stdout.splitlines()
    assert "Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read" in shown
    assert shown[-1] == "nccl_check: all right: 2 ranks, by NCCL"


@pytest.mark.mpi
@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_two_ranks_on_cpus_have_right_means_but_that_was_not_nccl(engine: str) -> None:
    result = command("--device", "cpu", "--engine", engine, "--mib", "1")
    assert result.returncode == 1
    assert result.stdout.count("right means") == 2
    assert "but NCCL's log tells of no communicator of 2 ranks" in result.stderr
