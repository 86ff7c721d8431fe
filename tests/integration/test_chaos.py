"""Many jobs under the executor while everything goes wrong at random, by a seed: jobs, scheduler and driver.

A Snakefile of its own, since campaigns have no part in it. BNN_CHAOS is the number of scripts (40), BNN_CHAOS_SEED the
seed. Packed, four share a job side by side, twice in turn.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.cobalt import FAULT
from tests.emulators.control import Emulator
from tests.emulators.foreign import NASTY
from tests.support.faults import violations
from tests.support.packs import apart
from tests.support.ranks import BIN

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]

JOBS = int(os.environ.get("BNN_CHAOS", "40"))
SEED = int(os.environ.get("BNN_CHAOS_SEED", "1"))
DEADLINE_S = 120 + 1.2 * JOBS
SNAKEFILE = """
rule all:
    localrule: True
    input:
        expand("out/{number}", number=range(%d)),

rule work:
    output:
        "out/{number}",
    resources:
        batch_script=lambda wildcards: f"jobs/{wildcards.number}.sh",
    shell:
        "bash {resources.batch_script}"
"""
# What a campaign's job scripts keep to: one at a time, nothing again once it is done, the output whole and last.
SCRIPT = """#!/usr/bin/env bash
{directives}
cd {folder}
exec 9>>locks/{number}
flock -w 60 9 || exit 75
[ ! -e out/{number} ] || exit 0
echo start >>runs/{number}
attempt=$(wc -l <runs/{number})
sleep 0.2
{misdeeds}
echo "$attempt" >out/.{number}.$$
mv out/.{number}.$$ out/{number}
"""
DIRECTIVES = {
    "cobalt": "#COBALT -n 1\n#COBALT -t 60\n#COBALT -q default\n#COBALT -O {output}",
    "pbs": "#PBS -l select=1\n#PBS -l walltime=01:00:00\n#PBS -q default\n#PBS -j oe\n#PBS -o {output}.log\n#PBS -r n",
}
PART = "\n#BATCH_SCRIPT --pack {folder}/jobs/head.sh --nodes 1 --minutes 60"
HEADS = {
    "cobalt": "#COBALT -n 4\n#COBALT -t 120\n#COBALT -q default\n#COBALT -O @PACK@/job",
    "pbs": "#PBS -l select=4\n#PBS -l walltime=02:00:00\n#PBS -q default\n#PBS -j oe\n#PBS -o @PACK@/job.log",
}
MISDEEDS = ("exit 3", "exit 2", "kill -SEGV $$", "kill -KILL $$", "sleep 600")
CONFUSED = {
    "cobalt": [
        "component error: Failed to connect to queue-manager: 'x:cn:queue-manager'\n",
        "component error: XMLRPC failure <Fault 1: 'an unexpected exception'> in queue-manager.add_jobs\n",
    ],
    "pbs": ["qsub: Server connection table full", "qsub: PBS server internal error", "qsub: Invalid credential"],
}
UNKNOWN_QUEUE = {
    "cobalt": FAULT.format(1001, "Queue 'default' does not exist", "queue-manager.add_jobs"),
    "pbs": "qsub: Unknown queue",
}
FATES = ("vanish", "kill_signal", "node_fail", "oom", "launch_fail")  # of the scheduler's, one job each time


class Chaos:
    """Jobs of which some misbehave, a scheduler with faults, and what disturbs them and the driver."""

    def __init__(self, kind: str, packed: bool, folder: Path) -> None:
        self.folder, self.kind, self.packed = folder, kind, packed
        self.chance = random.Random(f"{SEED} {kind} {packed}")
        self.emulator = Emulator(kind, folder / "scheduler", nodes=24, time_scale=0.001, grace_s=0.2)
        for name in ("jobs", "out", "runs", "locks", "logs"):
            (folder / name).mkdir()
        (folder / "out" / ".kept").touch()  # Snakemake removes a folder that an interrupted job leaves empty
        (folder / "Snakefile").write_text(SNAKEFILE % JOBS)
        for number in range(JOBS):
            self._write_script(number)
        if packed:
            head = f"#!/bin/bash\n{HEADS[kind]}\n#BATCH_SCRIPT --nodes 4 --minutes 120\n"
            (folder / "jobs" / "head.sh").write_text(head)
        some: dict[str, dict[str, Any]] = {}
        for fate in FATES:  # (a packed job has a name of its own: any may be hit)
            numbers = self.chance.sample(range(JOBS), max(1, JOBS // 50))
            hit = {"count": len(numbers)} if packed else {"jobs": [self.job(n) for n in numbers]}
            some[fate] = hit | {"after": 0.1}
        self.emulator.set(
            flap=0.03, flap_seed=SEED, submit_lost=JOBS // 20, time_scale=0.002, max_jobs=25, walltime_status=-29,
            foreign=3, **some
        )  # fmt: skip
        self.happened: Counter[str] = Counter()
        self.driver: subprocess.Popen[bytes] | None = None

    def _write_script(self, number: int) -> None:
        """A fifth of the jobs misbehave once or twice."""
        bad = self.chance.sample(MISDEEDS, self.chance.choice((1, 1, 2))) if self.chance.random() < 0.2 else []
        lines = [f'[ "$attempt" != {i} ] || {deed}' for i, deed in enumerate(bad, start=1)]
        directives = DIRECTIVES[self.kind].format(output=self.folder / "logs" / str(number))
        directives += PART.format(folder=self.folder) if self.packed else ""
        path = self.folder / "jobs" / f"{number}.sh"
        path.write_text(
            SCRIPT.format(directives=directives, folder=self.folder, number=number, misdeeds="\n".join(lines))
        )
        path.chmod(0o755)

    def job(self, number: int) -> str:
        """A job's name at the scheduler."""
        return f"c-{hashlib.sha256(bytes(self.folder / 'jobs' / f'{number}.sh')).hexdigest()[:12]}"

    def start(self) -> None:
        who = pwd.getpwuid(os.geteuid()).pw_name
        options = {
            "executor": "batch-script", "batch-script-scheduler": self.kind, "batch-script-retries": 3,
            "batch-script-poll": 0.5,
            "jobs": 60, "batch-script-gather": 0.5, "keep-going": True, "nolock": True, "ignore-incomplete": True,
            "latency-wait": 3,
        }  # fmt: skip
        profile = self.folder / "faulty"
        profile.mkdir(exist_ok=True)
        (profile / "config.yaml").write_text(json.dumps(options))
        with (self.folder / "driver.log").open("ab") as log:
            self.driver = subprocess.Popen(
                [BIN / "snakemake", "--profile", profile], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=self.emulator.env(USER=who, LOGNAME=who), start_new_session=True,
            )  # fmt: skip

    def disturb(self) -> None:
        """One thing goes wrong, and is mended after a while."""
        what = self.chance.choice(
            (
                "down", "down for submissions", "hangs", "slow", "confused", "limit", "unknown words", "refuses",
                "holds", "foreign records", "driver killed", "driver interrupted",
            )
        )  # fmt: skip
        self.happened[what] += 1
        fault: dict[str, Any] = {
            "down": {"down": True},
            "down for submissions": {"down": True, "down_commands": ["qsub"]},
            "hangs": {"down": 1.5},
            "slow": {"slow": 0.3},
            "confused": {"disturb": {"rate": 0.6, "texts": CONFUSED[self.kind], "taken": 0.3, "seed": SEED}},
            "limit": {"max_jobs": self.chance.randrange(4)},
            "unknown words": {"refuse": "no more jobs today"},
            "refuses": {"refuse": UNKNOWN_QUEUE[self.kind]},
            "foreign records": {"foreign_records": list(NASTY)} if self.kind == "pbs" else {},
            "holds": {"hold": self.packed or [self.job(n) for n in self.chance.sample(range(JOBS), JOBS // 4)]},
            "driver killed": {"slow_qsub": 0.5},  # more likely within a submission
        }.get(what, {})
        self.emulator.set(**fault)
        time.sleep(self.chance.uniform(0.5, 2.5))
        if what == "driver killed" and self.driver:
            os.kill(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        if what == "driver interrupted" and self.driver and self.driver.poll() is None:
            os.killpg(self.driver.pid, signal.SIGINT)
            self.driver.wait(120)
        self.emulator.set(**(dict.fromkeys(fault) | {"max_jobs": 25}))

    def missing(self) -> int:
        """Outputs that are not there yet."""
        return JOBS - sum(not path.name.startswith(".") for path in (self.folder / "out").iterdir())

    def run(self) -> None:
        """Drivers, one after the other, until one says that all is done; in peace at the end."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.start()
            assert self.driver is not None
            self.happened["drivers"] += 1
            calm = time.monotonic() > deadline - DEADLINE_S / 2
            while self.driver.poll() is None:
                assert time.monotonic() < deadline, f"{self.missing()} of {JOBS} are not done; {self.happened}"
                time.sleep(0.2 if calm else self.chance.uniform(1.0, 6.0))
                if not calm and self.missing() and self.driver.poll() is None:
                    self.disturb()
            if self.driver.returncode == 0:
                return

    def close(self) -> None:
        if self.driver and self.driver.poll() is None:
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        self.emulator.stop()


@pytest.fixture(params=["cobalt", "pbs", "cobalt packed", "pbs packed"])
def chaos(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chaos]:
    kind, _, packed = request.param.partition(" ")
    made = Chaos(kind, bool(packed), tmp_path)
    yield made
    made.close()


@pytest.mark.timeout(2 * DEADLINE_S)
def test_no_job_is_lost_run_twice_or_falsely_complete(chaos: Chaos) -> None:
    start = time.monotonic()
    chaos.run()
    seconds = time.monotonic() - start
    chaos.emulator.wait()
    own = chaos.emulator.events()
    events = apart(own, chaos.folder / "jobs")
    counts = Counter(event["event"] for event in events)
    faults = Counter(event["fault"] for event in own if event["event"] == "fault")
    submissions = sum(event["event"] == "submitted" for event in own)
    ended = Counter(event["exit_code"] for event in events if event["event"] == "ended")
    print(f"\n{JOBS} scripts in {seconds:.0f} s, {submissions} submissions: {dict(counts)}")
    print(f"{dict(faults)}, exit codes {dict(ended)}, {dict(chaos.happened)}")
    assert violations(events) == []
    assert chaos.missing() == 0
    succeeded = {event["name"] for event in events if event["event"] == "ended" and event.get("exit_code") == 0}
    assert succeeded == {chaos.job(number) for number in range(JOBS)}
    assert counts["submitted"] > JOBS, "there was no chaos"
