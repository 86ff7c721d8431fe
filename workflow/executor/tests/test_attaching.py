"""Drivers that come after others: which jobs they take for their own, and which they wait for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fake_scheduler import Bench, FakeJob, World
from snakemake_executor_plugin_batch_script.schedulers.base import (
    State,
)
from snakemake_executor_plugin_batch_script.task import job_name


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(World(tmp_path))


def test_a_new_driver_attaches(bench: Bench) -> None:
    bench.world.seconds = 100
    bench.add("a", "b")
    bench.run(20)
    bench.restart()
    bench.add("a", "b")
    bench.run(500, until=2)
    assert all(result.done for result in bench.results.values())
    assert (bench.started("a"), bench.started("b")) == (1, 1)
    assert len(bench.events("attached")) == 2


def test_a_driver_killed_while_it_submitted(bench: Bench) -> None:
    """No answer was written down: the job is found by its name, even if the first listings lack it."""
    script = bench.world.script("a")
    bench.journals.of(script).write("submitting", script=script, name=job_name(script), attempt=1)
    bench.world.seconds = 300
    bench.world.start(script, job_name(script))
    flaps = iter(["flap", "flap"])
    bench.world.fault = lambda command: next(flaps, "") if command == "live" else ""
    bench.restart()
    bench.add("a")
    bench.run(1000, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 1


def test_a_new_driver_is_not_misled_by_a_flapping_listing(bench: Bench) -> None:
    bench.world.seconds = 300
    bench.add("a")
    bench.run(20)
    bench.restart()
    flaps = iter(["flap"] * 4)
    bench.world.fault = lambda command: next(flaps, "")
    bench.add("a")
    bench.run(1000, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 1


def test_a_cancelled_job_that_takes_its_time_is_not_attached_to(bench: Bench) -> None:
    """Started again right after Ctrl-C: the old job must not be taken for a new one."""
    bench.world.seconds = 300
    bench.add("a")
    bench.run(2)
    job, fake = next(iter(bench.world.live_jobs.items()))
    bench.tracker.cancel(wait=lambda seconds: None)
    bench.world.ended_jobs.pop(job)
    bench.world.live_jobs[job] = fake
    fake.ends = bench.world.now + 50
    bench.world.cancel = lambda jobs: None  # type: ignore[method-assign] # it takes its time
    bench.restart()
    bench.results.clear()
    bench.add("a")
    bench.run(1000, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 2


def test_a_job_on_its_way_out_is_waited_for(bench: Bench) -> None:
    script = bench.world.script("a")
    job = bench.world.start(script, job_name(script))
    bench.world.live_jobs[job].state = State.ENDING
    bench.world.live_jobs[job].way = "exit 1"
    bench.add("a")
    bench.run(500, until=1)
    assert (bench.results["a"].reason, bench.results["a"].attempts, bench.started("a")) == ("done", 1, 2)


def test_a_job_of_another_content_of_its_script_is_waited_for(bench: Bench) -> None:
    """The script was written anew while its job was there: that job is named once, neither adopted nor cancelled."""
    script = bench.world.script("a")
    script.write_text("#!/bin/bash\n# of old settings\n")
    bench.world.seconds = 100
    bench.add("a")
    bench.run(20)
    [submitted] = bench.events("submitted")
    assert submitted["digest"] == hashlib.sha256(script.read_bytes()).hexdigest()[:16]
    script.write_text("#!/bin/bash\n# of new settings\n")
    bench.restart()
    bench.add("a")
    bench.run(60)
    assert (bench.started("a"), bench.events("attached")) == (1, [])
    bench.run(500, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 2, "what the old job made is not taken for the new one's"
    assert "cancel" not in bench.world.commands
    job = submitted["job"]
    assert [line for line in bench.said if f"job {job}" in line] == [
        f"a: waits until job {job} is gone, which was submitted with another content of {script}"
    ]


def test_a_script_that_is_kept_for_its_job_is_not_run_in_place_of_the_one_that_is_wanted(bench: Bench) -> None:
    """Whoever writes scripts leaves that of a live job as it is: it is named and waited for, then the task ends."""
    script, output = bench.world.script("a"), bench.world.output("a")
    script.write_text("of old settings")
    bench.world.seconds = 100
    bench.add("a")
    bench.run(20)
    job = bench.events("submitted")[0]["job"]
    bench.restart()
    bench.tracker.add(script, output, wanted="0123456789abcdef")
    bench.run(60)
    assert (bench.started("a"), bench.events("attached"), bench.results) == (1, [], {})
    bench.run(500, until=1)
    assert (bench.started("a"), bench.results["a"].reason) == (1, "refused")
    assert bench.results["a"].detail.endswith("start again")
    assert [line for line in bench.said if f"job {job}" in line] == [
        f"a: waits until job {job} is gone, which was submitted with another content of {script}"
    ]
    script.write_text("of new settings")  # the journal says that nothing is there any more
    bench.restart()
    bench.tracker.add(script, output, wanted=hashlib.sha256(b"of new settings").hexdigest()[:16])
    bench.results.clear()
    bench.run(500, until=1)
    assert (bench.results["a"].reason, bench.started("a")) == ("done", 2)


def test_ctrl_c_leaves_a_job_of_another_content_alone(bench: Bench) -> None:
    script = bench.world.script("a")
    script.write_text("old")
    bench.world.seconds = 1000
    bench.add("a")
    bench.run(20)
    script.write_text("new")
    bench.restart()
    bench.add("a", "b")
    bench.run(20)
    bench.tracker.cancel(wait=lambda seconds: None)
    assert [job.script.stem for job in bench.world.live_jobs.values()] == ["a"]
    bench.restart()
    bench.add("a")
    bench.run(50)
    assert (bench.started("a"), bench.events("attached")) == (1, [])
    assert len(bench.world.live_jobs) == 1, "the next driver waits for it, too, and does not take it for cancelled"


def test_a_job_of_another_content_is_not_adopted_by_its_name_either(bench: Bench) -> None:
    """The driver was killed before it learnt the job's id."""
    script = bench.world.script("a")
    script.write_text("new")
    old = {"script": script, "name": job_name(script), "attempt": 1, "digest": "0123456789abcdef"}
    bench.journals.of(script).write("submitting", **old)
    bench.world.seconds = 100
    bench.world.start(script, job_name(script))
    bench.restart()
    bench.add("a")
    bench.run(90)
    assert (bench.started("a"), bench.events("attached")) == (1, [])
    bench.run(500, until=1)
    assert (bench.results["a"].reason, bench.started("a")) == ("done", 2)


@pytest.mark.parametrize("known", [True, False])
def test_a_job_of_the_same_content_or_of_an_older_journal_is_adopted(bench: Bench, known: bool) -> None:
    script = bench.world.script("a")
    script.write_text("the same")
    bench.world.seconds = 100
    job = bench.world.start(script, job_name(script))
    digest = hashlib.sha256(b"the same").hexdigest()[:16] if known else None
    name = job_name(script)
    bench.journals.of(script).write("submitted", script=script, name=name, job=job, attempt=1, digest=digest)
    bench.restart()
    bench.add("a")
    bench.run(500, until=1)
    assert (bench.results["a"].reason, bench.started("a")) == ("done", 1)


def test_a_second_job_of_one_name_is_ended(bench: Bench) -> None:
    bench.world.seconds = 300
    bench.add("a")
    bench.run(2)
    first = next(iter(bench.world.live_jobs.values()))
    bench.world.live_jobs["999"] = FakeJob(first.name, first.script, "done", bench.world.now + 300)
    bench.add("b")  # has the names listed
    bench.run(20)
    assert "999" not in bench.world.live_jobs
    assert first in bench.world.live_jobs.values()


def test_an_id_that_belongs_to_another_job(bench: Bench) -> None:
    """A scheduler that was set up anew counts from the start: the journal's id is somebody else's now."""
    script = bench.world.script("a")
    bench.journals.of(script).write("submitted", script=script, name=job_name(script), job="100", attempt=1)
    bench.world.seconds = 10_000
    bench.world.start(bench.world.script("other"), "another name")
    bench.restart()
    bench.add("a")
    bench.world.seconds = 25
    bench.run(500, until=1)
    assert bench.results["a"].done
    assert bench.results["a"].job != "100"
