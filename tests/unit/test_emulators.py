"""The emulated schedulers behave as the real ones: life cycles, files, exit codes, errors, faults, many jobs."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators import processes
from tests.emulators.control import Emulator
from tests.emulators.foreign import NASTY

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
    assert left == []


def test_life_of_a_job(emulator: Emulator) -> None:
    gate = emulator.folder / "gate"
    job_id = submit(emulator, f"until [ -e {gate} ]; do sleep 0.02; done; echo done; echo problem >&2; exit 3", nodes=2)
    assert re.fullmatch({"cobalt": r"\d+", "pbs": r"\d+\.emulated", "slurm": r"\d+"}[emulator.kind], job_id)
    running(emulator)
    assert states(emulator) == {"c-1": {"cobalt": "running", "pbs": "R", "slurm": "RUNNING"}[emulator.kind]}
    gate.touch()
    emulator.wait()
    assert states(emulator) == {}
    expected = {"cobalt": [completed(3)], "pbs": 3, "slurm": ("FAILED", "3:0")}
    assert verdict(emulator, job_id) == expected[emulator.kind]
    assert "done\n" in (emulator.folder.parent / OUTPUT).read_text()
    assert [event["event"] for event in emulator.events()] == ["submitted", "started", "ended"]


def test_environment_and_folder(emulator: Emulator) -> None:
    submit(emulator, "pwd; env", nodes=2)
    emulator.wait()
    text = (emulator.folder.parent / OUTPUT).read_text()
    folder, variables = text.partition("\n")[0], dict(line.partition("=")[::2] for line in text.splitlines())
    here, number = str(emulator.folder.parent), emulator.events()[0]["id"]
    if emulator.kind == "cobalt":
        assert folder == here
        assert (variables["COBALT_JOBID"], variables["COBALT_JOBSIZE"]) == (number, "2")
    elif emulator.kind == "pbs":  # starts in the home folder; nothing of the submitting shell but PBS_O_*
        assert folder == str(emulator.folder / "home")
        assert (variables["PBS_O_WORKDIR"], variables["PBS_JOBID"]) == (here, number)
        assert len(Path(variables["PBS_NODEFILE"]).read_text().split()) == 2
        assert "PYTEST_CURRENT_TEST" not in variables
    else:
        assert folder == here
        assert (variables["SLURM_JOB_ID"], variables["SLURM_NNODES"]) == (number, "2")
        assert "PYTEST_CURRENT_TEST" in variables


def test_walltime_ends_the_script_and_all_its_processes(emulator: Emulator) -> None:
    emulator.set(time_scale=0.01)  # one minute lasts 0.6 s
    # The inner process ignores SIGTERM and has a session of its own: only the mark in its environment finds it.
    job_id = submit(emulator, "setsid bash -c 'trap \"\" TERM; sleep 60' & sleep 60", minutes=1)
    emulator.wait()
    nothing_left(emulator)
    if emulator.kind == "cobalt":
        [said] = verdict(emulator, job_id)  # and no word of an exit code
        assert said.startswith("maximum execution time exceeded; initiating job termin")
    elif emulator.kind == "pbs":
        assert verdict(emulator, job_id) == 256 + 15
        assert "PBS: job killed: walltime 60 exceeded limit 60" in (emulator.folder.parent / OUTPUT).read_text()
    else:
        assert verdict(emulator, job_id) == ("TIMEOUT", "0:15")


def test_a_script_that_ignores_sigterm_is_killed(emulator: Emulator) -> None:
    ready = emulator.folder / "ready"
    job_id = submit(emulator, f"trap '' TERM; touch {ready}; while true; do sleep 0.1; done")
    emulator.wait(ready.exists)
    assert emulator.run(DELETE[emulator.kind], job_id).returncode == 0
    emulator.wait()
    nothing_left(emulator)
    if emulator.kind == "cobalt":
        user = emulator.env()["USER"]
        assert verdict(emulator, job_id) == [f"user delete requested with signal SIGTERM by user {user}"]
    else:
        assert verdict(emulator, job_id) == {"pbs": 256 + 9, "slurm": ("CANCELLED", "0:9")}[emulator.kind]


def test_deleting_a_queued_job(emulator: Emulator) -> None:
    emulator.set(queue_delay=1000)
    job_id = submit(emulator, "true")
    assert states(emulator) == {"c-1": {"cobalt": "queued", "pbs": "Q", "slurm": "PENDING"}[emulator.kind]}
    emulator.run(DELETE[emulator.kind], job_id)
    emulator.wait()
    assert emulator.events("started") == []


def test_hold_and_release(emulator: Emulator) -> None:
    emulator.set(hold=["c-held"])
    submit(emulator, "true", name="c-free")
    submit(emulator, "true", name="c-held")
    emulator.wait(
        lambda: states(emulator) == {"c-held": {"cobalt": "user_hold", "pbs": "H"}.get(emulator.kind, "PENDING")}
    )
    emulator.set(hold=None)
    emulator.wait()
    assert [event["name"] for event in emulator.events("ended")] == ["c-free", "c-held"]


def test_unknown_jobs(cobalt: Emulator, tmp_path: Path) -> None:
    gone = cobalt.run("qstat", "77")
    assert (gone.returncode, gone.stdout, gone.stderr) == (1, "", "")
    assert "qdel: Job 77 not found" in cobalt.run("qdel", "77").stdout
    other = Emulator("pbs", tmp_path / "pbs")
    unknown = other.run("qstat", "-x", "-f", "-F", "json", "77")
    assert (unknown.returncode, unknown.stderr) == (153, "qstat: Unknown Job Id 77.emulated\n")
    assert other.run("qdel", "77").returncode == 153
    slurm = Emulator("slurm", tmp_path / "slurm").run("scontrol", "show", "job", "77")
    assert (slurm.returncode, slurm.stderr) == (1, "slurm_load_jobs error: Invalid job id specified\n")


def test_pbs_asks_for_x_once_a_job_has_finished(pbs: Emulator) -> None:
    job_id = submit(pbs, "true")
    pbs.wait()
    told = pbs.run("qstat", job_id)
    assert told.returncode == 35
    assert "Job has finished, use -x" in told.stderr
    assert pbs.run("qdel", job_id).returncode == 35
    assert json.loads(pbs.run("qstat", "-f", "-F", "json").stdout).keys() == {"timestamp", "pbs_version", "pbs_server"}
    shown = json.loads(pbs.run("qstat", "-x", "-f", "-F", "json", job_id, "77").stdout)["Jobs"][job_id]
    assert shown["Resource_List"]["walltime"] == "00:05:00"
    assert shown["Resource_List"]["select"] == "1:system=polaris"
    assert shown["job_state"] == "F"


def test_pbs_selects_jobs(pbs: Emulator) -> None:
    """Ids alone, a line each; nobody else's where a user is named."""
    pbs.set(foreign=2, queue_delay=1000)
    first, second = submit(pbs, "true", name="c-1"), submit(pbs, "true", name="c-2")
    user = pbs.env()["USER"]
    assert pbs.run("qselect", "-u", user).stdout.splitlines() == [first, second]
    assert pbs.run("qselect", "-u", user, "-N", "c-2").stdout.split() == [second]
    assert len(pbs.run("qselect").stdout.split()) == 4
    pbs.set(queue_delay=None)
    pbs.wait()
    nothing = pbs.run("qselect", "-u", user)
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "")
    assert pbs.run("qselect", "-x", "-u", user, "-s", "F").stdout.splitlines() == [first, second]
    pbs.set(down=True)
    away = pbs.run("qselect", "-u", user)
    assert (away.returncode, away.stdout) == (111, "")
    assert "qselect: cannot connect to server emulated (errno=111)" in away.stderr
    assert pbs.run("qselect", "--bad").returncode == 2


def test_pbs_output_files(pbs: Emulator, tmp_path: Path) -> None:
    script = tmp_path / "plain.sh"
    script.write_text("#!/bin/bash\n#PBS -l walltime=00:01:00\necho out; echo err >&2\n")
    number = pbs.run("qsub", "-N", "c-2", str(script), cwd=tmp_path).stdout.partition(".")[0]
    pbs.wait()
    assert (tmp_path / f"c-2.o{number}").read_text() == "out\n"
    assert (tmp_path / f"c-2.e{number}").read_text() == "err\n"


def test_schedulers_with_a_spool_run_the_text_of_submission(emulator: Emulator) -> None:
    emulator.set(queue_delay=0.3)
    submit(emulator, "echo old")
    write(emulator, "echo new")
    emulator.wait()
    assert ("new" if emulator.kind == "cobalt" else "old") in (emulator.folder.parent / OUTPUT).read_text()


def test_refusals(emulator: Emulator) -> None:
    folder = emulator.folder.parent
    cases = {
        "queue": write(emulator, "true", name="queue.sh"),
        "time": write(emulator, "true", name="time.sh"),
        "nodes": write(emulator, "true", name="nodes.sh", nodes=9),
    }
    cases["queue"].write_text(re.sub(r"(-[qp]) default", r"\1 nowhere", cases["queue"].read_text()))
    emulator.set(queues={"default": {"max_walltime_s": 240, "max_nodes": 100}})
    expected = {
        "cobalt": {"queue": "Queue 'nowhere' does not exist"},
        "pbs": {"queue": "qsub: Unknown queue", "time": "Job violates queue and/or server resource limits"},
        "slurm": {"queue": "Invalid partition name", "time": "Requested time limit is invalid"},
    }[emulator.kind]
    for case, script in cases.items():
        result = try_submit(emulator, script)
        assert result.returncode != 0
        assert result.stdout == ""
        assert expected.get(case, "") in result.stderr
    assert try_submit(emulator, folder / "missing.sh").returncode != 0
    emulator.set(queues=None, accounts=["other"])
    assert try_submit(emulator, write(emulator, "true")).returncode != 0
    emulator.set(accounts=None, refuse="closed for maintenance")
    assert "closed for maintenance" in try_submit(emulator, write(emulator, "true")).stderr
    assert emulator.events() == []


def test_cobalt_wants_an_executable_and_directives_at_the_top(cobalt: Emulator) -> None:
    script = write(cobalt, "true")
    script.chmod(0o644)
    assert try_submit(cobalt, script).stderr == f"command {script} is not executable\n"
    script.chmod(0o755)
    script.write_text(script.read_text().replace("#COBALT", "\n#COBALT"))
    assert try_submit(cobalt, script).stderr == "'time' not provided\n"


def test_pbs_refuses_wrong_syntax(pbs: Emulator) -> None:
    script = str(write(pbs, "true"))
    for words, code in ((["-l", "select=two"], 166), (["-l", "walltime"], 2), (["-N", "a b"], 2), (["-y"], 2)):
        assert pbs.run("qsub", *words, script).returncode == code, words


def test_a_users_limit_is_kept_to(emulator: Emulator) -> None:
    """By queue; refused in each scheduler's own words, and nothing is queued."""
    emulator.set(max_jobs={"default": 2}, queue_delay=1000)
    for name in ("c-1", "c-2"):
        submit(emulator, "true", name=name)
    refused = try_submit(emulator, write(emulator, "true"), "c-3")
    assert refused.returncode != 0
    assert refused.stdout == ""
    assert {
        "cobalt": "The limit of 2 jobs per user in the 'default' queue has been reached",
        "pbs": "qsub: would exceed queue default's per-user limit\n",
        "slurm": "sbatch: error: QOSMaxSubmitJobPerUserLimit\n",
    }[emulator.kind] in refused.stderr
    emulator.set(queue_delay=None)
    emulator.wait()
    assert len(emulator.events("submitted")) == 2
    assert try_submit(emulator, write(emulator, "true"), "c-3").returncode == 0
    emulator.wait()


def test_a_limit_of_waiting_jobs(pbs: Emulator) -> None:
    pbs.set(max_waiting=1, nodes=1)
    submit(pbs, "sleep 30", name="c-1")
    running(pbs)
    submit(pbs, "true", name="c-2")
    refused = try_submit(pbs, write(pbs, "true"), "c-3")
    assert refused.stderr == "qsub: would exceed queue default's per-user limit of jobs in 'Q' state\n"


def test_a_confused_server_may_take_a_job_all_the_same(emulator: Emulator) -> None:
    emulator.set(disturb={"rate": 0.5, "texts": ["internal error", "table full"], "taken": 0.5, "seed": 3})
    script = write(emulator, "true")
    said = [try_submit(emulator, script, f"c-{i}") for i in range(24)]
    failed = [result for result in said if result.returncode != 0]
    assert {result.stderr for result in failed} == {"internal error\n", "table full\n"}
    emulator.wait()
    taken = len(emulator.events("ended"))
    assert 24 - len(failed) < taken < 24


def test_pbs_prints_other_peoples_records_as_they_are(pbs: Emulator) -> None:
    pbs.set(queue_delay=1000, foreign_records=list(NASTY))
    mine = [submit(pbs, "true", name=f"c-{i}") for i in range(3)]
    everything = pbs.run("qstat", "-f", "-F", "json").stdout
    with pytest.raises(json.JSONDecodeError):
        json.loads(everything, strict=False)
    assert [id_ for id_ in (*mine, *(f"90{i}.other" for i in range(1, 6))) if f'"{id_}"' not in everything] == []
    assert json.loads(pbs.run("qstat", "-f", "-F", "json", *mine).stdout)["Jobs"].keys() == set(mine)
    pbs.set(foreign_records=['"1.other": {"Job_Name": "fine"}'])
    assert json.loads(pbs.run("qstat", "-f", "-F", "json").stdout)["Jobs"].keys() == {*mine, "1.other"}


def test_pbs_walltime_by_the_servers_own_status(pbs: Emulator) -> None:
    pbs.set(time_scale=0.01, walltime_status=-29)
    job_id = submit(pbs, "sleep 60", minutes=1)
    pbs.wait()
    assert verdict(pbs, job_id) == -29
    told = json.loads(pbs.run("qstat", "-x", "-f", "-F", "json", job_id).stdout)["Jobs"][job_id]
    assert told["comment"].endswith(" and exceeded resource walltime")


def test_pbs_runs_scripts_by_the_login_shell_unless_told(pbs: Emulator, tmp_path: Path) -> None:
    shell = tmp_path / "loginshell"
    shell.write_text('#!/bin/sh\necho "by the login shell"\n')
    shell.chmod(0o755)
    pbs.set(login_shell=str(shell))
    submit(pbs, "echo by bash")
    pbs.wait()
    assert (tmp_path / OUTPUT).read_text() == "by the login shell\n"
    (tmp_path / OUTPUT).unlink()
    assert pbs.run("qsub", "-S", "/bin/bash", str(tmp_path / "job.sh"), cwd=tmp_path).returncode == 0
    pbs.wait()
    assert (tmp_path / OUTPUT).read_text() == "by bash\n"


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("%j.log", "1001.log"), ("%x-%A.log", "c-1-1001.log"), ("%6j.log", "001001.log"), ("a%%b", "a%b"),
        ("mine%3Atiny", "mine1001tiny"), ("%N", "node1"), ("100%q", "100%q"), ("50%", "50%"), ("a\\%j", "a%j"),
    ],
)  # fmt: skip
def test_slurm_expands_names_of_output_files(slurm: Emulator, tmp_path: Path, pattern: str, name: str) -> None:
    script = tmp_path / "plain.sh"
    script.write_text(f"#!/bin/bash\n#SBATCH --output={pattern}\necho here\n")
    number = slurm.run("sbatch", "--parsable", "-J", "c-1", str(script), cwd=tmp_path).stdout.strip()
    slurm.wait()
    assert (tmp_path / name).read_text() == "here\n"
    assert f"StdOut={tmp_path / name}\n" in slurm.run("scontrol", "show", "job", number).stdout


def test_slurm_jobs_of_another_cluster(slurm: Emulator) -> None:
    """Their ids come with the cluster's name, and no command knows them without it."""
    slurm.set(clusters=["gpu"], queue_delay=1000)
    script = str(write(slurm, "true"))
    told = slurm.run("sbatch", "--parsable", "--clusters", "gpu", "-J", "c-1", script)
    assert told.stdout == "1001;gpu\n"
    assert slurm.run("sbatch", "-M", "gpu", script).stdout == "Submitted batch job 1002 on cluster gpu\n"
    assert "No cluster 'x' known" in slurm.run("sbatch", "-M", "x", script).stderr
    assert slurm.run("squeue", "--me", "-h", "-o", "%i").stdout == ""
    assert slurm.run("squeue", "--me", "-h", "-M", "gpu", "-o", "%i").stdout == "CLUSTER: gpu\n1001\n1002\n"
    assert slurm.run("scontrol", "show", "job", "1001").returncode == 1
    assert "JobId=1001" in slurm.run("scontrol", "-M", "gpu", "show", "job", "1001").stdout
    assert slurm.run("scancel", "1001").returncode == 1
    assert slurm.run("scancel", "-M", "gpu", "1001", "1002").returncode == 0
    slurm.wait()


def test_cobalt_says_why_a_queued_job_is_gone(cobalt: Emulator) -> None:
    cobalt.set(queue_delay=1000)
    job_id = submit(cobalt, "true")
    cobalt.run("qdel", job_id)
    cobalt.wait()
    log = (cobalt.folder.parent / "run.cobaltlog").read_text()
    assert log.splitlines()[-1].endswith("Info: user delete requested; removing job from the queue")


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
