"""Scripts that share jobs, under the tracker: a scheduler in this process that really runs them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from snakemake_executor_plugin_batch_script import runner
from snakemake_executor_plugin_batch_script.contact import Limits
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.packed import FOLDER, JOB
from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    LimitError,
    Live,
    Outcome,
    RefusedError,
    State,
    UnreachableError,
    exited,
)
from snakemake_executor_plugin_batch_script.task import Result
from snakemake_executor_plugin_batch_script.tracking import Tracker

START_S = 60.0  # until something must have happened, on a machine that does much else


@dataclass
class Local:
    """A scheduler that starts each job at once, on nodes n1, n2, ...; or keeps it queued while `hold` is set."""

    nodes: int = 4
    hold: bool = False
    fault: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    queued: dict[str, Path] = field(default_factory=dict)
    verdicts: dict[str, Ended] = field(default_factory=dict)
    submissions: list[Path] = field(default_factory=list)
    programs: tuple[str, ...] = ()

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        if not self.hold:
            for job in list(self.queued):
                self._start(job, self.queued.pop(job))
        found = [Live(job, self.names[job], State.QUEUED) for job in self.queued]
        found += [Live(job, self.names[job], State.RUNNING) for job, p in self.processes.items() if p.poll() is None]
        return [job for job in found if names or job.job in jobs]

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        found: dict[str, Ended | Live] = {}
        for job in jobs:
            if job in self.verdicts:
                found[job] = self.verdicts[job]
            elif job in self.processes and (code := self.processes[job].poll()) is not None:
                found[job] = exited(code if code >= 0 else 128 - code)
            else:
                found[job] = next((live for live in self.live([job], False)), UNKNOWN)
        return found

    def submit(self, script: Path, name: str) -> str:
        if self.fault == "refuse":
            raise RefusedError("no more jobs today")
        if self.fault == "limit" and (self.queued or any(p.poll() is None for p in self.processes.values())):
            raise LimitError("one job at a time")
        self.submissions.append(script)
        job = str(len(self.submissions))
        self.names[job], self.queued[job] = name, script
        if self.fault == "lost":
            raise UnreachableError("no answer")
        return job

    def cancel(self, jobs: Collection[str]) -> None:
        for job in jobs:
            self.verdicts[job] = Ended(Outcome.CANCELLED, detail="deleted")
            self.queued.pop(job, None)
            if job in self.processes:
                self.end(job, signal.SIGTERM)

    def log(self, script: Path, job: str | None) -> Path | None:
        return script.with_suffix(".log")

    def end(self, job: str, number: int) -> None:
        """A signal to all processes of a job's own group."""
        if self.processes[job].poll() is None:
            os.killpg(self.processes[job].pid, number)

    def _start(self, job: str, script: Path) -> None:
        hosts = script.parent / "hosts"
        hosts.write_text("".join(f"n{i + 1}\n" for i in range(self.nodes)))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "COBALT"))}
        with (script.parent / f"out-{job}").open("wb") as log:
            self.processes[job] = subprocess.Popen(
                ["/bin/bash", script],
                env=environment | {"PBS_NODEFILE": str(hosts)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@dataclass
class Bench:
    """Scripts in a folder, the scheduler and the driver at work."""

    folder: Path
    scheduler: Local = field(default_factory=Local)
    limits: Limits = field(default_factory=lambda: Limits(poll=0.1, retries=2, latency=0.5, gather=0.3))
    said: list[str] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.head(4, 60)
        self.restart()

    def restart(self, since: float | None = None) -> None:
        """The driver is killed, another one starts."""
        self.journals = Journals()
        self.tracker = Tracker(
            self.scheduler, self.journals, self.limits, self.said.append, time.monotonic, random.Random(1), since
        )

    def head(self, nodes: int, minutes: int) -> None:
        (self.folder / "head.sh").write_text(
            f"#!/bin/bash\n#BATCH_SCRIPT --nodes {nodes} --minutes {minutes}\n# @PACK@\n"
        )

    def script(self, name: str, body: str = "", nodes: int = 1, minutes: int = 60) -> None:
        """It notes when and where it runs; its output appears at the end."""
        path = self.folder / f"{name}.sh"
        path.write_text(
            f"#!/bin/bash\n#BATCH_SCRIPT --pack {self.folder}/head.sh --nodes {nodes} --minutes {minutes}\n"
            f"cd {self.folder}\necho $(date +%s.%N) {name} start $(cat ${{BATCH_SCRIPT_NODEFILE:-/dev/null}}) >>runs\n"
            f"trap 'echo $(date +%s.%N) {name} stop >>runs' EXIT\n{body}\n"
            f"echo x >{name}.new && mv {name}.new {name}.out\n"
        )
        path.chmod(0o755)

    def add(self, *names: str, order: int = 0) -> None:
        for name in names:
            self.tracker.add(self.folder / f"{name}.sh", self.folder / f"{name}.out", order)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {self.said}, {self.results}, {self.runs()}"
            for result in self.tracker.step().values():
                assert result.script.stem not in self.results, "reported twice"
                self.results[result.script.stem] = result
            time.sleep(0.02)

    def finish(self, count: int) -> None:
        self.until(lambda: len(self.results) == count)

    def runs(self) -> list[list[str]]:
        """Lines [time, script, start or stop, nodes ...] in their order."""
        path = self.folder / "runs"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def started(self, name: str) -> int:
        return sum(line[1:3] == [name, "start"] for line in self.runs())

    def all_started(self, *names: str) -> bool:
        return all(self.started(name) for name in names)

    def packs(self) -> list[Path]:
        return sorted((self.folder / FOLDER).glob("p-*"), key=lambda pack: pack.stat().st_ctime)

    def check(self) -> None:
        """No node is used by two scripts at a time, and no script runs twice at a time."""
        used: dict[str, str] = {}
        nodes: dict[str, list[str]] = {}
        for _, name, what, *where in self.runs():
            if what == "start":
                assert name not in nodes, f"{name} twice at a time"
                assert not used.keys() & set(where), f"{name} on nodes of {[used.get(node) for node in where]}"
                nodes[name] = where
                used |= dict.fromkeys(where, name)
            else:
                for node in nodes.pop(name):
                    used.pop(node, None)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for job in bench.scheduler.processes:
        bench.scheduler.end(job, signal.SIGTERM)
    for process in bench.scheduler.processes.values():
        process.wait(30)


def wait_for(name: str) -> str:
    return f"until [ -e {name} ]; do sleep 0.05; done"


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
    assert learnt == [1]
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


@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_a_job_that_dies_takes_its_verdict_to_what_ran_and_none_to_what_did_not(bench: Bench, how: str) -> None:
    bench.head(2, 180)
    bench.script("done", "", nodes=1)
    bench.script("runs", "[ -e mark ] || { touch mark; sleep 100; }", nodes=2)
    bench.script("waits", "", nodes=2)
    bench.add("done", "runs", "waits")
    bench.until(lambda: bench.all_started("done", "runs"))
    bench.scheduler.verdicts["1"] = Ended(Outcome.NODE_FAILURE, detail="node down")
    bench.scheduler.end("1", signal.SIGKILL if how == "killed" else signal.SIGTERM)
    # (the script goes with the runner, though it is not in its process group)
    bench.finish(3)
    told = {name: (result.reason, result.attempts) for name, result in bench.results.items()}
    assert told == {"done": ("done", 1), "runs": ("done", 2), "waits": ("done", 1)}
    assert any("runs (job 1:runs) node-failure: node down; submitted again (2 of 3)" in line for line in bench.said)
    events = [event for event in bench.journals.of(bench.folder / "x").events() if event.get("outcome") == "postponed"]
    assert [event["event"] for event in events] == ["ended", "retry"]


def test_what_had_not_begun_needs_no_further_attempt(bench: Bench) -> None:
    bench.limits = Limits(poll=0.1, retries=0, latency=0.5, gather=0.3)
    bench.restart()
    bench.head(1, 120)
    bench.script("runs", "sleep 100")
    bench.script("waits")
    bench.add("runs", "waits")
    bench.until(lambda: bench.started("runs"))
    bench.scheduler.end("1", signal.SIGTERM)
    bench.finish(2)
    told = {name: (result.reason, result.attempts) for name, result in bench.results.items()}
    assert told == {"runs": ("killed", 1), "waits": ("done", 1)}


def test_each_has_a_limit_of_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bench.folder / FOLDER / "p-0"
    folder.mkdir(parents=True)
    bench.script("long", "sleep 100")
    bench.script("next", "")
    bench.script("late", "")
    members = [
        {"label": name, "name": name, "script": str(bench.folder / f"{name}.sh"), "log": str(folder / name),
         "nodes": 1, "seconds": seconds}
        for name, seconds in (("long", 1), ("next", 1), ("late", 100))
    ]  # fmt: skip
    (folder / runner.MANIFEST).write_text(json.dumps({"nodes": 1, "seconds": 20, "members": members}))
    monkeypatch.delenv("PBS_NODEFILE", raising=False)
    assert runner.Runner(folder).run() == 0
    ends = {path.stem: json.loads(path.read_text()) for path in folder.glob(f"*{runner.ENDED}")}
    assert {name: (end["reason"], end["code"] == 0) for name, end in ends.items()} == {
        "long": ("walltime", False), "next": ("ended", True)
    }  # fmt: skip
    assert not (folder / f"late{runner.STARTED}").exists()  # half of its time was not left


def test_a_script_that_cannot_be_started(bench: Bench) -> None:
    bench.script("a")
    bench.script("b")
    (bench.folder / "b.sh").chmod(0o644)
    bench.add("a", "b")
    bench.finish(2)
    assert bench.results["a"].done
    said = "b (job 1:b) launch-failed: could not be started: Permission denied; submitted again (2 of 3)"
    assert said in bench.said  # alone, as the scheduler starts it by another way here
    assert (bench.results["b"].done, bench.results["b"].attempts) == (True, 2)


def test_out_of_memory_by_the_scripts_own_words(bench: Bench) -> None:
    bench.script("a", "echo '[NID 1] OOM killer terminated this process.' >&2; exit 137")
    bench.script("b")
    bench.add("a", "b")
    bench.finish(2)
    assert (bench.results["a"].reason, bench.results["a"].attempts) == ("out-of-memory", 1)


def test_what_a_job_holds_cannot_be_read_for_a_while(bench: Bench) -> None:
    for name in "ab":
        bench.script(name, wait_for("go"))
    bench.add("a", "b")
    bench.until(lambda: bench.all_started("a", "b") and (bench.packs()[0] / JOB).exists())
    manifest = bench.packs()[0] / runner.MANIFEST
    manifest.rename(manifest.with_name("away"))
    bench.restart()
    bench.add("a", "b")
    soon = time.monotonic() + 3.0
    bench.until(lambda: time.monotonic() > soon)
    manifest.with_name("away").rename(manifest)
    bench.until(lambda: sum("attached to job 1:" in line for line in bench.said) == 2)
    (bench.folder / "go").touch()
    bench.finish(2)
    assert len(bench.scheduler.submissions) == 1
    bench.check()


def test_records_that_never_came_where_the_output_did(bench: Bench) -> None:
    bench.head(1, 120)
    bench.script("a")
    bench.script("b")
    bench.add("a", "b")
    bench.until(lambda: bench.scheduler.processes)
    bench.scheduler.processes["1"].wait(30)
    for suffix in (runner.STARTED, runner.ENDED):
        (bench.packs()[0] / f"b{suffix}").unlink()
    bench.finish(2)
    assert {name: (result.reason, result.attempts) for name, result in bench.results.items()} == {
        "a": ("done", 1), "b": ("done", 1)
    }  # fmt: skip
    assert len(bench.scheduler.submissions) == 1


def test_a_job_that_the_user_deletes_is_not_submitted_again(bench: Bench) -> None:
    bench.head(1, 120)
    bench.script("runs", "sleep 100")
    bench.script("waits")
    bench.add("runs", "waits")
    bench.until(lambda: bench.started("runs"))
    bench.scheduler.cancel(["1"])
    bench.finish(2)
    assert [result.reason for result in bench.results.values()] == ["cancelled", "cancelled"]
    assert len(bench.scheduler.submissions) == 1


def test_an_id_that_is_another_job_by_now(bench: Bench) -> None:
    bench.scheduler.hold = True
    for name in "ab":
        bench.script(name)
    bench.add("a", "b")
    bench.until(lambda: bench.scheduler.submissions)
    bench.script("foreign", wait_for("go"))
    bench.scheduler.names["1"], bench.scheduler.queued["1"] = "foreign", bench.folder / "foreign.sh"
    bench.scheduler.hold = False
    bench.restart()
    bench.add("a", "b")
    bench.finish(2)
    assert {result.job for result in bench.results.values()} == {"2:a", "2:b"}
    (bench.folder / "go").touch()


def test_what_comes_first_is_not_passed_over_for_full_jobs(bench: Bench) -> None:
    bench.limits = Limits(poll=0.1, latency=0.5, gather=0.0, slots=1)
    bench.restart()
    bench.script("urgent", nodes=3)
    for name in ("low1", "low2"):
        bench.script(name, nodes=4)
    bench.add("low1", "low2")
    bench.add("urgent", order=-9)
    bench.finish(3)
    assert [line[1] for line in bench.runs() if line[2] == "start"] == ["urgent", "low1", "low2"]


def test_a_script_that_waits_its_turn_is_cancelled_at_once(bench: Bench) -> None:
    bench.head(1, 120)
    bench.script("runs", wait_for("go"))
    bench.script("waits")
    bench.add("runs", "waits")
    bench.until(lambda: bench.started("runs"))
    (bench.packs()[0] / f"waits{runner.CANCEL}").touch()
    bench.until(lambda: "waits" in bench.results)
    assert bench.results["waits"].reason == "cancelled"
    (bench.folder / "go").touch()
    bench.finish(2)
    assert bench.results["runs"].done


def test_a_mark_that_cannot_be_made_keeps_no_job_from_being_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        bench.script(name, "sleep 100")
    bench.add("a", "b")
    bench.until(lambda: bench.all_started("a", "b"))

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "touch", full)
    scheduler = bench.tracker._scheduler
    with pytest.raises(UnreachableError, match="No space left"):
        scheduler.cancel(["1:a", "7"])
    assert bench.scheduler.verdicts.keys() == {"7"}
    scheduler.cancel(["1:a", "1:b"])
    assert bench.scheduler.verdicts.keys() == {"7", "1"}


def test_folders_that_cannot_be_read_stop_no_driver(bench: Bench) -> None:
    folder = bench.folder / FOLDER / "p-odd"
    folder.mkdir(parents=True)
    (folder / JOB).write_bytes(b"\xff\xfe")
    (folder / runner.MANIFEST).write_text("[]")
    for name in "ab":
        bench.script(name)
    bench.add("a", "b")
    bench.finish(2)
    assert all(result.done for result in bench.results.values())


def test_a_full_disk_ends_no_script(bench: Bench) -> None:
    """Neither the job's output can be written, nor the list of one script's nodes."""
    folder = bench.folder / FOLDER / "p-0"
    folder.mkdir(parents=True)
    (folder / f"b{runner.NODES}").mkdir()
    members = []
    for name in "ab":
        bench.script(name)
        script = bench.folder / f"{name}.sh"
        members.append({"label": name, "script": str(script), "log": str(folder / name), "nodes": 1, "seconds": 100})
    (folder / runner.MANIFEST).write_text(json.dumps({"nodes": 2, "seconds": 100, "members": members}))
    hosts = bench.folder / "hosts"
    hosts.write_text("n1\nn2\n")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-I", runner.__file__, folder], stdout=full, stderr=full, timeout=60,
            env={"PATH": os.environ["PATH"], "PBS_NODEFILE": str(hosts)},
        )  # fmt: skip
    assert done.returncode == 0
    assert (bench.folder / "a.out").exists()
    record = json.loads((folder / f"b{runner.ENDED}").read_text())
    assert record["reason"] == "could not be started: Is a directory"
