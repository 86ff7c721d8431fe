"""Scripts on this machine while drivers are killed and interrupted at random, by the seed BNN_CHAOS_SEED: never two at
a time, none lost, none done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.ranks import BIN

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]

JOBS = 24
SEED = int(os.environ.get("BNN_CHAOS_SEED", "1"))
DEADLINE_S = 240
SNAKEFILE = """
rule all:
    localrule: True
    input:
        expand("out/{number}", number=range(%d)),

rule work:
    output:
        "out/{number}",
    log:
        "logs/{number}",
    resources:
        batch_script=lambda wildcards: f"jobs/{wildcards.number}.sh",
        batch_order=lambda wildcards: int(wildcards.number),
    shell:
        "bash {resources.batch_script}"
"""
SCRIPT = """exec 9>>lock
flock -n 9 || echo "two at a time" >>events
[ ! -e out/{number} ] || exit 0
echo "start {number}" >>events
attempt=$(grep -cx "start {number}" events)
sleep {seconds}
{misdeed}
echo x >out/.{number}.$$
mv out/.{number}.$$ out/{number}
echo "end {number}" >>events
"""
MISDEEDS = ("exit 3", "kill -KILL $$", "kill -SEGV $$", "kill -KILL 0")
OPTIONS = {
    "executor": "batch-script", "batch-script-scheduler": "none", "batch-script-retries": 2, "batch-script-poll": 0.5,
    "jobs": "unlimited", "cores": 1, "keep-going": True, "nolock": True, "ignore-incomplete": True, "latency-wait": 1,
}  # fmt: skip


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [BIN / "snakemake", "--profile", folder / "here"], cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
            # as at a terminal: what a shell starts in the background ignores SIGINT
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip


@pytest.mark.timeout(2 * DEADLINE_S)
def test_no_script_is_lost_run_twice_or_beside_another(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for name in ("jobs", "out", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "out" / ".kept").touch()  # Snakemake removes a folder that an interrupted job leaves empty
    (tmp_path / "Snakefile").write_text(SNAKEFILE % JOBS)
    (tmp_path / "here" / "config.yaml").write_text(json.dumps(OPTIONS))
    for number in range(JOBS):
        bad = f'[ "$attempt" != 1 ] || {chance.choice(MISDEEDS)}' if chance.random() < 0.3 else ""
        text = SCRIPT.format(number=number, seconds=chance.choice((0.1, 0.5, 1.5)), misdeed=bad)
        (tmp_path / "jobs" / f"{number}.sh").write_text(text)
    deadline = time.monotonic() + DEADLINE_S
    happened: Counter[str] = Counter()
    while True:
        driver = start(tmp_path)
        happened["drivers"] += 1
        try:
            if happened["drivers"] <= 6:
                driver.wait(chance.uniform(2.5, 9))
            else:
                driver.wait(deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline, (tmp_path / "driver.log").read_text()[-3000:]
            number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
            happened[number.name] += 1
            os.kill(driver.pid, number)
            driver.wait(60)
        if driver.returncode == 0:
            break
    lines = (tmp_path / "events").read_text().splitlines()
    print(f"\n{dict(happened)}, {len(lines)} events")
    assert "two at a time" not in lines
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == set(map(str, range(JOBS))), "one is lost"
    # A script may be killed between its output and its last line, and be done without that line.
    ends = Counter(line for line in lines if line.startswith("end "))
    assert set(ends.values()) == {1}, "one was done twice"
    assert len(ends) > JOBS - happened["drivers"], "more last lines are missing than drivers were interrupted"
    assert happened["drivers"] > 3, "there was no chaos"
