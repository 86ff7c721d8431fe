"""Scripts that share jobs, under the tracker: what goes into which job, and other drivers."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from real_scheduler import START_S, Bench, wait_for
from snakemake_executor_plugin_batch_script import runner
from snakemake_executor_plugin_batch_script.contact import Limits
from snakemake_executor_plugin_batch_script.pack_folder import JOB
from snakemake_executor_plugin_batch_script.schedulers.base import (
    Live,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for job in bench.scheduler.processes:
        bench.scheduler.end(job, signal.SIGTERM)
    for process in bench.scheduler.processes.values():
        process.wait(30)


def test_side_by_side_on_nodes_of_their_own(bench: Bench) -> None:
    for name, nodes in (("a", 2), ("b", 1), ("c", 1)):
        bench.script(name, wait_for("go"), nodes=nodes)
    bench.add("a", "b", "c")
    bench.until(lambda: bench.all_started("a", "b", "c"))
    where = {line[1]: line[3:] for line in bench.runs()}
    assert where == {"a": ["n1", "n2"], "b": ["n3"], "c": ["n4"]}
    (bench.folder / "go").touch()
    bench.finish(3)
    assert {name: result.job for name, result in bench.results.items()} == {"a": "1:a", "b": "1:b", "c": "1:c"}
    assert all(result.done and result.attempts == 1 for result in bench.results.values())
    assert len(bench.scheduler.submissions) == 1
    assert bench.scheduler.submissions[0].read_text().splitlines()[2] == f"# {bench.packs()[0]}"
    assert (bench.folder / "a.log").exists()
    assert bench.results["a"].log == bench.folder / "a.log"
    bench.check()


def test_in_turn_as_nodes_become_free(bench: Bench) -> None:
    bench.head(2, 180)
    for name in "abcdef":
        bench.script(name, "sleep 0.3", nodes=1)
    bench.add(*"abcdef")
    bench.finish(6)
    assert len(bench.scheduler.submissions) == 1
    begun = [line[1] for line in bench.runs() if line[2] == "start"]
    assert sorted(begun[:2]) == ["a", "b"]
    assert begun[-1] in "ef"
    assert all(result.run is not None and result.run >= 0.3 for result in bench.results.values())
    assert (bench.results["f"].queued or 0) > (bench.results["a"].queued or 0)
    bench.check()


def test_one_that_fails_stops_no_other_and_is_tried_again(bench: Bench) -> None:
    bench.script("bad", "exit 3")
    bench.script("once", "[ -e mark ] || { touch mark; exit 3; }")
    bench.script("mistake", "exit 2")
    bench.script("good", wait_for("go"))
    bench.add("bad", "once", "mistake", "good")
    bench.until(lambda: {"bad", "once", "mistake"} <= bench.results.keys())
    assert bench.started("good") == 1
    (bench.folder / "go").touch()
    bench.finish(4)
    told = {name: (result.reason, result.attempts, result.exit_code) for name, result in bench.results.items()}
    assert told == {
        "bad": ("failed", 3, 3),
        "once": ("done", 2, 0),
        "mistake": ("failed", 1, 2),
        "good": ("done", 1, 0),
    }
    bench.check()


def test_a_script_of_its_own_is_submitted_itself(bench: Bench) -> None:
    bench.script("a")
    bench.add("a")
    bench.finish(1)
    assert bench.scheduler.submissions == [bench.folder / "a.sh"]
    assert bench.results["a"].job == "1"
    assert bench.packs() == []


def test_a_job_with_room_waits_a_little_for_another_script(bench: Bench) -> None:
    bench.limits = Limits(poll=0.1, latency=0.5, gather=3.0)
    bench.restart()
    for name in "abcd":
        bench.script(name)
    bench.add("a", "b")
    soon = time.monotonic() + 1.0
    bench.until(lambda: time.monotonic() > soon)
    assert bench.scheduler.submissions == []
    bench.add("c", "d")  # full
    bench.finish(4)
    assert len(bench.scheduler.submissions) == 1


def test_slots_limit_the_schedulers_jobs(bench: Bench) -> None:
    bench.limits = Limits(poll=0.1, latency=0.5, gather=0.2, slots=1)
    bench.restart()
    names = [f"s{i}" for i in range(9)]
    for name in names:
        bench.script(name, "sleep 0.2")
    most = []
    live = bench.scheduler.live

    def count(jobs: Collection[str], with_names: bool) -> list[Live]:
        found = live(jobs, with_names)
        most.append(len(found))
        return found

    bench.scheduler.live = count  # type: ignore[method-assign]
    bench.add(*names)
    bench.finish(9)
    assert max(most) == 1
    assert len(bench.scheduler.submissions) == 3
    bench.check()


def test_a_limit_counts_jobs_and_leaves_nothing_of_those_that_were_not_taken(bench: Bench) -> None:
    bench.scheduler.fault = "limit"
    names = [f"s{i}" for i in range(9)]
    for name in names:
        bench.script(name, "sleep 0.2")
    bench.add(*names)
    bench.finish(9)
    assert all(result.done and result.attempts == 1 for result in bench.results.values())
    assert len(bench.scheduler.submissions) == len(bench.packs()) + 1 == 3, "of four, four, and one script"
    events = bench.journals.of(bench.folder / "s0.sh").events()
    learnt = [event["slots"] for event in events if event["event"] == "limit"]
    # A job may end long after its scripts have: with none of ours there, that there is no room is learnt, too.
    assert learnt[0] == learnt[-1] == 1
    assert set(learnt) <= {0, 1}
    bench.check()


def test_the_lowest_order_comes_first(bench: Bench) -> None:
    bench.limits = Limits(poll=0.1, gather=0.0, slots=1)
    bench.restart()
    bench.head(1, 60)
    for name in "abc":
        bench.script(name)
    bench.add("a", order=-1)
    bench.add("b", order=-3)
    bench.add("c", order=-2)
    bench.finish(3)
    assert [line[1] for line in bench.runs() if line[2] == "start"] == ["b", "c", "a"]


@pytest.mark.parametrize("at", ["running", "ended", "partly ended"])
def test_another_driver_attaches(bench: Bench, at: str) -> None:
    bench.script("a", wait_for("go"))
    bench.script("b", wait_for("go") if at != "partly ended" else "")
    bench.add("a", "b")
    bench.until(lambda: bench.all_started("a", "b") and (bench.packs()[0] / JOB).exists())
    if at == "partly ended":
        bench.until((bench.packs()[0] / f"b{runner.ENDED}").exists)
    bench.restart()  # without having taken in the end of b
    results = set(bench.results)
    if at == "ended":
        (bench.folder / "go").touch()
        bench.scheduler.processes["1"].wait(30)
    bench.add(*({"a", "b"} - results))
    if at != "ended":
        bench.until(lambda: any("a: attached to job 1:a" in line for line in bench.said))
    (bench.folder / "go").touch()
    bench.finish(2)
    # (a driver to which Snakemake gives a script whose job has ended well runs it again: it exits at once)
    assert {result.reason for result in bench.results.values()} == {"done"}
    if at == "running":
        assert len(bench.scheduler.submissions) == 1
    bench.check()


def test_a_driver_that_died_before_it_knew_the_id(bench: Bench) -> None:
    bench.scheduler.fault, bench.scheduler.hold = "lost", True
    for name in "ab":
        bench.script(name, wait_for("go"))
    bench.add("a", "b")
    bench.until(lambda: bench.scheduler.submissions)
    bench.scheduler.fault = ""
    bench.restart()
    bench.add("a", "b")
    bench.until(lambda: sum("attached to job 1:" in line for line in bench.said) == 2)
    bench.scheduler.hold = False
    (bench.folder / "go").touch()
    bench.finish(2)
    assert len(bench.scheduler.submissions) == 1
    assert all(result.done for result in bench.results.values())


def test_an_end_while_the_next_driver_starts(bench: Bench) -> None:
    """Snakemake found no output, but there is one by the time that its jobs arrive here."""
    bench.script("a")
    bench.script("b", wait_for("go"))
    bench.add("a", "b")
    bench.until(lambda: bench.packs() and (bench.packs()[0] / JOB).exists())
    began = time.time()
    bench.until(lambda: bench.started("b"))
    deadline = time.monotonic() + START_S
    while not (bench.packs()[0] / f"a{runner.ENDED}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    bench.results.clear()
    bench.restart(since=began)
    bench.add("a", "b")
    bench.until(lambda: "a" in bench.results)
    (bench.folder / "go").touch()
    bench.finish(2)
    assert bench.results["a"].job == "1:a"
    assert len(bench.scheduler.submissions) == 1


def test_a_lost_submission_that_turns_up_late_is_cancelled(bench: Bench) -> None:
    bench.scheduler.fault = "lost"
    live = bench.scheduler.live
    bench.scheduler.live = lambda jobs, names: [  # type: ignore[method-assign]
        found for found in live(jobs, names) if found.job != "1" or len(bench.scheduler.submissions) > 1
    ]
    bench.scheduler.hold = True
    for name in "ab":
        bench.script(name, wait_for("go"))
    bench.add("a", "b")
    bench.until(lambda: bench.scheduler.submissions)
    bench.scheduler.fault = ""
    bench.until(lambda: len(bench.scheduler.submissions) == 2)
    bench.until(lambda: any("turned up" in line for line in bench.said))
    bench.scheduler.hold = False
    (bench.folder / "go").touch()
    bench.finish(2)
    assert all(result.done for result in bench.results.values())
    assert bench.started("a") == 1
    assert bench.scheduler.verdicts.keys() == {"1"}, "cancelled as a whole, once both of its scripts are"
    bench.check()


def test_refused_as_one(bench: Bench) -> None:
    bench.scheduler.fault = "refuse"
    for name in "ab":
        bench.script(name)
    bench.add("a", "b")
    bench.finish(2)
    assert {result.reason for result in bench.results.values()} == {"refused"}
    assert bench.packs() == []


def test_cancelling_all_ends_the_job(bench: Bench) -> None:
    for name in "ab":
        bench.script(name, "sleep 100")
    bench.add("a", "b")
    bench.until(lambda: bench.all_started("a", "b"))
    bench.tracker.cancel(lambda seconds: None)
    assert bench.scheduler.processes["1"].wait(30) == 128 + signal.SIGTERM
    assert [line[2] for line in bench.runs()].count("stop") == 2
    assert [result.reason for result in bench.tracker.results] == ["cancelled", "cancelled"]


def test_cancelling_some_leaves_the_others(bench: Bench) -> None:
    bench.script("a", "sleep 100")
    bench.script("b", wait_for("go"))
    bench.add("a", "b")
    bench.until(lambda: bench.all_started("a", "b"))
    bench.restart()  # one that was asked for less
    bench.add("a")
    bench.until(lambda: any("a: attached" in line for line in bench.said))
    bench.tracker.cancel(lambda seconds: None)
    deadline = time.monotonic() + START_S
    while not (bench.packs()[0] / f"a{runner.ENDED}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    record = json.loads((bench.packs()[0] / f"a{runner.ENDED}").read_text())
    assert record["reason"] == "cancelled"
    assert bench.scheduler.processes["1"].poll() is None
    (bench.folder / "go").touch()
    bench.scheduler.processes["1"].wait(30)
    assert (bench.folder / "b.out").exists()
