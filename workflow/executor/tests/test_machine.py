"""No scheduler: scripts on this machine, under the tracker, with drivers that come and go."""

from __future__ import annotations

import os
import random
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from snakemake_executor_plugin_batch_script.contact import Limits
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.schedulers import machine, processes
from snakemake_executor_plugin_batch_script.schedulers.base import Ended, Outcome, RefusedError, State
from snakemake_executor_plugin_batch_script.schedulers.machine import Machine
from snakemake_executor_plugin_batch_script.task import Result, digest_of, job_name
from snakemake_executor_plugin_batch_script.tracking import Tracker

START_S = 60.0  # until something must have happened, on a machine that does much else
LIMITS = Limits(poll=0.3, retries=0, latency=0.3, slots=1, immediate=True)


@dataclass
class Bench:
    """Scripts in a folder and the driver of the moment; `driver` may be replaced without an end of the old one."""

    folder: Path
    limits: Limits = LIMITS
    said: list[str] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The driver is killed, another one starts: it knows nothing of the old one's processes."""
        self.machine, self.journals = Machine(), Journals()
        chance = random.Random(1)
        self.tracker = Tracker(self.machine, self.journals, self.limits, self.said.append, time.monotonic, chance)

    def path(self, stem: str) -> Path:
        return self.folder / f"{stem}.sh"

    def script(self, stem: str, body: str = "") -> Path:
        """A script that notes its start and end, and makes its output unless `body` ends it before."""
        self.path(stem).write_text(
            f"cd {self.folder}\necho start {stem} $$ >>runs\n{body}\necho x >{stem}.new && mv {stem}.new {stem}.out\n"
            f"echo end {stem} >>runs\n"
        )
        return self.path(stem)

    def add(self, *stems: str, order: float | None = None) -> None:
        for stem in stems:
            log = self.folder / "logs" / f"{stem}.log"
            self.tracker.add(self.path(stem), self.folder / f"{stem}.out", order, log)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {self.said}, {self.runs()}"
            for result in self.tracker.step().values():
                self.results[result.script.stem] = result
            time.sleep(0.02)

    def finish(self, count: int) -> dict[str, str]:
        self.until(lambda: len(self.results) == count)
        return {stem: result.reason for stem, result in self.results.items()}

    def runs(self) -> list[str]:
        """Lines such as "start a", in order."""
        runs = self.folder / "runs"
        return [" ".join(line.split()[:2]) for line in runs.read_text().splitlines()] if runs.exists() else []

    def pid(self, stem: str) -> int:
        lines = [line.split() for line in (self.folder / "runs").read_text().splitlines()]
        return next(int(words[2]) for words in lines if words[:2] == ["start", stem])

    def events(self, stem: str) -> list[str]:
        events = self.journals.of(self.path("x")).events()
        return [event["event"] for event in events if event.get("script") == str(self.path(stem))]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for live, script in machine._keepers():
        if script.parent == tmp_path and (pid := processes.pid_of(live.job)):
            os.killpg(pid, signal.SIGKILL)


def test_scripts_run_in_their_order_and_one_at_a_time(bench: Bench) -> None:
    for stem in "abcd":
        bench.script(stem, "sleep 0.1")
    bench.add("d")
    bench.add("c", order=3)
    bench.add("b", order=2)
    bench.add("a", order=1)
    assert bench.finish(4) == dict.fromkeys("abcd", "done")
    assert bench.runs() == [f"{what} {stem}" for stem in "abcd" for what in ("start", "end")]
    assert bench.events("a") == ["submitting", "submitted", "running", "ended"]
    assert 0.05 < (bench.results["a"].run or 0) < 30


@pytest.mark.parametrize(
    ("body", "reason", "code"),
    [
        ("exit 2", "failed", 2), ("exit 75", "failed", 75), ("exit 70", "failed", 70), ("exit 0", "failed", 0),
        ("kill -KILL $$", "killed", 137), ("kill -SEGV $$", "killed", 139),
    ],
)  # fmt: skip
def test_ends(bench: Bench, body: str, reason: str, code: int) -> None:
    bench.script("a", f"echo said\n{body}")
    bench.add("a")
    bench.finish(1)
    result = bench.results["a"]
    assert (result.reason, result.exit_code) == (reason, code)
    assert result.log == bench.folder / "logs" / "a.log"
    assert "said" in result.log.read_text()


def test_retries_are_those_of_the_other_schedulers(bench: Bench) -> None:
    bench.limits = Limits(poll=0.1, retries=2, latency=0.3, slots=1, immediate=True)
    bench.restart()
    bench.script("a", "[ $(grep -c 'start a' runs) = 3 ] || exit 1")
    bench.script("b", "exit 2")
    bench.add("a", "b")
    assert bench.finish(2) == {"a": "done", "b": "failed"}
    assert (bench.results["a"].attempts, bench.results["b"].attempts) == (3, 1)


def test_a_driver_that_was_killed_leaves_a_script_that_the_next_one_attaches_to(bench: Bench) -> None:
    bench.script("a", "until [ -e go ]; do sleep 0.05; done")
    bench.script("b")
    bench.add("a", "b")
    bench.until(lambda: "start a" in bench.runs())
    bench.restart()
    bench.add("a", "b")
    bench.until(lambda: any("a: attached to job" in line for line in bench.said))
    (bench.folder / "go").touch()
    assert bench.finish(2) == {"a": "done", "b": "done"}
    assert bench.runs() == ["start a", "end a", "start b", "end b"]


def test_the_next_driver_knows_how_a_script_ended_that_was_not_its_child(bench: Bench) -> None:
    bench.script("a", "until [ -e go ]; do sleep 0.05; done; exit 70")
    bench.add("a")
    bench.until(lambda: "start a" in bench.runs())
    bench.restart()
    bench.add("a")
    bench.until(lambda: any("attached" in line for line in bench.said))
    (bench.folder / "go").touch()
    bench.finish(1)
    assert (bench.results["a"].reason, bench.results["a"].exit_code) == ("failed", 70)


def test_a_driver_killed_within_its_submission_is_followed_by_one_that_finds_the_script(bench: Bench) -> None:
    script = bench.script("a", "until [ -e go ]; do sleep 0.05; done")
    bench.journals.of(script).write("submitting", script=script, name=job_name(script), digest=digest_of(script))
    bench.machine.submit(script, job_name(script))
    bench.until(lambda: "start a" in bench.runs())
    bench.restart()
    bench.add("a")
    bench.until(lambda: any("attached" in line for line in bench.said))
    (bench.folder / "go").touch()
    assert bench.finish(1) == {"a": "done"}
    assert bench.runs() == ["start a", "end a"]


def test_a_script_that_nobody_asked_for_any_more_is_waited_for(bench: Bench) -> None:
    """An earlier driver's: the next one is asked for another target."""
    bench.script("a", "until [ -e go ]; do sleep 0.05; done")
    bench.script("b")
    bench.add("a")
    bench.until(lambda: "start a" in bench.runs())
    bench.restart()
    bench.add("b")
    bench.until(lambda: any("still runs, of an earlier driver" in line for line in bench.said))
    assert bench.runs() == ["start a"]
    (bench.folder / "go").touch()
    assert bench.finish(1) == {"b": "done"}
    assert bench.runs() == ["start a", "end a", "start b", "end b"]


def test_a_script_that_was_changed_meanwhile_waits_for_the_old_one(bench: Bench) -> None:
    bench.script("a", "until [ -e go ]; do sleep 0.05; done")
    bench.add("a")
    bench.until(lambda: "start a" in bench.runs())
    bench.restart()
    bench.path("a").rename(bench.folder / "old")  # the running shell reads its file
    bench.script("a", "echo new >>runs")
    bench.add("a")
    bench.until(lambda: any("was submitted with another content of" in line for line in bench.said))
    assert bench.runs() == ["start a"]
    (bench.folder / "go").touch()
    assert bench.finish(1) == {"a": "done"}
    assert bench.runs() == ["start a", "end a", "start a", "new", "end a"]
    assert "cancelled" not in bench.events("a")
    assert sum("another content" in line for line in bench.said) == 1


def test_cancelling_ends_what_the_script_started(bench: Bench) -> None:
    bench.script("a", "trap 'echo ended >>runs' TERM; sleep 1000 & wait; wait; exit 5")
    bench.script("b")
    bench.add("a", "b")
    bench.until(lambda: "start a" in bench.runs())
    time.sleep(0.1)
    group = os.getpgid(bench.pid("a"))
    bench.tracker.cancel()
    assert bench.runs() == ["start a", "ended"]
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert {result.reason for result in bench.tracker.results} == {"cancelled"}
    bench.restart()
    bench.script("a")
    bench.add("a", "b")
    assert bench.finish(2) == {"a": "done", "b": "done"}


def test_what_does_not_listen_to_sigterm_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GRACE", 0.5)
    bench.script("a", "trap '' TERM; sleep 1000")
    bench.add("a")
    bench.until(lambda: "start a" in bench.runs())
    bench.tracker.cancel()
    assert not [script for _, script in machine._keepers() if script == bench.path("a")]


def test_a_script_inherits_no_file_of_the_driver_and_has_a_session_of_its_own(bench: Bench, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        bench.script("a", "ls -l /proc/$$/fd >seen; ps -o sid= -p $$ >session; sleep 0.2")
        bench.add("a")
        bench.finish(1)
    seen = (tmp_path / "seen").read_text()
    assert str(tmp_path / "logs" / "a.log") in seen
    assert "/lock" not in seen
    assert "pipe:" not in seen
    assert int((tmp_path / "session").read_text()) != os.getsid(0)


def test_a_number_that_is_another_process_by_now_is_not_the_job(bench: Bench) -> None:
    """The id has the moment of the start and the machine's start in it."""
    job = processes.job_of(os.getpid())
    assert job
    assert processes.pid_of(job) == os.getpid()
    pid, start, boot = job.split("-")
    for other in (f"{pid}-{int(start) + 1}-{boot}", f"{pid}-{start}-{'0' * 8}", f"{2**22 + 1}-{start}-{boot}", "17"):
        assert processes.pid_of(other) is None
    script = bench.script("a")
    bench.journals.of(script).write("submitted", script=script, name=job_name(script), job=job)  # no keeper of ours
    bench.restart()
    bench.add("a")
    assert bench.finish(1) == {"a": "done"}


def test_a_keeper_that_was_killed_is_known_to_have_gone(bench: Bench) -> None:
    bench.script("a", "sleep 1000")
    bench.add("a")
    bench.until(lambda: "start a" in bench.runs())
    bench.restart()  # not its parent any more
    bench.add("a")
    bench.until(lambda: any("attached" in line for line in bench.said))
    os.killpg(os.getsid(bench.pid("a")), signal.SIGKILL)
    assert bench.finish(1) == {"a": "vanished"}


def test_the_end_of_a_script_can_be_waited_for(bench: Bench) -> None:
    if not processes.can_watch():
        pytest.skip("this kernel has no pidfd_open")
    script = bench.script("a", "until [ -e go ]; do sleep 0.05; done")
    job = bench.machine.submit(script, job_name(script))
    [descriptor] = bench.machine.watched()
    assert os.get_inheritable(descriptor) is False
    assert [(live.job, live.state) for live in bench.machine.live([job], names=False)] == [(job, State.RUNNING)]
    (bench.folder / "go").touch()
    assert select.select([descriptor], [], [], START_S)[0]
    assert bench.machine.live([job], names=False) == []  # by name, those of other tests would be there, too
    assert bench.machine.watched() == []
    told = bench.machine.ended({job: script})[job]
    assert isinstance(told, Ended)
    assert (told.outcome, told.exit_code, told.final) == (Outcome.DONE, 0, True)


def test_nothing_wakes_the_driver_while_a_script_runs_and_many_wait(bench: Bench) -> None:
    """What is measured on this machine is to be alone: at the first script as at the hundredth."""
    bench.limits = Limits(poll=30, retries=0, latency=0.3, slots=1, immediate=True)
    bench.restart()
    bench.script("a", "until [ -e go ]; do sleep 0.05; done")
    for number in range(200):
        bench.script(f"later{number}")
    bench.add("a", order=0)
    bench.add(*(f"later{number}" for number in range(200)), order=1)
    bench.until(lambda: "start a" in bench.runs())
    bench.tracker.step()
    assert bench.tracker.idle() > 20
    (bench.folder / "go").touch()
    assert select.select(bench.tracker.watched(), [], [], START_S)[0]
    bench.tracker.hasten(bench.tracker.watched())
    assert bench.tracker.watched() == [], "or it would wake the driver again and again"
    assert bench.tracker.idle() < 0.1
    bench.until(lambda: bool(bench.results))
    assert bench.tracker.idle() < 0.5, "the next one is not kept waiting"


def test_scripts_run_in_turn_where_the_kernel_does_not_tell_of_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "watch", lambda job: None)
    bench.script("a", "sleep 0.2")
    bench.script("b")
    bench.add("a", "b")
    assert bench.finish(2) == {"a": "done", "b": "done"}
    assert bench.machine.watched() == []
    assert bench.runs() == ["start a", "end a", "start b", "end b"]


def test_a_log_that_can_never_be_written_refuses_the_script_at_once(tmp_path: Path) -> None:
    script = tmp_path / "a.sh"
    script.write_text("true\n")
    (tmp_path / "file").write_text("")
    machine = Machine()
    machine.know(script, tmp_path / "file" / "a.log")
    with pytest.raises(RefusedError, match=r"file: (File exists|Not a directory)"):
        machine.submit(script, "c-1")
