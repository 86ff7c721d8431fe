"""Scripts that share jobs: how each of them ends, whatever becomes of the job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from real_scheduler import Bench, wait_for
from snakemake_executor_plugin_batch_script import runner
from snakemake_executor_plugin_batch_script.contact import Limits
from snakemake_executor_plugin_batch_script.pack_folder import FOLDER, JOB
from snakemake_executor_plugin_batch_script.schedulers.base import (
    Ended,
    Outcome,
    UnreachableError,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for job in bench.scheduler.processes:
        bench.scheduler.end(job, signal.SIGTERM)
    for process in bench.scheduler.processes.values():
        process.wait(30)


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
