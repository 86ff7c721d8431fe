"""`bnn check`: how checks end, whatever they do; what several ranks say; the file to send."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import psutil
import pytest
import torch
from click.testing import CliRunner

from bnn.check import commands, report
from bnn.check.exchange import bus_bandwidth, judge, launch, telling
from bnn.check.outcome import ABSENT, FAULT, OK, AbsentError, Context, FaultError, Outcome
from bnn.check.plan import CHECKS, Check
from bnn.check.run import LOG_BYTES, run_check, run_checks
from bnn.errors import UserError

FAKES = """
import os, signal, subprocess, sys, time
from bnn.check.outcome import AbsentError, FaultError
from bnn.errors import UserError

def right(context): return f"{context.device}\\n  {context.ranks} ranks"
def wrong(context):
    print("x" * 30_000 + "printed")
    raise FaultError("a sum\\nis off")
def absent(context): raise AbsentError("no such counter")
def refused(context): raise UserError("data: not a number")
def bug(context): return 1 // 0
def crash(context): os.kill(os.getpid(), signal.SIGSEGV)
def leave(context): os._exit(3)
def late(context):
    import atexit
    atexit.register(os.kill, os.getpid(), signal.SIGABRT)
    return "right"
def hang(context):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (context.folder / "child").write_text(str(child.pid))
    print("begun", flush=True)
    time.sleep(600)
"""
ENDS = [
    ("right", OK, "cpu 2 ranks", ""),
    ("wrong", FAULT, "a sum is off", "printed"),
    ("absent", ABSENT, "no such counter", ""),
    ("refused", FAULT, "data: not a number", ""),
    ("bug", FAULT, "ZeroDivisionError: integer division or modulo by zero", "Traceback"),
    ("crash", FAULT, "the process was ended by SIGSEGV without an answer", "Fatal Python error: Segmentation fault"),
    ("leave", FAULT, "the process ended with code 3 without an answer", ""),
    ("late", FAULT, "the process was ended by SIGABRT after its answer: right", ""),
]


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    (tmp_path / "fakes.py").write_text(FAKES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ending = signal.getsignal(signal.SIGTERM)
    yield Context("cpu", 2, tmp_path, ("mpiexec", "-n", "2"))
    signal.signal(signal.SIGTERM, ending)  # the command sets its own


@pytest.mark.parametrize(("name", "status", "reason", "printed"), ENDS, ids=[end[0] for end in ENDS])
def test_however_a_check_ends_it_is_a_row(context: Context, name: str, status: str, reason: str, printed: str) -> None:
    row = run_check(Check(name, f"fakes:{name}"), context, 0, 60)
    assert (row.name, row.status, row.reason) == (name, status, reason)
    assert printed in row.log
    assert len(row.log) <= LOG_BYTES
    assert status == FAULT or row.log == ""


def test_a_check_that_hangs_is_killed_with_what_it_started(context: Context) -> None:
    row = run_check(Check("hang", "fakes:hang"), context, 0, 3)
    assert (row.status, row.reason) == (FAULT, "no end within 3 s: killed")
    assert "begun" in row.log
    assert 3 <= row.seconds < 20
    child = int((context.folder / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_what_is_left_when_the_time_for_all_is_over_is_a_fault(context: Context) -> None:
    seen: list[str] = []
    checks = [Check("a", "fakes:hang"), Check("b", "fakes:right")]
    started = time.monotonic()
    rows = run_checks(checks, context, lambda check: seen.append(check.name), lambda row: seen.append(row.status), 2)
    assert time.monotonic() - started < 20
    assert seen == ["a", FAULT, "b", FAULT]
    assert rows[1].reason == "not run: the 2 s for all checks are over"


def asked(context: Context, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, Path]:
    """What `bnn check` says with fakes for checks, its exit code, and the file."""
    fakes = [Check(name, f"fakes:{name}") for name, *_ in ENDS[:3]]
    monkeypatch.setattr(commands, "CHECKS", fakes)
    choice = click.Choice([fake.name for fake in fakes])
    monkeypatch.setattr(next(option for option in commands.check.params if option.name == "only"), "type", choice)
    out = context.folder / "sub" / "check.json"
    done = CliRunner().invoke(commands.check, [*words, "--out", str(out)], catch_exceptions=False)
    return done.exit_code, done.stdout, out


def test_a_fault_is_exit_code_1_and_in_the_file(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, out = asked(context, monkeypatch, "--launcher", "mpiexec -n 2 -prepend-rank")
    assert code == 1
    assert [line.split()[:2] for line in said.splitlines()[:3]] == [["right", OK], ["wrong", FAULT], ["absent", "not"]]
    assert said.splitlines()[-1].startswith("1 OK, 1 fault, 1 not there; ")
    assert said.splitlines()[-1].endswith(f"file to send: {out}")
    record = json.loads(out.read_text())
    assert [check["status"] for check in record["checks"]] == [OK, FAULT, ABSENT]
    assert record["checks"][1]["log"].endswith("printed\n")
    assert (record["complete"], record["launcher"]) == (True, "mpiexec -n 2 -prepend-rank")
    assert {"gpus", "driver", "torch_cuda", "torch_nccl", "cpu", "versions", "revision"} <= set(record)


def test_without_a_fault_it_is_0_and_only_is_obeyed(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, out = asked(context, monkeypatch, "--only", "right", "--only", "absent")
    assert code == 0
    assert [check["name"] for check in json.loads(out.read_text())["checks"]] == ["right", "absent"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--launcher", "mpiexec '-n"], "--launcher .*: no closing quotation"),
        (["--launcher", " "], "--launcher: names no program"),
        (["--out", "/proc/nowhere/check.json"], "/proc/nowhere/check.json: "),
    ],
)
def test_a_slip_is_known_before_anything_runs(
    context: Context, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(commands, "CHECKS", [Check("hang", "fakes:hang")])
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(commands.check, words, catch_exceptions=False)


def test_a_command_that_is_ended_leaves_nothing_behind(context: Context) -> None:
    script = "from bnn.check import commands; from bnn.check.plan import Check\n"
    script += "commands.CHECKS = [Check('hang', 'fakes:hang')]; commands.check()"
    command = [sys.executable, "-c", script, "--out", str(context.folder / "check.json")]
    environment = {**os.environ, "TMPDIR": str(context.folder), "PYTHONPATH": f"{context.folder}:{Path.cwd()}"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (found := list(context.folder.glob("bnn-check-*/child"))) or not found[0].read_text():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    child = int(found[0].read_text())
    process.terminate()
    assert process.wait(30) == 128 + 15
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert not list(context.folder.glob("bnn-check-*"))
    assert json.loads((context.folder / "check.json").read_text())["complete"] is False


def test_one_of_several_ranks_is_refused(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(UserError, match=r"check: started on several ranks \(PMI: this is rank 1 of 2\); start it once"):
        asked(context, monkeypatch)


def test_without_a_gpu_it_says_so_and_ends_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bnn.cli", "check", "--device", "cuda", "--out", str(tmp_path / "check.json")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("bnn: no GPU: ")
    assert not list(tmp_path.iterdir())


def test_every_check_is_a_function_of_its_own_with_time_enough() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        module, name = check.function.split(":")
        __import__(module)
        assert callable(getattr(sys.modules[module], name))
        assert check.seconds >= 60


# The file to send.

NAMES = {"/home/mia": "~", "mia": "USER", "gpu7": "HOST", "gpu7.cluster.example": "HOST"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/mia/bnn/x.py", "~/bnn/x.py"),
        ("/scratch/mia/x_mia of mia@gpu7", "/scratch/USER/x_USER of USER@HOST"),
        ("GPU7.Cluster.Example:811:811 [0] NCCL INFO", "HOST:811:811 [0] NCCL INFO"),
        ("gpu70 and miami, /home/miami", "gpu70 and miami, /home/miami"),
    ],
)
def test_names_are_replaced_where_they_are_words(text: str, expected: str) -> None:
    assert report.anonymous(text, NAMES) == expected


def test_the_file_holds_no_name_of_home_user_or_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/zaphod/")
    monkeypatch.setenv("USER", "zaphod")
    monkeypatch.setenv("LOGNAME", "zaphod")
    monkeypatch.setattr(report.socket, "gethostname", lambda: "heart.of.gold")
    row = Outcome("a", FAULT, 1.0, "/users/zaphod/x: zaphod", "heart:1 [0] on heart.of.gold, /users/zaphod")
    launcher = ("/users/zaphod/bin/mpiexec", "-host", "heart")
    report.write_report(tmp_path / "check.json", Context("cpu", 2, tmp_path, launcher), {}, [row])
    text = (tmp_path / "check.json").read_text()
    assert "zaphod" not in text
    assert "heart" not in text
    record = json.loads(text)
    assert (record["complete"], record["launcher"]) == (False, "~/bin/mpiexec -host HOST")
    assert (record["checks"][0]["reason"], record["checks"][0]["log"]) == ("~/x: USER", "HOST:1 [0] on HOST, ~")


# What several ranks say.

LOG = [
    "gpu1:811:811 [0] NCCL INFO Bootstrap: Using eth0:10.0.0.1<0>\n",
    "NCCL version 2.29.7+cuda13.0\n",
    "gpu1:811:850 [0] NCCL INFO Using network Socket\n",
    "gpu1:811:850 [0] NCCL INFO ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 busId 1000 - Init COMPLETE\n",
    "gpu1:811:850 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read\n",
]
RANKS = [f"bnn check: rank {rank}: right: 2 ranks, 120.5 GB/s\n" for rank in (0, 1)]
WRONG = "bnn check: rank 1: wrong: a mean of 64 MiB is wrong\n"


def test_the_bandwidth_is_what_a_ring_moves() -> None:
    assert bus_bandwidth(10**9, 0.5, 2) == pytest.approx(2.0)
    assert bus_bandwidth(10**9, 0.5, 4) == pytest.approx(3.0)


def test_of_nccls_log_only_what_tells_the_way_counts() -> None:
    assert [telling(line) for line in LOG] == [
        None,
        "NCCL version 2.29.7+cuda13.0",
        "Using network Socket",
        "ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 busId 1000 - Init COMPLETE",
        "Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read",
    ]


@pytest.mark.parametrize("lines", [[*LOG, *RANKS], [*LOG, RANKS[0].rstrip() + RANKS[1], "\n"]])
def test_all_ranks_right_and_by_nccl(lines: list[str]) -> None:
    """Also where the launcher runs two lines together."""
    assert judge(0, lines, 2, True) == "2 ranks, 120.5 GB/s; NCCL version 2.29.7+cuda13.0 via P2P"


def test_a_network_is_named_by_its_kind() -> None:
    lines = [line.replace("P2P/CUMEM/read", "NET/IB/0/GDRDMA") for line in LOG]
    assert judge(0, [*lines, *RANKS], 2, True).endswith(" via NET/IB")


@pytest.mark.parametrize(
    ("status", "lines", "message"),
    [
        (0, [*LOG, RANKS[0], RANKS[0]], "exit code 0, 1 of 2 ranks were right"),
        (0, [*LOG[:3], *RANKS], "NCCL's log tells of no communicator of 2 ranks"),
        (0, [line.replace("nranks 2", "nranks 1") for line in LOG] + RANKS, "no communicator of 2 ranks"),
        (3, [*LOG, RANKS[0], WRONG], "rank 1: a mean of 64 MiB is wrong"),
        (139, [*LOG, *RANKS], "exit code 139"),
        (2, ["bnn: rank 1: no GPU\n", "mpiexec: ended\n"], "0 of 2 ranks were right; bnn: rank 1: no GPU"),
        (1, [], "exit code 1, 0 of 2 ranks were right; no output"),
    ],
)
def test_anything_else_is_a_fault(status: int, lines: list[str], message: str) -> None:
    with pytest.raises(FaultError, match=message):
        judge(status, lines, 2, True)


def test_a_missing_launcher_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="nowhere-mpiexec: no such program; --launcher names another way"):
        launch(Context("cpu", 2, tmp_path, ("nowhere-mpiexec", "-n", "2")), "torch", "exchange")


def test_ranks_are_asked_for_nccls_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a launcher that prints what two ranks on GPUs would."""
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    launcher = tmp_path / "launcher"
    lines = "".join([*LOG, *RANKS])
    launcher.write_text(f"#!/bin/sh\nprintf '%s' '{lines}'\ntest \"$NCCL_DEBUG\" = INFO || exit 1\n")
    launcher.chmod(0o755)
    context = Context("cuda", 2, tmp_path, (str(launcher),), nodes=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(AbsentError, match="2 ranks need as many GPUs; there are 1"):
        launch(replace(context, nodes=1), "torch", "exchange")
    with pytest.raises(AbsentError, match="across nodes the exchange is all that is checked"):
        launch(context, "torch", "training")
    assert launch(context, "torch", "exchange").endswith("NCCL version 2.29.7+cuda13.0 via P2P")
