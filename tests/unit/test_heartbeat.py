"""Heartbeats: the file a rank keeps, what it survives, and what the watchdog makes of many of them."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bnn.heartbeat import Heartbeat
from bnn.ranks import EARLY_RANK, early_rank
from bnn.records.heartbeat import SIZE, HeartbeatRecord, read_heartbeat, read_heartbeats
from bnn.training.recorder import PARTS, StepClock
from bnn.watchdog import Watch, unwritable


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "time is up"
        time.sleep(0.01)


@pytest.fixture
def beating(tmp_path):
    """Heartbeats of 10 ms that are stopped at the end of the test."""
    made = []

    def make(rank: int | None, out: Path = tmp_path) -> Heartbeat:
        made.append(Heartbeat(out, rank, period=0.01))
        made[-1].start()
        return made[-1]

    yield make
    for heartbeat in made:
        heartbeat.stop()


def test_the_file_says_where_the_rank_is_and_keeps_its_size_and_its_place(tmp_path, beating):
    heartbeat, path = beating(3), tmp_path / "heartbeat/rank-3.json"
    wait_for(lambda: read_heartbeat(path))
    first, inode = read_heartbeat(path), path.stat().st_ino
    assert (first.rank, first.pid, first.part, first.attempt, first.steps) == (3, os.getpid(), "start", None, None)
    heartbeat.begin(attempt=2, first_step=40, steps=100_000_000, batch_size=8)
    heartbeat.advance(50)
    heartbeat.move("exchange")
    wait_for(lambda: read_heartbeat(path).part == "exchange" and read_heartbeat(path).step == 50)
    second = read_heartbeat(path)
    assert (second.step, second.steps, second.attempt) == (50, 100_000_000, 2)
    assert second.moved == heartbeat.moved >= first.moved
    assert second.beat > first.beat
    assert 0 < second.samples_per_second <= 80 / (second.beat - second.moved)  # the 10 steps of this attempt
    wait_for(lambda: read_heartbeat(path).beat > second.beat)
    assert read_heartbeat(path).moved == second.moved  # it beats on although nothing moves
    heartbeat.stop()
    assert read_heartbeat(path).done
    content = path.read_bytes()
    assert (path.stat().st_ino, len(content), content.count(b"\n"), content[-1:]) == (inode, SIZE, 1, b"\n")
    assert [p.name for p in path.parent.iterdir()] == ["rank-3.json"]


def test_the_longest_host_name_fits(tmp_path):
    record = HeartbeatRecord(
        rank=10**7, host="h" * 253, pid=2**31, attempt=10**6, step=10**12, steps=10**12, part="evaluation",
        moved=1.234567890123456e9, beat=1.234567890123456e9, samples_per_second=1.234567890123456e-200,
    )  # fmt: skip
    assert len(record.padded()) == SIZE
    assert HeartbeatRecord.model_validate_json(record.padded()) == record
    with pytest.raises(ValueError, match="do not fit"):
        record.model_copy(update={"host": "h" * SIZE}).padded()


def test_a_full_disk_is_borne_and_writing_goes_on_afterwards(tmp_path, beating, monkeypatch):
    full, tried, pwrite = threading.Event(), [], os.pwrite

    def write(*arguments):
        if full.is_set():
            tried.append(arguments)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(*arguments)

    full.set()
    monkeypatch.setattr(os, "pwrite", write)
    heartbeat = beating(0)
    wait_for(lambda: len(tried) > 3)
    heartbeat.move("forward")
    full.clear()
    wait_for(lambda: (found := read_heartbeat(tmp_path / "heartbeat/rank-0.json")) and found.part == "forward")


def test_a_folder_that_cannot_be_made_is_borne(tmp_path, beating):
    (tmp_path / "out").write_text("a file where the folder should be")
    heartbeat = beating(0, tmp_path / "out")
    time.sleep(0.05)
    assert [t for t in threading.enumerate() if t.name == "heartbeat"]
    (tmp_path / "out").unlink()
    wait_for(lambda: read_heartbeat(tmp_path / "out/heartbeat/rank-0.json"))
    heartbeat.stop()


def test_the_rank_is_known_before_its_engine_and_corrected_by_it(tmp_path, beating, monkeypatch):
    for name in EARLY_RANK:
        monkeypatch.delenv(name, raising=False)
    assert early_rank() is None
    beating(early_rank())
    assert not (tmp_path / "heartbeat").exists()
    monkeypatch.setenv("PMI_RANK", "5")
    assert early_rank() == 5
    heartbeat = beating(early_rank())
    wait_for(lambda: read_heartbeats(tmp_path))
    heartbeat.confirm(2)
    wait_for(lambda: read_heartbeat(tmp_path / "heartbeat/rank-2.json"))
    given_up = read_heartbeat(tmp_path / "heartbeat/rank-5.json")
    assert not given_up.done
    written = read_heartbeat(tmp_path / "heartbeat/rank-2.json")
    wait_for(lambda: read_heartbeat(tmp_path / "heartbeat/rank-2.json").beat > written.beat)
    assert read_heartbeat(tmp_path / "heartbeat/rank-5.json") == given_up  # not written any more


def test_the_step_clock_moves_the_heartbeat_through_the_parts(tmp_path):
    heartbeat = Heartbeat(tmp_path, 0)
    clock, parts = StepClock("cpu", heartbeat), []
    clock.start()
    for _ in PARTS:
        parts.append(heartbeat.part)
        before, heartbeat.moved = time.time(), 0.0
        clock.lap()
        assert heartbeat.moved >= before
    assert parts == ["data", "forward", "backward", "exchange", "update"]
    assert heartbeat.part == "update"
    assert not list(tmp_path.iterdir())


def record(rank, step=10, part="forward", moved=0.0, beat=0.0, attempt=1, **more):
    return HeartbeatRecord(
        rank=rank, host=f"node{rank}", pid=100 + rank, attempt=attempt, step=step, steps=20, part=part, moved=moved,
        beat=beat, **more,
    )  # fmt: skip


def put(folder: Path, *records: HeartbeatRecord) -> None:
    (folder / "heartbeat").mkdir(exist_ok=True)
    for one in records:
        (folder / f"heartbeat/rank-{one.rank}.json").write_bytes(one.padded())


def test_of_several_attempts_the_latest_is_read_and_what_cannot_be_read_is_left_out(tmp_path):
    assert read_heartbeats(tmp_path) == []
    put(tmp_path, record(10, attempt=2, beat=500), record(9, attempt=2), record(1, attempt=1, beat=499))
    put(tmp_path, record(5, attempt=None, beat=450), record(6, attempt=None, beat=400))
    (tmp_path / "heartbeat/rank-3.json").write_text('{"rank": 3, "ho')
    (tmp_path / "heartbeat/notes.json").write_text(record(4, attempt=2).model_dump_json())
    assert [r.rank for r in read_heartbeats(tmp_path)] == [5, 9, 10]  # 5 is starting, 6 was so long ago
    assert [r.rank for r in read_heartbeats(tmp_path, attempt=1)] == [1]


def watch(folder: Path, ranks: int, history: list[list[HeartbeatRecord]], start_limit=100.0) -> str | None:
    """The first verdict of a watch with a limit of 10 s over what ranks write once a second; rank 0's file is old."""
    put(folder, record(0, beat=-99))
    state = Watch(folder, ranks, 10, start_limit, 0)
    for now, records in enumerate(history):
        put(folder, *records)
        state.look(now)
        if verdict := state.verdict(now):
            return f"{now}: {verdict}"
    return None


def test_ranks_that_move_are_let_be(tmp_path):
    history = [[record(r, step=t // 8, moved=t // 8, beat=t) for r in (0, 1)] for t in range(60)]
    assert watch(tmp_path, 2, history) is None


def test_the_late_rank_is_the_one_that_the_others_wait_for(tmp_path):
    parts = {0: ("exchange", 7), 1: ("backward", 7), 2: ("exchange", 7), 3: ("data", 8)}
    history = [[record(r, step=step, part=part, beat=t) for r, (part, step) in parts.items()] for t in range(60)]
    found = watch(tmp_path, 4, history)
    assert found == ("11: no rank has moved for 11 s; late: rank 1 on node1 (process 101): step 7 of 20, backward")


def test_when_all_wait_all_of_the_lowest_step_are_late(tmp_path):
    history = [[record(r, step=6 + (r == 1), part="exchange", beat=t) for r in range(3)] for t in range(60)]
    found = watch(tmp_path, 3, history)
    assert "rank 0 on node0" in found
    assert "rank 2 on node2" in found
    assert "rank 1 " not in found


def test_a_stopped_process_comes_before_one_that_computes(tmp_path):
    history = [[record(0, part="forward", beat=t), record(1, step=11, beat=min(t, 2))] for t in range(60)]
    found = watch(tmp_path, 2, history)
    assert found.endswith("late: rank 1 on node1 (process 101): step 11 of 20, forward, silent for 9 s")


def test_a_stopped_process_is_found_while_another_reports_progress_of_a_long_part(tmp_path):
    history = [[record(0, part="evaluation", moved=t, beat=t), record(1, part="evaluation")] for t in range(60)]
    assert watch(tmp_path, 2, history).startswith(
        "11: no sign of life for 10 s; late: rank 1 on node1 (process 101): step 10 of 20, evaluation, silent"
    )


def test_a_file_that_falls_silent_while_steps_go_on_ends_nothing(tmp_path):
    history = [[record(0, step=t, moved=t, beat=t), record(1)] for t in range(60)]
    assert watch(tmp_path, 2, history) is None


def test_a_rank_that_is_done_is_not_late(tmp_path):
    history = [[record(0, part="end", beat=t), record(1, part="end", done=True)] for t in range(60)]
    assert watch(tmp_path, 2, history).endswith("late: rank 0 on node0 (process 100): step 10 of 20, end")


def test_missing_ranks_are_named_and_files_of_earlier_attempts_do_not_count(tmp_path):
    history = [[record(1, beat=t)] for t in range(60)]
    found = watch(tmp_path, 4, history, start_limit=30)
    assert found == "31: no sign of life within 30 s of rank 0; rank 2; rank 3 (4 ranks)"
    many = watch(tmp_path, 1000, history, start_limit=30)
    assert "rank 8; and 991 more" in many
    assert "rank 9" not in many


def test_where_nothing_can_be_written_silence_says_nothing(tmp_path, monkeypatch):
    assert unwritable(tmp_path) is None
    put(tmp_path, record(0))
    assert unwritable(tmp_path) is None
    assert len(list((tmp_path / "heartbeat").iterdir())) == 1

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert unwritable(tmp_path) == "No space left on device"


def test_limits_start_again_after_what_could_not_be_judged(tmp_path):
    put(tmp_path, record(0))
    state = Watch(tmp_path, 1, 10, 100, 0)
    put(tmp_path, record(0, beat=1))
    state.look(1)
    assert state.verdict(12)
    state.restart(12)
    assert state.verdict(22) is None
    assert state.verdict(23)


def test_watchdog_and_records_load_nothing_heavy():
    code = "import sys, json, bnn.watchdog; print(json.dumps([m for m in sys.modules if '.' not in m]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "numpy", "pyarrow", "horovod"} & set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--ranks", "0", "--pid", "9"], "--ranks"), (["--ranks", "1"], "--pid")]
)
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, arguments, named):
    command = [sys.executable, "-m", "bnn.watchdog", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("watchdog: ")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
