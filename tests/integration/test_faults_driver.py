"""The scheduler does not answer or refuses, the driver is stopped, killed or started twice: jobs are neither lost nor
submitted twice. Told by the emulated scheduler's own log."""

from __future__ import annotations

import os
import signal

import pytest

from campaign.tell.status import FAILED, FINISHED, QUEUED, RUNNING, WAITING
from tests.support.faults import Faulty
from tests.support.faulty_campaigns import Start, both, once_each

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]
pytest_plugins = ["tests.support.faulty_campaigns"]


def states(faulty: Faulty) -> list[str]:
    return sorted(found.state for found in faulty.status().values())


@both
def test_a_scheduler_that_is_down_for_a_while_costs_time_only(campaign: Start, kind: str) -> None:
    """Down when jobs are to be submitted, and down again while they run and end."""
    faulty = campaign(kind, down=True)
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: "the scheduler does not answer" in faulty.said(driver), driver)
    faulty.emulator.set(down=None)
    faulty.until(lambda: len(faulty.journal("running")) == len(faulty.names), driver)
    faulty.emulator.set(down=True)
    faulty.until(lambda: faulty.said(driver).count("the scheduler does not answer") == 2, driver)
    faulty.go()
    faulty.emulator.wait()
    faulty.emulator.set(down=None)
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert faulty.submissions() == once_each(faulty)
    assert driven.text.count("the scheduler is back after") == 2
    assert len(faulty.journal("unreachable")) == len(faulty.journal("reachable"))
    faulty.check(driven)


def test_a_scheduler_that_stays_down_ends_the_driver_and_the_next_one_goes_on(campaign: Start) -> None:
    faulty = campaign("pbs", options={"batch-script-patience": 0.02})
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: len(faulty.journal("running")) == len(faulty.names), driver)
    faulty.emulator.set(down=True)
    driven = faulty.end(driver)
    assert driven.code != 0
    assert "the scheduler does not answer for more than 0.02 minutes" in driven.text
    assert "jobs go on: start again" in driven.text
    assert states(faulty) == [RUNNING] * 4
    faulty.emulator.set(down=None)
    driver = faulty.start()
    faulty.until(lambda: faulty.said(driver).count(": attached to job ") == 4, driver)
    faulty.go()
    again = faulty.end(driver)
    assert again.code == 0, again.text
    assert faulty.submissions() == once_each(faulty)
    faulty.check(again)


@both
def test_a_refused_submission_is_told_in_the_schedulers_words_and_stops_no_other(campaign: Start, kind: str) -> None:
    limit = {"max_walltime_s": 3600, "max_nodes": 8}
    walltimes = [{"minutes": 120, "where": {"kinds": ["cnn"]}}, {"minutes": 1}]
    faulty = campaign(kind, queues={"default": limit}, site_changes={"scheduler/walltimes": walltimes})
    long = {name for name in faulty.names if "_cnn_" in name}
    driven = faulty.run()
    words = {
        "cobalt": "component error: XMLRPC failure <Fault 1001: "
        "\"Walltime greater than the 'default' queue max walltime of 01:00:00\\n\"> in queue-manager.add_jobs",
        "pbs": "qsub: Job violates queue and/or server resource limits",
    }[kind]
    assert driven.closing == {name: "refused" if name in long else "done" for name in faulty.names}
    status = faulty.status()
    for name in long:
        assert driven.sentence(name) == f"{name} refused: {words}"
        assert (status[name].state, status[name].detail) == (FAILED, f"refused, {words}")
    faulty.check(driven)
    faulty.emulator.set(queues={"default": limit | {"max_walltime_s": 7200}})
    again = faulty.run()
    assert again.closing == dict.fromkeys(long, "done")
    assert faulty.submissions() == once_each(faulty)
    faulty.check(again)


@both
def test_ctrl_c_cancels_all_jobs_and_says_so(campaign: Start, kind: str) -> None:
    """One has ended by then, two run, one is queued."""
    faulty = campaign(kind, nodes=2, grace_s=0.3)
    faulty.all_behave('mkdir "$FAULTS/first" 2>/dev/null || while [ ! -e "$FAULTS/go" ]; do sleep 0.1; done')
    driver = faulty.start()
    faulty.until(lambda: faulty.count("started") == 3 and faulty.finished(), driver)
    [first] = faulty.finished()
    faulty.until(lambda: len(faulty.journal("submitted")) == 4 and faulty.journal("ended"), driver)
    os.killpg(driver.pid, signal.SIGINT)
    driven = faulty.end(driver)
    faulty.emulator.wait(timeout_s=20)
    assert driven.code != 0
    assert driven.closing == {name: "done" if name == first else "cancelled" for name in faulty.names}
    assert sorted(event["reason"] for event in faulty.emulator.events("ended") if event["reason"]) == ["deleted"] * 3
    assert states(faulty) == sorted([FINISHED, WAITING, WAITING, WAITING])
    faulty.check(driven)
    faulty.go()
    again = faulty.run()
    assert again.code == 0, again.text
    assert faulty.submissions() == {name: 1 if name == first else 2 for name in faulty.names}
    faulty.check(again)


@both
def test_a_driver_killed_while_jobs_run_and_wait_attaches_to_them(campaign: Start, kind: str) -> None:
    faulty = campaign(kind, nodes=2)
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: len(faulty.journal("submitted")) == 4 and len(faulty.journal("running")) == 2, driver)
    faulty.kill(driver)
    assert states(faulty) == sorted([RUNNING, RUNNING, QUEUED, QUEUED])
    driver = faulty.start()
    faulty.until(lambda: faulty.said(driver).count(": attached to job ") == 4, driver)
    faulty.go()
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert faulty.submissions() == once_each(faulty)
    assert [faulty.starts(name) for name in faulty.names] == [1] * 4
    faulty.check(driven)


@both
def test_jobs_that_end_while_no_driver_runs_are_not_run_again(campaign: Start, kind: str) -> None:
    """Two succeed, one fails, one vanishes: the next driver submits those two alone."""
    faulty = campaign(kind)
    faulty.all_wait()
    *well, fails, vanishes = faulty.names
    faulty.behave(fails, 'if [ "$attempt" = 1 ]; then sleep 2; exit 3; fi')
    driver = faulty.start()
    faulty.until(lambda: len(faulty.journal("submitted")) == 4, driver)
    faulty.kill(driver)
    faulty.emulator.set(vanish={"jobs": [faulty.job(vanishes)], "after": 0})
    faulty.until(lambda: faulty.count("ended"))
    faulty.go()
    faulty.emulator.wait()
    assert faulty.finished() == set(well)
    driven = faulty.run()
    assert driven.closing == {fails: "done", vanishes: "done"}
    assert faulty.submissions() == dict.fromkeys(well, 1) | {fails: 2, vanishes: 2}
    faulty.check(driven)
    last = faulty.run()
    assert "Nothing to be done" in last.text
    faulty.check(last)


@pytest.mark.parametrize(("kind", "ends"), [("cobalt", False), ("pbs", True)], ids=["job-waits", "job-ends"])
def test_a_driver_killed_within_a_submission_does_not_submit_again(campaign: Start, kind: str, ends: bool) -> None:
    """The job was queued, its id never came back; it is still there, or has ended, when the next driver looks."""
    faulty = campaign(kind, slow_qsub=5)
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: faulty.count("submitted"), driver)
    faulty.kill(driver)
    assert (len(faulty.journal("submitting")), faulty.journal("submitted")) == (1, [])
    faulty.emulator.set(slow_qsub=None)
    if ends:
        faulty.go()
        faulty.emulator.wait()
    driver = faulty.start()
    if not ends:
        faulty.until(lambda: ": attached to job " in faulty.said(driver), driver)
        faulty.go()
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert faulty.submissions() == once_each(faulty)
    faulty.check(driven)


@both
def test_a_submission_whose_answer_is_lost_is_not_repeated(campaign: Start, kind: str) -> None:
    faulty = campaign(kind, submit_lost=2)
    faulty.all_behave("sleep 1")
    driven = faulty.run()
    assert driven.code == 0, driven.text
    assert "the scheduler takes no jobs" in driven.text
    assert driven.closing == dict.fromkeys(faulty.names, "done")
    assert faulty.submissions() == once_each(faulty)
    faulty.check(driven)


def test_a_second_driver_is_refused_and_the_first_goes_on(campaign: Start) -> None:
    faulty = campaign("cobalt")
    faulty.all_wait()
    first = faulty.start()
    faulty.until(lambda: faulty.count("started") == 4, first)
    second = faulty.run()
    assert second.code == 2
    assert f"the campaign in results/faulty is already being run by process {first.pid} on " in second.text
    faulty.go()
    driven = faulty.end(first)
    assert driven.code == 0, driven.text
    assert faulty.submissions() == once_each(faulty)
    faulty.check(driven)
