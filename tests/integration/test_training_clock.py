"""A step lasts from its start to the next one's: nothing that every step costs is lost, nothing else is in it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.heartbeat import Heartbeat
from bnn.losses import rank_losses
from bnn.records import STEPS, STEPS_FILE, read_table, write_table
from bnn.settings import TrainSettings
from bnn.training import loop
from bnn.training.recorder import BETWEEN, PARTS, Recorder, StepClock
from bnn.training.waiting import REASONS

FEW = {
    "dataset": "synthetic", "dataset_options": {"shape": [1, 4, 4], "classes": 2, "size": 32}, "model": "fc",
    "width": 0.01, "kind": "cnn", "batch_size": 8, "engine": "single", "save_posterior": False, "epochs": 3,
    "evaluate": "none", "warmup_steps": 2,
}  # fmt: skip
NAMED = [f"seconds_{part}" for part in (*PARTS, BETWEEN)]


def train(out: Path, **settings: Any) -> pd.DataFrame:
    summary = loop.train(TrainSettings.model_validate(FEW | settings), out, SingleEngine(), time.time())
    assert summary is not None
    return read_table(out / STEPS_FILE, STEPS)


def test_parts_add_up_and_steps_that_follow_one_another_leave_no_gap() -> None:
    clock, timings = StepClock("cpu"), []
    first = time.perf_counter()
    for _ in range(200):
        clock.start()
        timings.append(clock.timing)
        for _ in PARTS:
            clock.lap()
    clock.stop()
    last = time.perf_counter()
    found = [timing.seconds() for timing in timings]
    assert all(one["seconds"] == sum(one[name] for name in NAMED) for one in found)
    assert timings[0].marks[0] >= first
    assert sum(one["seconds"] for one in found) == pytest.approx(timings[-1].marks[-1] - timings[0].marks[0], abs=1e-6)
    assert timings[-1].marks[-1] <= last


def test_what_comes_while_the_clock_stands_is_in_no_step() -> None:
    clock, timings = StepClock("cpu"), []
    for _ in range(2):
        clock.start()
        timings.append(clock.timing)
        for _ in PARTS:
            clock.lap()
        clock.stop()
        clock.stop()  # once more changes nothing
        time.sleep(0.05)
    assert all(timing.seconds()["seconds"] < 0.05 for timing in timings)
    clock.start()
    with pytest.raises(ValueError, match="zip"):
        clock.timing.seconds()


def test_the_work_of_recording_a_step_is_in_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = train(tmp_path / "quick")
    add = Recorder.add

    def slow(self: Recorder, *arguments: Any) -> None:
        time.sleep(0.005)
        add(self, *arguments)

    monkeypatch.setattr(Recorder, "add", slow)
    slowed = train(tmp_path / "slow")
    assert (slowed["seconds_between"] >= 0.005).all()
    assert slowed["seconds_between"].median() - quick["seconds_between"].median() == pytest.approx(0.005, abs=0.002)
    assert (slowed["seconds"] - slowed[NAMED].sum(axis=1)).abs().max() < 1e-12


def test_another_clock_finds_the_same_seconds(tmp_path: Path) -> None:
    """The clock of the day, read where a step starts and ends, against the sum of its laps; one rank waits for none."""
    rows = train(tmp_path)
    assert (rows["ended_at"] - rows["started_at"] - rows["seconds"]).abs().max() < 1e-3
    assert (rows[[f"seconds_{reason}" for reason in REASONS]] == 0).all(axis=None)
    assert rows["late_rank"].isna().all()
    assert (rows["seconds_injected"] == 0).all()
    (found,) = rank_losses(rows)
    assert abs(found.unexplained) < 0.02 * found.wall
    assert found.hidden == 0


def test_an_evaluation_is_in_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = loop.evaluate

    def slow(*arguments: Any) -> Any:
        time.sleep(0.3)
        return evaluate(*arguments)

    monkeypatch.setattr(loop, "evaluate", slow)
    rows = train(tmp_path, evaluate="epoch", checkpoint_epochs=1)
    assert len(rows) == 12
    assert rows["seconds"].max() < 0.3
    ends = rows["started_at"] + rows["seconds"]
    gaps = (rows["started_at"].shift(-1) - ends).iloc[:-1]
    assert gaps[[3, 7]].min() >= 0.3  # after each epoch of four steps
    assert gaps.drop([1, 3, 7]).abs().max() < 0.002  # 1: the end of the warm-up, where energy counters are read


def test_the_heartbeats_rate_leaves_out_what_is_in_no_step(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, 0)
    heartbeat.begin(attempt=1, first_step=0, steps=10, batch_size=8)
    heartbeat.pause()
    time.sleep(0.2)
    clock = StepClock("cpu", heartbeat)
    clock.start()
    for _ in PARTS:
        clock.lap()
    time.sleep(0.02)
    heartbeat.advance(1)
    clock.stop()
    time.sleep(0.2)
    rate = heartbeat.record().samples_per_second
    assert rate is not None
    assert 8 / 0.2 < rate <= 8 / 0.02


def test_steps_of_an_earlier_version_are_read_and_say_what_they_lack(tmp_path: Path) -> None:
    rows = train(tmp_path)
    old = pq.read_table(tmp_path / STEPS_FILE).drop_columns(["seconds_between"])
    pq.write_table(old.replace_schema_metadata({"schema": "steps", "schema_version": "1"}), tmp_path / "old.parquet")
    read = read_table(tmp_path / "old.parquet", STEPS)
    assert read["seconds_between"].isna().all()
    pd.testing.assert_frame_equal(read.drop(columns="seconds_between"), rows.drop(columns="seconds_between"))
    write_table(read, tmp_path / "again.parquet", STEPS)  # as a resumed run does
    later = ["ended_at", "late_rank", "seconds_injected", *(f"seconds_{reason}" for reason in REASONS)]
    second = pq.read_table(tmp_path / STEPS_FILE).drop_columns(later)
    pq.write_table(second.replace_schema_metadata({"schema": "steps", "schema_version": "2"}), tmp_path / "2.parquet")
    assert read_table(tmp_path / "2.parquet", STEPS)[later].isna().all(axis=None)
    for version in ("0", "4", "?"):
        pq.write_table(
            old.replace_schema_metadata({"schema": "steps", "schema_version": version}), tmp_path / "other.parquet"
        )
        with pytest.raises(UserError, match=f"version {version.replace('?', '.')}, expected steps version 3"):
            read_table(tmp_path / "other.parquet", STEPS)


def test_on_a_gpu_a_step_ends_with_the_event_that_starts_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of a made-up GPU, a millisecond apart; the host waits for none before it is asked for seconds."""
    waited: list[object] = []

    class Event:
        count = 0

        def __init__(self, enable_timing: bool = False) -> None:
            assert enable_timing

        def record(self) -> None:
            Event.count += 1
            self.at = float(Event.count)

        def synchronize(self) -> None:
            waited.append(self)

        def elapsed_time(self, other: Event) -> float:
            return other.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock, timings = StepClock("cuda"), []
    for _ in range(2):
        clock.start()
        timings.append(clock.timing)
        for _ in PARTS:
            clock.lap()
    clock.stop()
    assert not waited
    assert Event.count == 2 * (1 + len(PARTS)) + 1  # one event ends a step and starts the next
    assert timings[0].marks[-1] is timings[1].marks[0]
    for timing in timings:
        assert timing.seconds() == pytest.approx({"seconds": 0.006} | dict.fromkeys(NAMED, 0.001))
    assert waited == [timing.marks[-1] for timing in timings]
