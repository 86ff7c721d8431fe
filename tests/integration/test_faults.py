"""Jobs that end badly, under the real driver on emulated schedulers: what is said of each, and what is tried again.

One campaign on each scheduler has a cell for every way to end; a second run finishes what it can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from campaign.tell.status import FAILED, FINISHED
from tests.support.campaigns import changed
from tests.support.faults import CAMPAIGN, Driven, Faulty

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]

KINDS = ("cobalt", "pbs")
SLEEP = "sleep 60"  # until the scheduler ends it


def by_kind(cobalt: str, pbs: str) -> dict[str, str]:
    return {"cobalt": cobalt, "pbs": pbs}


def both(text: str) -> dict[str, str]:
    return by_kind(text, text)


@dataclass(frozen=True)
class Way:
    """A way to end: by what `bnn` does (bash), or by a fault of the scheduler, in the first `times` attempts.

    `outcome` and a part of the reason are what must be said of it, by scheduler. `attempts` is how often it is
    submitted by a driver that tries a second time.
    """

    outcome: dict[str, str]
    reason: dict[str, str] = field(default_factory=lambda: both(""))
    does: str = ""
    fault: str = ""
    times: int = 2
    attempts: int = 2


WAYS = {
    "well": Way(both("done"), attempts=1),
    "exits": Way(both("failed"), both("exit code 3"), does="exit 3"),
    "exits once": Way(both("done"), does="exit 3", times=1),
    "mistake": Way(both("failed"), both("exit code 2"), does="exit 2", attempts=1),
    "no summary": Way(both("failed"), both("exit code 1"), does="exit 0"),
    "segmentation fault": Way(both("killed"), both("signal 11"), does="kill -SEGV $$"),
    "killed": Way(both("killed"), both("signal 9"), does=SLEEP, fault="kill_signal"),
    "killed once": Way(both("done"), does=SLEEP, fault="kill_signal", times=1),
    "walltime": Way(
        both("walltime"), by_kind("maximum execution time exceeded", "exceeded resource walltime"), does=SLEEP
    ),
    "vanishes": Way(both("vanished"), both("no exit code and no new output"), does=SLEEP, fault="vanish"),
    "vanishes once": Way(both("done"), does=SLEEP, fault="vanish", times=1),
    "node": Way(both("node-failure"), by_kind("a node failed", "node down"), does=SLEEP, fault="node_fail"),
    "memory": Way(both("out-of-memory"), both("out of memory"), does=SLEEP, fault="oom", attempts=1),
    "not started": Way(both("launch-failed"), by_kind("execution failure", "Exit_status -1"), fault="launch_fail"),
}


class Ended:
    """The campaign of one scheduler after the first driver."""

    def __init__(self, faulty: Faulty, first: Driven) -> None:
        self.faulty, self.first = faulty, first
        self.cells = dict(zip(WAYS, faulty.names, strict=True))
        self.status = faulty.status()


@pytest.fixture(scope="module", params=KINDS)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    campaign = changed(CAMPAIGN, "studies/speed/repeats", len(WAYS) // 2)
    faulty = Faulty(
        tmp_path_factory.mktemp("faulty"), request.param, campaign, nodes=20, time_scale=0.1, grace_s=0.5,
        walltime_status=-29,
        options={"batch-script-retries": 1, "jobs": 20},
    )  # fmt: skip
    faults: dict[str, dict[str, Any]] = {}
    for way, cell in zip(WAYS.values(), faulty.names, strict=True):
        if way.does:
            faulty.behave(cell, f'if [ "$attempt" -le {way.times} ]; then {way.does}; fi')
        if way.fault:
            fault = faults.setdefault(way.fault, {"jobs": [], "after": 0.3})
            fault["jobs"] += [faulty.job(cell)] * way.times
    faulty.emulator.set(**faults)
    try:
        yield Ended(faulty, faulty.run())
    finally:
        faulty.close()


@pytest.mark.parametrize("name", WAYS)
def test_outcome_and_reason_are_told_apart(ended: Ended, name: str) -> None:
    way, cell, kind = WAYS[name], ended.cells[name], ended.faulty.kind
    assert ended.first.closing[cell] == way.outcome[kind]
    assert ended.faulty.submissions()[cell] == way.attempts
    status, said = ended.status[cell], ended.first.sentence(cell)
    if way.outcome[kind] == "done":
        assert (status.state, said) == (FINISHED, "")
        return
    assert status.state == FAILED
    assert status.detail.startswith(f"{way.outcome[kind]}, ")
    assert way.reason[kind] in status.detail
    assert way.reason[kind] in said
    assert f" {way.outcome[kind]}: " in said
    # the job's own output is named and is where the name says, unless the job was taken away with it
    log = Path(said.rpartition("; log: ")[2])
    assert str(log) in status.detail
    assert log.exists() or way.fault in ("vanish", "launch_fail")


def test_no_cell_is_lost_or_run_twice_or_falsely_complete(ended: Ended) -> None:
    ended.faulty.check(ended.first)
    assert set(ended.first.closing) == set(ended.faulty.names)
    assert sum(outcome == "done" for outcome in ended.first.closing.values()) == 4


def test_the_same_command_again_runs_what_failed_and_nothing_else(ended: Ended) -> None:
    faulty, before = ended.faulty, ended.faulty.submissions()
    failed = {name for name, outcome in ended.first.closing.items() if outcome != "done"}
    faulty.all_behave()
    faulty.emulator.set(**dict.fromkeys(("kill_signal", "vanish", "node_fail", "oom", "launch_fail")))
    again = faulty.run()
    assert again.code == 0, again.text
    assert again.closing == dict.fromkeys(failed, "done")
    assert faulty.submissions() == {name: count + (name in failed) for name, count in before.items()}
    faulty.check(again)
    assert {found.state for found in faulty.status().values()} == {FINISHED}
