"""Cells that share jobs, under the real driver on emulated schedulers: what one suffers costs no other anything."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bnn.records.files import JOB_LOG
from campaign.tell.status import FAILED, FINISHED, QUEUED, RUNNING
from tests.support.campaigns import changed
from tests.support.faults import CAMPAIGN, Faulty
from tests.support.ranks import need_horovod

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]

both = pytest.mark.parametrize("kind", ["cobalt", "pbs"])
Start = Callable[..., Faulty]
SHARED = {
    "scheduler/queues": [{"name": "default", "min_nodes": 4, "max_nodes": 8, "max_minutes": 600}],
    "scheduler/packing": {},
}
SIX = changed(CAMPAIGN, "studies/speed/repeats", 3)


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Start]:
    made = []

    def start(kind: str, values: dict[str, Any] = SIX, **more: Any) -> Faulty:
        options = {"batch-script-gather": 1} | more.pop("options", {})
        changes = SHARED | more.pop("site_changes", {})
        made.append(Faulty(tmp_path, kind, values, options=options, site_changes=changes, **more))
        return made[-1]

    yield start
    for faulty in made:
        faulty.close()


def jobs(faulty: Faulty) -> list[str]:
    """Names of the scheduler's own jobs, in the order of their submission."""
    return [event["name"] for event in faulty.emulator.events("submitted")]


def all_run(faulty: Faulty, driver: subprocess.Popen[bytes]) -> None:
    """Wait until all six cells do, and the driver knows it."""
    faulty.until(lambda: sum(map(faulty.starts, faulty.names)) == 6, driver)
    faulty.until(lambda: len(faulty.journal("submitted")) == 6, driver)


@pytest.mark.parametrize("kind", [pytest.param("cobalt", marks=pytest.mark.thorough), "pbs"])
def test_real_ranks_side_by_side(campaign: Start, kind: str) -> None:
    """Two cells of two nodes at a time; aprun refuses what another cell's aprun has, PALS what is beyond its hosts."""
    need_horovod()
    two = changed(changed(CAMPAIGN, "nodes", [2]), "studies/speed/repeats", 1)
    faulty = campaign(kind, two, stand_ins=False)
    driven = faulty.run()
    assert driven.code == 0, driven.text
    assert len(jobs(faulty)) == 1
    faulty.check(driven)
    for cell in faulty.cells:
        log = (faulty.layout.folder(cell.cell) / JOB_LOG).read_text()
        assert ", in p-" in log.splitlines()[0]
        assert "one of 2 scripts, settings" in log.splitlines()[0]


@both
def test_one_cells_end_is_its_own(campaign: Start, kind: str) -> None:
    faulty = campaign(kind)
    bad, once, mistake, *good = faulty.names
    faulty.behave(bad, "exit 3")
    faulty.behave(once, 'if [ "$attempt" = 1 ]; then kill -SEGV $$; fi')
    faulty.behave(mistake, "exit 2")
    driven = faulty.run()
    assert driven.closing == {bad: "failed", once: "done", mistake: "failed"} | dict.fromkeys(good, "done")
    assert faulty.submissions() == {bad: 3, once: 2, mistake: 1} | dict.fromkeys(good, 1)
    assert {name[:2] for name in jobs(faulty)[:2]} == {"p-"}, "six cells in two jobs"
    status = faulty.status()
    assert {name for name in faulty.names if status[name].state == FAILED} == {bad, mistake}
    assert "exit code 2" in status[mistake].detail
    assert f":{mistake}" in status[mistake].detail
    assert Path(driven.sentence(mistake).rpartition("; log: ")[2]).exists()
    faulty.check(driven)
    faulty.all_behave()
    again = faulty.run()
    assert again.closing == {bad: "done", mistake: "done"}
    faulty.check(again)


@both
def test_the_next_driver_attaches_to_cells_of_a_shared_job(campaign: Start, kind: str) -> None:
    faulty = campaign(kind)
    faulty.all_wait()
    ended = faulty.names[0]
    faulty.behave(ended)
    driver = faulty.start()
    all_run(faulty, driver)
    faulty.until(lambda: ended in faulty.finished(), driver)
    faulty.kill(driver)
    driver = faulty.start()
    faulty.until(lambda: faulty.said(driver).count(": attached to job ") == 5, driver)
    assert {found.state for name, found in faulty.status().items() if name != ended} == {RUNNING}
    faulty.go()
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert len(jobs(faulty)) == 2
    assert faulty.submissions() == dict.fromkeys(faulty.names, 1)
    faulty.check(driven)


@both
def test_jobs_end_while_no_driver_runs(campaign: Start, kind: str) -> None:
    faulty = campaign(kind)
    faulty.all_wait()
    bad = faulty.names[0]
    faulty.behave(bad, 'while [ ! -e "$FAULTS/go" ]; do sleep 0.1; done', 'if [ "$attempt" = 1 ]; then exit 3; fi')
    driver = faulty.start()
    all_run(faulty, driver)
    faulty.kill(driver)
    faulty.go()
    faulty.emulator.wait()
    again = faulty.run()
    assert again.code == 0, again.text
    assert faulty.submissions() == dict.fromkeys(faulty.names, 1) | {bad: 2}
    faulty.check(again)


@both
def test_a_driver_killed_between_submission_and_the_id(campaign: Start, kind: str) -> None:
    faulty = campaign(kind, changed(CAMPAIGN, "studies/speed/repeats", 2), slow_qsub=3)
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: faulty.count("submitted") == 1, driver)
    faulty.kill(driver)
    faulty.emulator.set(slow_qsub=None)
    driver = faulty.start()
    faulty.until(lambda: faulty.said(driver).count(": attached to job ") == 4, driver)
    faulty.go()
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert len(jobs(faulty)) == 1
    faulty.check(driven)


@both
def test_ctrl_c_cancels_shared_jobs(campaign: Start, kind: str) -> None:
    faulty = campaign(kind, grace_s=0.3)
    faulty.all_wait()
    driver = faulty.start()
    all_run(faulty, driver)
    os.killpg(driver.pid, signal.SIGINT)
    driven = faulty.end(driver)
    assert driven.closing == dict.fromkeys(faulty.names, "cancelled")
    faulty.emulator.wait()
    faulty.go()
    again = faulty.run()
    assert again.code == 0, again.text
    faulty.check(again)


@both
def test_a_node_that_dies_costs_an_attempt_of_what_ran(campaign: Start, kind: str) -> None:
    """In turn on four nodes, two at a time: one pair has ended by then, one runs, one waits.

    PBS ends the whole job, and what waits goes into another one. Under Cobalt the runner lives on beside the nodes.
    """
    values = changed(changed(CAMPAIGN, "nodes", [2]), "studies/speed/repeats", 3)
    faulty = campaign(
        kind, values, site_changes={"scheduler/packing": {"in_turn": 3}}, node_fail={"count": 1, "after": 6}
    )
    for name in faulty.names[2:4]:
        faulty.behave(name, 'if [ "$attempt" = 1 ]; then sleep 60; fi')
    driven = faulty.run()
    assert driven.code == 0, driven.text
    outcome = {"cobalt": " killed: killed by signal 9", "pbs": " node-failure: "}[kind]
    said = [
        line for line in driven.text.splitlines() if outcome in line and line.endswith("; submitted again (2 of 3)")
    ]
    assert len(said) == 2
    waited = 1 if kind == "cobalt" else 2
    assert list(faulty.submissions().values()) == [1, 1, 2, 2, waited, waited]
    assert [faulty.starts(name) for name in faulty.names] == [1, 1, 2, 2, 1, 1]
    retried = [event["outcome"] for event in faulty.journal("retry")]
    assert retried.count("postponed") == (0 if kind == "cobalt" else 2)
    waits = [event for event in faulty.journal("submitted") if faulty.names[5] in event["script"]]
    assert {event["attempt"] for event in waits} == {1}
    faulty.check(driven)


def test_few_slots_are_filled_and_states_are_told(campaign: Start) -> None:
    faulty = campaign("pbs", options={"batch-script-slots": 1})
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: sum(map(faulty.starts, faulty.names)) == 4 and len(faulty.journal("running")) == 4, driver)
    states = [faulty.status()[name].state for name in faulty.names]
    assert states[:4] == [RUNNING] * 4, "in the order of the plan"
    assert QUEUED not in states[:4]
    assert len(jobs(faulty)) == 1
    faulty.go()
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert len(jobs(faulty)) == 2
    assert {found.state for found in faulty.status().values()} == {FINISHED}
    faulty.check(driven)
