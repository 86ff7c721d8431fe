"""The real Snakemake with a tiny Slurm on the PATH that really runs scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SLURM = Path(__file__).parent / "programs" / "slurm.py"
SNAKEFILE = """\
rule all:
    localrule: True
    input: expand("{n}.out", n=config["jobs"].split("+"))

rule job:
    output: "{n}.out"
    log: "{n}.said"
    resources: batch_script=lambda wildcards: f"jobs/{wildcards.n}.sh"
    shell: "bash {resources.batch_script}"

rule odd:
    output: "odd.txt"
    shell: "touch {output}"
"""


def listen_to_ctrl_c() -> None:
    """As at a terminal: what a shell starts in the background ignores SIGINT, and so would what it starts in turn."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Campaign:
    """A folder with a Snakefile, scripts and the Slurm."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.slurm = folder, folder / "slurm"
        (folder / "jobs").mkdir()
        self.slurm.mkdir()
        (folder / "bin").mkdir()
        (folder / "Snakefile").write_text(SNAKEFILE)
        for program in ("sbatch", "squeue", "scontrol", "scancel"):
            path = folder / "bin" / program
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {SLURM} {program} "$@"\n')
            path.chmod(0o755)

    def script(self, name: str, body: str) -> None:
        text = (
            f"#!/bin/bash\n#SBATCH --output={self.folder}/jobs/{name}.log\ncd {self.folder}\necho run >>{name}.runs\n"
        )
        (self.folder / "jobs" / f"{name}.sh").write_text(text + body + "\n")

    def start(self, jobs: str, *options: str) -> subprocess.Popen[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        command = [
            sys.executable, "-m", "snakemake", "--executor", "batch-script", "--batch-script-scheduler", "slurm",
            "--batch-script-poll", "0.3", "--jobs", "10", "--cores", "1", "--keep-going", "--latency-wait", "2",
            "--nolock", "--ignore-incomplete", "--nocolor", *options, "--config", f"jobs={jobs}",
        ]  # fmt: skip
        return subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, "PATH": path, "FAKE_SLURM": str(self.slurm)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=listen_to_ctrl_c,  # noqa: PLW1509 (no threads here)
        )  # fmt: skip

    def run(self, jobs: str, *options: str) -> tuple[int, str]:
        process = self.start(jobs, *options)
        said = process.communicate(timeout=120)[0]
        return process.returncode, said

    def runs(self, name: str) -> int:
        path = self.folder / f"{name}.runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def events(self) -> list[dict[str, object]]:
        path = self.folder / "jobs" / ".journal.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def said_events(self, script: str) -> list[object]:
        return [event["event"] for event in self.events() if str(event.get("script", "")).endswith(f"/{script}.sh")]


def wait(condition: Callable[[], bool], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    campaign = Campaign(tmp_path)
    yield campaign
    for pid in campaign.slurm.glob("*.pid"):
        if not pid.with_suffix(".end").exists():
            os.killpg(int(pid.read_text()), signal.SIGKILL)


def test_good_and_bad_jobs(campaign: Campaign) -> None:
    campaign.script("good", "echo x >good.out")
    campaign.script("second", "[ -e mark ] && { echo x >second.out; exit 0; }; touch mark; kill -9 $$")
    campaign.script("mistake", "exit 2")
    campaign.script("bad", "exit 3")
    code, said = campaign.run("good+second+mistake+bad", "--batch-script-retries", "1")
    assert code == 1, said
    assert [campaign.runs(name) for name in ("good", "second", "mistake", "bad")] == [1, 2, 1, 2]
    assert (campaign.folder / "second.out").exists()
    assert "Jobs: 2 done, 2 failed; 2 submitted again" in said
    assert f"exit code 2; log: {campaign.folder}/jobs/mistake.log" in said
    assert "killed: killed by signal 9; submitted again (2 of 2)" in said
    assert campaign.said_events("mistake")[:2] == ["submitting", "submitted"]
    assert campaign.said_events("mistake")[-1] == "ended"


def test_a_killed_driver_and_the_next_one(campaign: Campaign) -> None:
    for name in "ab":
        campaign.script(name, f"until [ -e go ]; do sleep 0.1; done; echo x >{name}.out")
    driver = campaign.start("a+b")
    wait(lambda: campaign.runs("a") + campaign.runs("b") == 2)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    driver = campaign.start("a+b")
    wait(lambda: [event["event"] for event in campaign.events()].count("attached") == 2)
    (campaign.folder / "go").touch()
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 0, said
    assert "Jobs: 2 done" in said
    assert (campaign.runs("a"), campaign.runs("b")) == (1, 1)


def test_a_scheduler_that_is_away_for_a_while(campaign: Campaign) -> None:
    campaign.script("a", "until [ -e go ]; do sleep 0.1; done; echo x >a.out")
    driver = campaign.start("a")
    wait(lambda: campaign.runs("a") == 1)
    (campaign.slurm / "down").touch()
    wait(lambda: "unreachable" in [event["event"] for event in campaign.events()])
    (campaign.folder / "go").touch()
    (campaign.slurm / "down").unlink()
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 0, said
    assert said.count("does not answer") == 1
    assert said.count("the scheduler is back") == 1
    assert campaign.runs("a") == 1


def test_patience_ends_the_run_and_leaves_the_jobs(campaign: Campaign) -> None:
    campaign.script("a", "until [ -e go ]; do sleep 0.1; done; echo x >a.out")
    (campaign.slurm / "down").touch()
    code, said = campaign.run("a", "--batch-script-patience", "0.01")
    assert code == 1
    assert "the scheduler does not answer for more than 0.01 minutes" in said
    assert campaign.runs("a") == 0


def test_interrupting_cancels_all_jobs(campaign: Campaign) -> None:
    for name in "ab":
        campaign.script(name, "sleep 100")
    driver = campaign.start("a+b")
    wait(lambda: campaign.runs("a") + campaign.runs("b") == 2 and len(list(campaign.slurm.glob("*.pid"))) == 2)
    wait(lambda: [event["event"] for event in campaign.events()].count("submitted") == 2)
    driver.send_signal(signal.SIGINT)
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 1, said
    wait(lambda: len(list(campaign.slurm.glob("*.end"))) == 2)
    commands = (campaign.slurm / "commands").read_text().splitlines()
    assert len([line for line in commands if line.startswith("scancel")]) == 1
    assert [event["event"] for event in campaign.events()].count("cancelled") == 2
    assert "Jobs: 2 cancelled" in said


def test_refused_and_odd_jobs(campaign: Campaign) -> None:
    campaign.script("a", "echo x >a.out")
    (campaign.slurm / "refuse").write_text("Invalid account or account/partition combination specified")
    code, said = campaign.run("a", "odd.txt", "a.out")
    assert code == 1
    assert "refused: sbatch: error: Batch job submission failed: Invalid account" in said
    assert "odd: no resource batch_script" in said


def test_options(campaign: Campaign) -> None:
    campaign.script("a", "echo x >a.out")
    code, said = campaign.run("a", "--batch-script-retries", "-1")
    assert code == 1
    assert "--batch-script-retries, --batch-script-patience: not below 0" in said
    (campaign.folder / "bin" / "squeue").unlink()
    process = campaign.start("a", "--batch-script-scheduler", "cobalt")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "no qsub, qstat, qdel on the PATH" in said


def is_alive(pid: int) -> bool:
    """Whether a process runs (one that has ended may be there until its parent asks)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def here(campaign: Campaign, jobs: str, *options: str) -> subprocess.Popen[str]:
    """A driver without a scheduler."""
    return campaign.start(jobs, "--batch-script-scheduler", "none", "--batch-script-retries", "0", *options)


def test_without_a_scheduler_scripts_run_on_this_machine_in_turn(campaign: Campaign) -> None:
    for name in ("good", "second"):
        campaign.script(name, f"echo start {name} >>log; sleep 0.3; echo end >>log; echo x >{name}.out")
    campaign.script("bad", "echo why it failed; exit 3")
    driver = here(campaign, "good+second+bad", "--show-failed-logs")
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 1, said
    assert not (campaign.slurm / "commands").exists()
    assert sorted((campaign.folder / "log").read_text().splitlines()[::2]) == ["start good", "start second"]
    assert (campaign.folder / "log").read_text().splitlines()[1::2] == ["end", "end"], "one at a time"
    assert "Jobs: 2 done, 1 failed" in said
    assert f"good: started; output: {campaign.folder}/good.said" in said
    assert "good: ended after 0:00:0" in said
    assert said.count("why it failed") == 1, "the log of a script that failed is shown"
    assert campaign.said_events("good") == ["submitting", "submitted", "running", "ended"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_ends_the_script_on_this_machine(campaign: Campaign, number: signal.Signals) -> None:
    for name in "ab":
        campaign.script(name, "trap 'echo ended >>log; exit 5' TERM; sleep 100 & echo $! >pid; wait")
    driver = here(campaign, "a+b")
    wait(lambda: (campaign.folder / "pid").exists() and bool((campaign.folder / "pid").read_text()))
    driver.send_signal(number)
    said = driver.communicate(timeout=60)[0]
    assert driver.returncode == 1, said
    assert (campaign.folder / "log").read_text() == "ended\n"
    wait(lambda: not is_alive(int((campaign.folder / "pid").read_text())), timeout=5)
    assert [event["event"] for event in campaign.events()].count("cancelled") == 2
    assert "Jobs: 2 cancelled" in said


def test_a_killed_driver_and_the_next_one_on_this_machine(campaign: Campaign) -> None:
    for name in "ab":
        campaign.script(name, f"until [ -e go ]; do sleep 0.1; done; echo x >{name}.out")
    driver = here(campaign, "a+b")
    wait(lambda: campaign.runs("a") + campaign.runs("b") == 1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    driver = here(campaign, "a+b")
    wait(lambda: [event["event"] for event in campaign.events()].count("attached") == 1)
    (campaign.folder / "go").touch()
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 0, said
    assert (campaign.runs("a"), campaign.runs("b")) == (1, 1)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('benchmark: "b.txt"\n    resources: batch_script="x"', "benchmark: a script that is submitted is not meas"),
        ('group: "g"\n    resources: batch_script="x"', "a group of jobs is not submitted"),
        ('resources: batch_script="x", batch_order="first"', "resource batch_order: 'first' is no number"),
        ('resources: batch_order=1', "no resource batch_script"),
        ("", "no resource batch_script"),
    ],
)  # fmt: skip
def test_what_a_rule_asks_for_in_vain_is_refused(campaign: Campaign, rule: str, words: str) -> None:
    (campaign.folder / "Snakefile").write_text(f'rule one:\n    output: "a.out"\n    {rule}\n    shell: "true"\n')
    driver = here(campaign, "", "--batch-script-poll", "0.1")
    said = driver.communicate(timeout=60)[0]
    assert driver.returncode == 1
    assert words in said


def test_slots_are_no_matter_of_this_machine(campaign: Campaign) -> None:
    driver = here(campaign, "a", "--batch-script-slots", "2")
    said = driver.communicate(timeout=60)[0]
    assert driver.returncode == 1
    assert "--batch-script-slots: 1 with --batch-script-scheduler none" in said
