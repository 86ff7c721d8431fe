"""The scheduler takes no more jobs, is confused for a while, or shows what others put into their jobs: under the real
driver on emulated schedulers, this costs time and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from campaign.tell.status import FAILED, WAITING
from campaign.tell.status import status as campaign_status
from tests.emulators.foreign import NASTY
from tests.support.faults import Faulty
from tests.support.faulty_campaigns import Start, both, once_each

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]
pytest_plugins = ["tests.support.faulty_campaigns"]

CONFUSED = {
    "cobalt": [
        "component error: Failed to connect to queue-manager: 'x:cn:queue-manager'\n",
        "component error: XMLRPC failure <Fault 1: 'an unexpected exception'> in queue-manager.add_jobs\n",
    ],
    "pbs": ["qsub: Server connection table full", "qsub: PBS server internal error", "qsub: Invalid credential"],
}


def most_at_once(faulty: Faulty) -> int:
    """Jobs in the queue at once, by the scheduler's log."""
    live = most = 0
    for event in faulty.emulator.events():
        live += {"submitted": 1, "ended": -1}.get(event["event"], 0)
        most = max(most, live)
    return most


@both
def test_a_users_limit_is_learnt_and_waited_for(campaign: Start, kind: str) -> None:
    """Four cells where one job at a time is taken."""
    faulty = campaign(kind, max_jobs=1)
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: faulty.journal("limit") and faulty.journal("running"), driver)
    found = campaign_status(faulty.campaign, faulty.layout)
    assert len(found.limits) == 1
    assert "the scheduler takes at most 1 jobs at once in queue default: " in found.limits[0]
    turned = [cell for cell in found.cells if "not taken by the scheduler so far: " in cell.detail]
    assert {cell.state for cell in turned} == {WAITING}
    assert turned
    faulty.go()
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert driven.text.count("the scheduler takes at most 1 jobs at once in queue default (") == 1
    assert faulty.submissions() == once_each(faulty)
    assert {event["attempt"] for event in faulty.journal("submitted")} == {1}
    assert most_at_once(faulty) == 1
    assert not faulty.journal("refused") + faulty.journal("retry") + faulty.journal("unreachable")
    faulty.check(driven)


@both
def test_a_limit_that_loosens_is_found_while_jobs_run(campaign: Start, kind: str) -> None:
    faulty = campaign(kind, max_jobs=1)
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: faulty.journal("limit"), driver)
    faulty.emulator.set(max_jobs=3)
    faulty.until(lambda: faulty.count("started") == 3, driver)
    faulty.go()
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert faulty.submissions() == once_each(faulty)
    assert most_at_once(faulty) == 3
    faulty.check(driven)


@both
def test_a_confused_server_costs_no_attempt(campaign: Start, kind: str) -> None:
    """Half of the submissions fail, and a third of these are taken all the same."""
    disturb = {"rate": 0.5, "texts": CONFUSED[kind], "taken": 0.33, "seed": 2}
    faulty = campaign(kind, disturb=disturb)
    driven = faulty.run()
    assert driven.code == 0, driven.text
    assert faulty.submissions() == once_each(faulty)
    assert faulty.journal("unreachable"), "the seed disturbs at least one"
    assert not faulty.journal("refused") + faulty.journal("retry")
    faulty.check(driven)


@both
def test_words_that_nobody_knows_are_waited_for(campaign: Start, kind: str) -> None:
    faulty = campaign(kind, refuse="no submissions before noon")
    driver = faulty.start()
    faulty.until(lambda: "not taken in queue default (qsub: no submissions before noon)" in faulty.said(driver), driver)
    faulty.emulator.set(refuse=None)
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert faulty.submissions() == once_each(faulty)
    faulty.check(driven)


@both
def test_words_that_stay_are_given_up_with_and_told(campaign: Start, kind: str) -> None:
    faulty = campaign(kind, refuse="not for you", options={"batch-script-patience": 0.1})
    start = time.monotonic()
    driven = faulty.run()
    assert time.monotonic() - start > 6
    assert driven.code != 0
    assert driven.closing == dict.fromkeys(faulty.names, "refused")
    words = "qsub: not for you (for more than 0.1 minutes, with no other job of this run there)"
    for name in faulty.names:
        assert driven.sentence(name) == f"{name} refused: {words}"
        assert (faulty.status()[name].state, faulty.status()[name].detail) == (FAILED, f"refused, {words}")
    faulty.check(driven)
    faulty.emulator.set(refuse=None)
    again = faulty.run()
    assert again.code == 0, again.text
    faulty.check(again)


def test_what_others_put_into_their_jobs_does_not_matter(campaign: Start) -> None:
    faulty = campaign("pbs", foreign=2, foreign_records=list(NASTY))
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: len(faulty.journal("running")) == len(faulty.names), driver)
    faulty.kill(driver)
    driver = faulty.start()  # looks for jobs by their names
    faulty.until(lambda: faulty.said(driver).count(": attached to job ") == len(faulty.names), driver)
    faulty.go()
    driven = faulty.end(driver)
    assert driven.code == 0, driven.text
    assert faulty.submissions() == once_each(faulty)
    faulty.check(driven)


def test_the_login_shell_does_not_matter(campaign: Start, tmp_path: Path) -> None:
    shell = tmp_path / "csh"
    shell.write_text("#!/bin/sh\necho this is no bash >&2\nexit 1\n")
    shell.chmod(0o755)
    faulty = campaign("pbs", login_shell=str(shell))
    driven = faulty.run()
    assert driven.code == 0, driven.text
    faulty.check(driven)
