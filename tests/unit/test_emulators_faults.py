"""The emulated schedulers go wrong as the real ones do: silence, lost answers, faults of jobs, many jobs, launchers."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.emulators import processes
from tests.emulators.control import Emulator
from tests.support.emulated import (
    DELETE,
    OUTPUT,
    SUBMIT,
    completed,
    nothing_left,
    running,
    states,
    submit,
    try_submit,
    verdict,
    write,
)

pytest_plugins = ["tests.support.emulated"]


def test_without_a_server(emulator: Emulator) -> None:
    job_id = submit(emulator, "sleep 0.2")
    emulator.set(down=True)
    listing = {"cobalt": ["qstat"], "pbs": ["qstat", "-f", "-F", "json"], "slurm": ["squeue"]}[emulator.kind]
    for words in (listing, [DELETE[emulator.kind], job_id]):
        result = emulator.run(*words)
        assert result.returncode != 0
        assert "onnect" in result.stderr
        assert result.stdout == ""
    assert try_submit(emulator, write(emulator, "true")).returncode != 0
    emulator.set(down=0.3)
    begin = time.monotonic()
    assert emulator.run(*listing).returncode != 0
    assert time.monotonic() - begin >= 0.3
    emulator.set(down=None, down_until=time.time() - 1)
    assert emulator.run(*listing).returncode == 0
    emulator.wait()
    assert len(emulator.events("submitted")) == 1


def test_lost_submission(emulator: Emulator) -> None:
    emulator.set(submit_lost=1)
    script = write(emulator, "true")
    lost = try_submit(emulator, script)
    assert lost.returncode != 0
    assert lost.stdout == ""
    assert "time" in lost.stderr.lower()
    assert try_submit(emulator, script, "c-2").returncode == 0
    emulator.wait()
    assert sorted(event["name"] for event in emulator.events("ended")) == ["c-1", "c-2"]


def test_client_killed_before_it_knows_the_id(emulator: Emulator) -> None:
    emulator.set(slow_qsub=30)
    words = [*SUBMIT[emulator.kind], "c-1", str(write(emulator, "true"))]
    client = subprocess.Popen(words, env=emulator.env(), cwd=emulator.folder.parent, stdout=subprocess.PIPE)
    emulator.wait(lambda: emulator.events("submitted"))
    client.kill()
    assert client.communicate()[0] == b""
    emulator.wait()
    assert len(emulator.events("ended")) == 1


def test_flapping_listing(emulator: Emulator) -> None:
    submit(emulator, "sleep 30")
    running(emulator)
    emulator.set(flap=0.5, flap_seed=1)
    seen = [bool(states(emulator)) for _ in range(12)]
    assert True in seen
    assert False in seen


def test_other_users_jobs_are_listed_too(emulator: Emulator) -> None:
    emulator.set(foreign=2)
    listing = {"cobalt": ["qstat"], "pbs": ["qstat"], "slurm": ["squeue"]}[emulator.kind]
    assert emulator.run(*listing).stdout.count("stranger") == 2
    assert states(emulator) == {}


NOT_STARTED = "execution failure; initiating job cleanup and removal"
FAULTS = {
    "vanish": {},
    "kill_signal": {"cobalt": [completed(137)], "pbs": 256 + 9, "slurm": ("FAILED", "0:9")},
    "node_fail": {"cobalt": [completed(7)], "pbs": -4, "slurm": ("NODE_FAIL", "0:9")},
    "oom": {"cobalt": [completed(7)], "pbs": 256 + 9, "slurm": ("OUT_OF_MEMORY", "0:125")},
    "launch_fail": {
        "cobalt": ["execution failure; initiating job cleanup and removal"],
        "pbs": -1,
        "slurm": ("FAILED", "0:53"),
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_jobs(emulator: Emulator, fault: str) -> None:
    emulator.set(**{fault: ["c-1"]})
    job_id = submit(emulator, "sleep 60 || exit 7")
    emulator.wait()
    nothing_left(emulator)
    if fault == "vanish":
        if emulator.kind == "cobalt":
            assert verdict(emulator, job_id) == []
        else:
            words = {"pbs": ["qstat", "-x", job_id], "slurm": ["scontrol", "show", "job", job_id]}[emulator.kind]
            assert emulator.run(*words).returncode != 0
    else:
        assert verdict(emulator, job_id) == FAULTS[fault][emulator.kind]


def test_a_name_on_the_list_is_used_once(emulator: Emulator) -> None:
    emulator.set(kill_signal=["c-1"])
    ends = []
    for _ in range(2):
        submit(emulator, "sleep 0.3")
        emulator.wait()
        ends.append(emulator.events("ended")[-1]["exit_code"])
    assert ends == [-9, 0]


def test_fault_of_the_next_job_while_it_runs(emulator: Emulator) -> None:
    submit(emulator, "sleep 60")
    running(emulator)
    emulator.set(kill_signal={"count": 1, "signal": 15, "after": 0.1})
    emulator.wait()
    assert emulator.events("ended")[0]["exit_code"] == -15


def test_requeue_after_a_node_failure(tmp_path: Path) -> None:
    with Emulator("slurm", tmp_path / "emulator", requeue=True, node_fail=1) as slurm:
        marker = tmp_path / "second"
        job_id = submit(slurm, f"[ -e {marker} ] || {{ touch {marker}; sleep 60; }}")
        slurm.wait()
        assert [event["event"] for event in slurm.events()].count("started") == 2
        assert verdict(slurm, job_id) == ("COMPLETED", "0:0")


def test_twenty_jobs_at_once(emulator: Emulator) -> None:
    emulator.set(nodes=5)
    script = write(emulator, "sleep 0.1")
    words = SUBMIT[emulator.kind]
    clients = [
        subprocess.Popen([*words, f"c-{i}", str(script)], env=emulator.env(), cwd=script.parent, stdout=subprocess.PIPE)
        for i in range(20)
    ]
    ids = {client.communicate()[0].strip() for client in clients}
    assert len(ids) == 20
    assert b"" not in ids
    emulator.wait()
    assert sorted(event["name"] for event in emulator.events("ended")) == sorted(f"c-{i}" for i in range(20))
    busy = most = 0
    for event in emulator.events():
        busy += {"started": 1, "ended": -1}.get(event["event"], 0)
        most = max(most, busy)
    assert 1 < most <= 5
    assert emulator.overlaps() == []


def test_the_server_ends_with_the_last_job(emulator: Emulator) -> None:
    submit(emulator, "true")
    emulator.wait()
    pid = json.loads((emulator.folder / "server.json").read_text())["pid"]
    emulator.wait(lambda: processes.zombie(pid))  # or gone altogether
    assert (emulator.folder / "server.log").read_text() == ""


def test_stop_kills_everything(emulator: Emulator) -> None:
    submit(emulator, "setsid sleep 60 & sleep 60")
    running(emulator)
    emulator.stop()
    nothing_left(emulator)


@pytest.mark.mpi
def test_aprun(cobalt: Emulator) -> None:
    launch = "aprun -n 4 -N 2 -d 32 -j 1 -cc depth -e WORD=hello bash -c 'echo $WORD $ALPS_APP_PE; exit 5'"
    submit(
        cobalt, f"{launch}; echo code $?; aprun -n 4 -N 1 true; aprun --ppn 2 true; aprun -n 4 -N 2 -d 64 true", nodes=2
    )
    cobalt.wait()
    text, errors = ((cobalt.folder.parent / name).read_text() for name in ("run.output", "run.error"))
    assert sorted(re.findall(r"hello (\d)", text)) == ["0", "1", "2", "3"]
    assert "code 5\n" in text
    assert "apsched: claim exceeds reservation's node-count" in errors
    assert "aprun: unrecognized option '--ppn'" in errors
    assert "apsched: claim exceeds reservation's CPUs" in errors
    assert cobalt.run("aprun", "-n", "1", "true").returncode == 1


@pytest.mark.mpi
def test_pals_mpiexec(pbs: Emulator) -> None:
    launch = (
        "mpiexec -n 4 --ppn 2 --depth=8 --cpu-bind depth --env WORD=hello "
        "bash -c 'echo $WORD $PALS_RANKID $PALS_NODEID $PALS_LOCAL_RANKID'"
    )
    submit(pbs, f"{launch}; mpiexec -n 4 --ppn 1 true; mpiexec -N 2 true; mpiexec --cpu-bind cores true", nodes=2)
    pbs.wait()
    text = (pbs.folder.parent / OUTPUT).read_text()
    assert sorted(re.findall(r"hello (.*)", text)) == ["0 0 0", "1 0 1", "2 1 0", "3 1 1"]
    assert "more than the job's 2 nodes" in text
    assert "unrecognized option '-N'" in text
    assert "invalid CPU binding: cores" in text


@pytest.mark.mpi
def test_walltime_ends_ranks(cobalt: Emulator) -> None:
    cobalt.set(time_scale=0.02)
    submit(cobalt, "aprun -n 2 -N 2 bash -c 'trap \"\" TERM; sleep 60; sleep 60'", minutes=1)
    cobalt.wait()
    nothing_left(cobalt)


def test_commands_are_cheap_to_start(cobalt: Emulator) -> None:
    """No module beyond the standard library's light ones is loaded: what makes a command slow is its imports."""
    text = (cobalt.folder / "bin" / "qstat").read_text()
    assert text.startswith("#!")
    assert text.splitlines()[0].endswith(" -IS")
    probe = text.replace("finish(qstat, sys.argv[1:])", "print(*sorted(sys.modules))")
    result = subprocess.run(["python3", "-I", "-S", "-c", probe], capture_output=True, text=True, env=dict(os.environ))
    assert not {"argparse", "subprocess", "sqlite3", "random", "socket", "asyncio", "typing_extensions"} & set(
        result.stdout.split()
    )
