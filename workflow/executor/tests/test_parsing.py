"""What schedulers print, literally, and what is understood of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snakemake_executor_plugin_batch_script.schedulers import cobalt, pbs, slurm
from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    Live,
    Outcome,
    State,
    UnreachableError,
)
from snakemake_executor_plugin_batch_script.schedulers.commands import Answer, run
from snakemake_executor_plugin_batch_script.schedulers.directives import options, value

QUEUE = """\
101|c-0123456789ab|RUNNING|2026-05-01T10:00:00|None
102|c-1123456789ab|PENDING|N/A|Resources
103|c-2123456789ab|PENDING|N/A|JobHeldUser
104|odd|name|COMPLETING|2026-05-01T10:00:00|None
105|c-3123456789ab|COMPLETED|2026-05-01T10:00:00|None
106|c-4123456789ab|SOMETHING_NEW|N/A|(null)
squeue: warning: something
107|c-5
"""


def test_squeue() -> None:
    assert slurm.parse_queue(QUEUE) == [
        Live("101", "c-0123456789ab", State.RUNNING, "None"),
        Live("102", "c-1123456789ab", State.QUEUED, "Resources"),
        Live("103", "c-2123456789ab", State.HELD, "JobHeldUser"),
        Live("104", "odd|name", State.ENDING, "None"),
        Live("106", "c-4123456789ab", State.QUEUED, "(null)"),
    ]
    assert slurm.parse_queue("") == []


def details(state: str, code: str, reason: str = "None", run: str = "00:00:30", limit: str = "01:00:00") -> str:
    hours, minutes, seconds = run.split(":")
    return (
        f"JobId=7 JobName=c-0 UserId=me(1) GroupId=us(1) MCS_label=N/A Account=(null) JobState={state} Reason={reason} "
        f"Dependency=(null) ExitCode={code} RunTime={run} TimeLimit={limit} TimeMin=N/A SubmitTime=2026-05-01T09:59:50 "
        f"StartTime=2026-05-01T10:00:00 EndTime=2026-05-01T{10 + int(hours)}:{minutes}:{seconds} "
        f"Command=/home/me/a job.sh WorkDir=/x StdOut=/x/o.log Power= \n"
    )


@pytest.mark.parametrize(
    ("state", "code", "more", "outcome", "exit_code"),
    [
        ("COMPLETED", "0:0", {}, Outcome.DONE, 0),
        ("FAILED", "3:0", {"reason": "NonZeroExitCode"}, Outcome.FAILED, 3),
        ("FAILED", "2:0", {"reason": "NonZeroExitCode", "run": "00:59:58"}, Outcome.FAILED, 2),
        ("FAILED", "143:0", {"run": "00:59:01"}, Outcome.WALLTIME, 143),
        ("FAILED", "143:0", {"run": "00:30:01"}, Outcome.KILLED, 143),
        ("FAILED", "0:9", {"reason": "RaisedSignal:9(Killed)"}, Outcome.KILLED, 137),
        ("FAILED", "0:53", {"reason": "RaisedSignal:53(Real-time_signal_19)"}, Outcome.LAUNCH_FAILED, None),
        ("FAILED", "1:0", {"reason": "JobLaunchFailure"}, Outcome.LAUNCH_FAILED, 1),
        ("TIMEOUT", "0:15", {"reason": "TimeLimit"}, Outcome.WALLTIME, None),
        ("NODE_FAIL", "0:0", {}, Outcome.NODE_FAILURE, None),
        ("OUT_OF_MEMORY", "0:125", {}, Outcome.OUT_OF_MEMORY, None),
        ("CANCELLED", "0:15", {}, Outcome.CANCELLED, None),
        ("BOOT_FAIL", "0:0", {}, Outcome.LAUNCH_FAILED, None),
    ],
)
def test_scontrol(state: str, code: str, more: dict[str, str], outcome: Outcome, exit_code: int | None) -> None:
    told = slurm.parse_details(details(state, code, **more))["7"]
    assert isinstance(told, Ended)
    assert (told.outcome, told.exit_code, told.queued, told.final) == (outcome, exit_code, 10.0, True)


def test_scontrol_of_live_jobs_and_times_that_never_came() -> None:
    assert slurm.parse_details(details("RUNNING", "0:0")) == {"7": Live("7", "c-0", State.RUNNING, "None")}
    text = details("CANCELLED", "0:0").replace("2026-05-01T10:00:00", "Unknown")
    told = slurm.parse_details(text)["7"]
    assert isinstance(told, Ended)
    assert (told.queued, told.run) == (None, None)
    lines = details("TIMEOUT", "0:0").replace(" JobState", "\n   JobState").replace(" RunTime", "\n   RunTime")
    told = slurm.parse_details(f"{lines}\nJobId=8 JobName=x\n   JobState=PENDING Reason=Priority\n")
    assert (told["7"], told["8"]) == (
        slurm.parse_details(details("TIMEOUT", "0:0"))["7"], Live("8", "x", State.QUEUED, "Priority")
    )  # fmt: skip
    assert slurm.parse_details("") == slurm.parse_details("slurm_load_jobs error\n") == {}
    assert slurm.parse_details("JobId=7 JobName=c-0\n") == {}
    assert slurm.seconds_of("1-02:03:04") == 93784
    assert slurm.seconds_of("UNLIMITED") is None


def test_sacct() -> None:
    text = "7|c-0|CANCELLED by 1000|0:15|2026-05-01T09:00:00|2026-05-01T10:00:00|2026-05-01T10:01:00|01:00:00|None\nx\n"
    told = slurm.parse_accounting(text)["7"]
    assert isinstance(told, Ended)
    assert (told.outcome, told.queued, told.run) == (Outcome.CANCELLED, 3600, 60)


def record(**more: object) -> dict[str, object]:
    return {
        "Job_Name": "c-0", "Job_Owner": "me@login1", "job_state": "F", "substate": 92,
        "ctime": "Fri May  1 10:00:00 2026", "stime": "Fri May  1 10:00:20 2026",
        "Resource_List": {"walltime": "01:00:00"}, "resources_used": {"walltime": "00:01:00"},
        "comment": "Job run at ... and finished", **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "log", "outcome", "exit_code"),
    [
        ({"Exit_status": 0}, "", Outcome.DONE, 0),
        ({"Exit_status": 2}, "", Outcome.FAILED, 2),
        ({"Exit_status": 265}, "", Outcome.KILLED, 137),
        ({"Exit_status": 271}, "=>> PBS: job killed: walltime 3605 exceeded limit 3600", Outcome.WALLTIME, 143),
        ({"Exit_status": 271, "resources_used": {"walltime": "01:00:02"}}, "", Outcome.WALLTIME, 143),
        ({"Exit_status": 271, "substate": 91}, "", Outcome.CANCELLED, 143),
        ({"Exit_status": 271}, "", Outcome.KILLED, 143),
        ({"Exit_status": 137}, "Cgroup mem limit exceeded: oom-kill:constraint=X", Outcome.OUT_OF_MEMORY, 137),
        ({"Exit_status": -1}, "", Outcome.LAUNCH_FAILED, None),
        ({"Exit_status": -4}, "", Outcome.NODE_FAILURE, None),
        ({"substate": 91, "comment": "Not Running: job was deleted"}, "", Outcome.CANCELLED, None),
    ],
)
def test_qstat_of_ended_jobs(more: dict[str, object], log: str, outcome: Outcome, exit_code: int | None) -> None:
    told = pbs.judge("1.s", record(**more), log)
    assert isinstance(told, Ended)
    assert (told.outcome, told.exit_code, told.queued) == (outcome, exit_code, 20.0)


def test_qstat_listing() -> None:
    jobs = {
        "1.s": record(job_state="Q"), "2.s": record(job_state="H"), "3.s": record(job_state="E"), "4.s": record(),
        "5.s": record(job_state="R", Job_Owner="meg@login1"),
        "6.s": record(job_state="R"), "7.s": record(job_state="?"),
    }  # fmt: skip
    found = {live.job: live.state for live in pbs.parse_live(jobs, "me")}
    expected = {"1.s": State.QUEUED, "2.s": State.HELD, "3.s": State.ENDING, "6.s": State.RUNNING, "7.s": State.QUEUED}
    assert found == expected


def test_qstat_answers() -> None:
    whole = json.dumps({"Jobs": {"1.s": record()}})
    unknown = (
        "qstat: Unknown Job Id 2.s\nqstat: 3.s Job has finished, use -x or -H to obtain historical job information"
    )
    assert list(pbs.records(Answer("qstat", 153, whole, unknown))) == ["1.s"]
    assert pbs.unknown_jobs(unknown) == {"2.s"}
    assert pbs.records(Answer("qstat", 153, "", unknown)) == {}
    assert pbs.records(Answer("qstat", 0, '{"timestamp": 1}', "")) == {}
    bad = [
        (0, "", ""), (0, whole[:40], ""), (1, "", "qstat: cannot connect to server s (errno=111)"),
        (153, "", "Unknown Job Id 1.s\nConnection refused"), (1, whole, "something else"),
    ]  # fmt: skip
    for code, out, err in bad:
        with pytest.raises(UnreachableError):
            pbs.records(Answer("qstat", code, out, err))


def test_qstat_json_with_faults() -> None:
    needed = '"Job_Name": 123, "Job_Owner": "me@l", "job_state": "R"'
    text = f'{{"Jobs": {{"1.s": {{{needed}, "Account_Name": 007, "Variable_List": '
    text += '{"A": "tab\there", "B": "\\d"}, "n": .5}}}'
    assert pbs.records(Answer("qstat", 0, text, ""))["1.s"] == {
        "Job_Name": 123, "Job_Owner": "me@l", "job_state": "R",
        "Account_Name": "007", "Variable_List": {"A": "tab\there", "B": "\\d"}, "n": ".5"
    }  # fmt: skip


TABLE = """\
JobID  JobName         State
=====================================
11     c-0123456789ab  running
12     N/A             maxrun_hold
13     c-1123456789ab  user_hold
14     two words       killing
15     c-2123456789ab  queued
"""


def test_cobalt_table() -> None:
    assert [(live.job, live.name, live.state) for live in cobalt.parse_table(TABLE)] == [
        ("11", "c-0123456789ab", State.RUNNING), ("12", "N/A", State.QUEUED), ("13", "c-1123456789ab", State.HELD),
        ("14", "two words", State.ENDING), ("15", "c-2123456789ab", State.QUEUED),
    ]  # fmt: skip
    assert cobalt.parse_table("") == cobalt.parse_table("\n".join(TABLE.splitlines()[:2])) == []


VERDICT = "Info: task completed normally with an exit code of {}; initiating job cleanup and removal\n"
BEGIN = "Jobid: {0}\nqsub x\njobid {0} submitted from terminal None\n"


@pytest.mark.parametrize(
    ("log", "error", "outcome", "exit_code", "final"),
    [
        (BEGIN.format(5) + VERDICT.format(0), "", Outcome.DONE, 0, True),
        (BEGIN.format(5) + VERDICT.format(3), "", Outcome.FAILED, 3, True),
        (BEGIN.format(5) + VERDICT.format(143), "", Outcome.KILLED, 143, True),
        (BEGIN.format(5), "", None, None, False),
        ("", "", None, None, False),
        (BEGIN.format(4) + VERDICT.format(0), "", None, None, False),
        (BEGIN.format(4) + VERDICT.format(0) + BEGIN.format(5) + VERDICT.format(2), "", Outcome.FAILED, 2, True),
        (BEGIN.format(5) + VERDICT.format(1) + BEGIN.format(55) + VERDICT.format(0), "", Outcome.FAILED, 1, True),
        (BEGIN.format(5) + "Info: maximum execution time exceeded; initiating job terminiation\n" + VERDICT.format(143),
         "", Outcome.WALLTIME, 143, True),
        (BEGIN.format(5) + "Info: maximum execution time exceeded; initiating", "", Outcome.WALLTIME, None, False),
        (BEGIN.format(5) + "Info: user delete requested with signal SIGTERM by user me\n" + VERDICT.format(143),
         "", Outcome.CANCELLED, 143, True),
        (BEGIN.format(5) + VERDICT.format(137), "Apid 1: OOM killer terminated this process.", Outcome.OUT_OF_MEMORY,
         137, True),
        (BEGIN.format(5) + VERDICT.format(137), "Apid 1: killed. Received node event ec_node_failed for nid 12",
         Outcome.NODE_FAILURE, 137, True),
    ],
)  # fmt: skip
def test_cobaltlog(log: str, error: str, outcome: Outcome | None, exit_code: int | None, final: bool) -> None:
    told = cobalt.judge(log, "5", error)
    assert (told.outcome, told.exit_code, told.final) == (outcome, exit_code, final)
    assert (told == UNKNOWN) == (outcome is None)


def test_directives(tmp_path: Path) -> None:
    script = tmp_path / "a.sh"
    script.write_text("#!/bin/bash\n#PBS -j oe\n#PBS -o login:/x/a b.log\n#SBATCH --output=o-%j.log\n#COBALT -O /x/p\n")
    assert value(options(script, "#SBATCH"), "-o", "--output") == "o-%j.log"
    assert slurm.Slurm().log(script, "12") == Path("o-12.log")
    assert pbs.Pbs().log(script, "1.s") == Path("/x/a")
    assert cobalt.Cobalt().log(script, "5") == Path("/x/p.output")
    assert options(tmp_path / "none.sh", "#PBS") == []
    assert value(["-oX", "--output", "Y"], "-o", "--output") == "Y"
    assert value([], "-o") is None
    assert value(["-o"], "-o") is None


@pytest.mark.parametrize(
    ("words", "transient"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        ("qsub: cannot connect to server pbs (errno=111)", True),
        ("component error: Failed to connect to queue-manager", True),
        ("component error: XMLRPC failure timed out in queue-manager.add_jobs", True),
        ("sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
         False),
        ("sbatch: error: invalid partition specified: x", False),
        ("qsub: Job violates queue and/or server resource limits", False),
        ("qsub: Unknown queue", False),
        ("Project 'x' is not valid", False),
    ],
)  # fmt: skip
def test_transient_or_final(words: str, transient: bool) -> None:
    assert Answer("x", 1, "", words).transient is transient


def test_commands(tmp_path: Path) -> None:
    answer = run(["bash", "-c", "echo out; echo one >&2; echo two >&2; exit 3"])
    assert (answer.code, answer.out, answer.words) == (3, "out\n", "one; two")
    with pytest.raises(UnreachableError, match=r"sleep: no answer in 0\.2 seconds"):
        run(["sleep", "60"], timeout=0.2)
    with pytest.raises(UnreachableError, match="No such file"):
        run([str(tmp_path / "none")])
    # what is left in the background does not keep us waiting
    assert run(["bash", "-c", "sleep 60 & echo id"], timeout=10).out == "id\n"


def test_queries_are_not_filtered_by_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    assert run(["bash", "-c", "echo $SQUEUE_STATES"]).out.strip() == ""
    assert run(["bash", "-c", "echo $SQUEUE_STATES"], query=False).out.strip() == "PENDING"
