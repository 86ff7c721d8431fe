"""The emulated schedulers behave as the real ones: life cycles, files, exit codes, refusals, limits."""

import json
import re
from pathlib import Path

import pytest

from tests.emulators.control import Emulator
from tests.emulators.foreign import NASTY
from tests.support.emulated import (
    DELETE,
    OUTPUT,
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
