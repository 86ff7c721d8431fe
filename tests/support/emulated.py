"""An emulated scheduler for a test: how jobs are submitted to it, and what its commands tell of them."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.control import Emulator

KINDS = ("cobalt", "pbs", "slurm")
DIRECTIVES = {
    "cobalt": "#COBALT -n {nodes} -t {minutes} -q default -A science -O run",
    "pbs": "#PBS -l select={nodes}:system=polaris\n#PBS -l walltime=00:{minutes:02d}:00\n"
    "#PBS -l filesystems=home:eagle\n#PBS -q default\n#PBS -A science\n#PBS -j oe\n#PBS -o run.output",
    "slurm": "#SBATCH --nodes={nodes} --time={minutes}\n#SBATCH -p default -A science\n#SBATCH -o run.output",
}
SUBMIT = {
    "cobalt": ["qsub", "--jobname"],
    "pbs": ["qsub", "-N"],
    "slurm": ["sbatch", "--parsable", "-J"],
}
DELETE = {"cobalt": "qdel", "pbs": "qdel", "slurm": "scancel"}
OUTPUT = "run.output"


@pytest.fixture(params=KINDS)
def emulator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(request.param, tmp_path / "emulator", grace_s=0.3) as one:
        yield one


@pytest.fixture
def cobalt(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator("cobalt", tmp_path / "emulator", grace_s=0.3) as one:
        yield one


@pytest.fixture
def pbs(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator("pbs", tmp_path / "emulator", grace_s=0.3) as one:
        yield one


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator("slurm", tmp_path / "emulator", grace_s=0.3) as one:
        yield one


def write(emulator: Emulator, body: str, nodes: int = 1, minutes: int = 5, name: str = "job.sh") -> Path:
    script = emulator.folder.parent / name
    directives = DIRECTIVES[emulator.kind].format(nodes=nodes, minutes=minutes)
    script.write_text(f"#!/bin/bash\n{directives}\n{body}\n")
    script.chmod(0o755)
    return script


def submit(emulator: Emulator, body: str, name: str = "c-1", **more: Any) -> str:
    result = try_submit(emulator, write(emulator, body, **more), name)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def try_submit(emulator: Emulator, script: Path, name: str = "c-1") -> subprocess.CompletedProcess[str]:
    return emulator.run(*SUBMIT[emulator.kind], name, str(script), cwd=script.parent)


def states(emulator: Emulator) -> dict[str, str]:
    """What one call tells of all live jobs: state by name, in each scheduler's own words."""
    user = emulator.env()["USER"]
    if emulator.kind == "cobalt":
        lines = emulator.run("qstat", "-u", user, "--header=JobName:State").stdout.splitlines()[2:]
        return dict(line.split() for line in lines)
    if emulator.kind == "pbs":
        found = json.loads(emulator.run("qstat", "-u", user, "-f", "-F", "json").stdout).get("Jobs", {})
        return {job["Job_Name"]: job["job_state"] for job in found.values()}
    return dict(line.split("|") for line in emulator.run("squeue", "--me", "-h", "-o", "%j|%T").stdout.splitlines())


def verdict(emulator: Emulator, job_id: str) -> Any:
    """How a job ended: Exit_status, JobState with ExitCode, or the code and the other words of the .cobaltlog."""
    if emulator.kind == "cobalt":
        return re.findall(r"(?:Info|ERROR): (.*)", (emulator.folder.parent / "run.cobaltlog").read_text())[3:]
    if emulator.kind == "pbs":
        found = json.loads(emulator.run("qstat", "-x", "-f", "-F", "json", job_id).stdout)
        return found["Jobs"][job_id]["Exit_status"]
    text = emulator.run("scontrol", "show", "job", job_id).stdout
    return tuple(re.search(rf"\b{key}=(\S+)", text)[1] for key in ("JobState", "ExitCode"))  # type: ignore[index]


def completed(code: Any) -> str:
    return f"task completed normally with an exit code of {code}; initiating job cleanup and removal"


def running(emulator: Emulator) -> None:
    emulator.wait(lambda: emulator.events("started"))


def nothing_left(emulator: Emulator) -> None:
    """No process of any job is left. Looked up without the emulator's own means, which could be what is wrong."""
    server = json.loads((emulator.folder / "server.json").read_text())["pid"]
    left = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"EMULATOR_HOME={emulator.folder}\0".encode() in path.read_bytes() and int(path.parent.name) != server:
                left.append((path.parent / "cmdline").read_bytes())
    assert left == [], left  # said here, since this module's asserts are not rewritten
