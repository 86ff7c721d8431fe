"""How many jobs a queue takes, as learnt from its answers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_plugin_batch_script.gates import ALL, ANY, OWN_QUEUE, Gates, Held, queue_of

POLL = 10.0


def gates() -> Gates:
    return Gates(POLL, 3600.0, random.Random(1))


def held(count: int, waiting: int = 0, queue: str = "q") -> dict[str, Held]:
    return {queue: Held(waiting, count), ALL: Held(waiting, count)}


@pytest.mark.parametrize(
    ("text", "queue"),
    [
        ("#PBS -l select=1\n#PBS -q debug\n", "debug"), ("#SBATCH --partition=batch\n", "batch"),
        ("#SBATCH -p a,b\n", "a,b"), ("#COBALT -n 1 -q default\n", "default"), ("#COBALT --queue x\n", "x"),
        ("#PBS -N q\n", OWN_QUEUE), ("", OWN_QUEUE),
    ],
)  # fmt: skip
def test_the_queue_of_a_script(tmp_path: Path, text: str, queue: str) -> None:
    (tmp_path / "a.sh").write_text(f"#!/bin/bash\n{text}echo\n#PBS ends here\n")
    assert queue_of(tmp_path / "a.sh") == queue
    assert queue_of(tmp_path / "none.sh") == OWN_QUEUE


def test_room_is_what_was_learnt_and_now_and_then_one_more() -> None:
    learnt = gates()
    assert learnt.room("q", held(5), 0.0) == ANY
    assert learnt.gate("q").limited(Held(0, 5), "full", False, 0.0)
    assert learnt.room("q", held(5), 1.0) == 0
    assert learnt.room("q", held(3), 1.0) == 2, "two of ours have ended"
    assert learnt.room("other", held(5), 1.0) == ANY
    assert learnt.room("q", held(5), 10 * POLL) == 1
    assert not learnt.gate("q").limited(Held(0, 5), "full", False, 10 * POLL), "no news"
    assert learnt.room("q", held(5), 10 * POLL) == 0


def test_a_limit_of_all_queues_holds_for_each() -> None:
    learnt = gates()
    learnt.gate(ALL).limited(Held(0, 5), "full", False, 0.0)
    assert learnt.room("q", held(5), 1.0) == learnt.room("other", held(5), 1.0) == 0
    assert learnt.taken("q", held(5), 1.0) == []
    assert learnt.taken("q", held(6), 1.0) == [ALL]


def test_less_room_than_was_known_is_believed_the_second_time() -> None:
    """A job of ours that has ended may still count for the scheduler."""
    learnt = gates()
    learnt.gate("q").limited(Held(0, 5), "full", False, 0.0)
    assert not learnt.gate("q").limited(Held(0, 4), "full", False, 100.0)
    assert learnt.room("q", held(4), 101.0) == 0
    assert learnt.room("q", held(4), 100.0 + POLL) == 1, "soon"
    learnt.taken("q", held(5), 111.0)
    assert learnt.gate("q").most == 5
    learnt.gate("q").limited(Held(0, 4), "full", False, 200.0)
    assert learnt.gate("q").limited(Held(0, 4), "full", False, 210.0)
    assert learnt.gate("q").most == 4


def test_words_that_do_not_tell_pause_a_queue_whatever_was_learnt() -> None:
    learnt = gates()
    learnt.gate("q").limited(Held(0, 5), "full", False, 0.0)
    learnt.gate("q").unclear(1.0)
    assert learnt.room("q", held(2), 2.0) == 0
    assert learnt.room("q", held(2), 1000.0) == 1
    learnt.taken("q", held(3), 1000.0)
    assert learnt.room("q", held(3), 1001.0) == 2


def test_hopeless_only_without_any_job_of_ours() -> None:
    learnt = gates()
    learnt.gate("q").limited(Held(0, 0), "full", False, 0.0)
    assert not learnt.hopeless("q", 0.0, 3600.0)
    assert learnt.hopeless("q", 0.0, 3601.0)
    assert not learnt.hopeless("q", None, 10_000.0), "one is there"
    assert not learnt.hopeless("q", 9000.0, 10_000.0), "since the last one has ended"
    learnt.taken("q", held(1), 3602.0)
    assert not learnt.hopeless("q", 0.0, 10_000.0)


def test_silence_is_no_refusal() -> None:
    learnt = gates()
    learnt.gate("q").unclear(10.0)
    learnt.silent(1000.0, 2000.0)
    assert not learnt.hopeless("q", 0.0, 4610.0)
    assert learnt.hopeless("q", 0.0, 4611.0)
    learnt.silent(1e6, 5000.0)
    assert learnt.gate("q").contact.since == 5000.0, "not in the future"


@given(st.lists(st.tuples(st.sampled_from(("limited", "unclear", "taken")), st.integers(0, 9)), max_size=30))
def test_after_any_answers_room_stays_within_what_was_learnt(answers: list[tuple[str, int]]) -> None:
    learnt, now = gates(), 0.0
    for answer, count in answers:
        gate = learnt.gate("q")
        if answer == "limited":
            gate.limited(Held(count, count), "full", False, now)
            assert learnt.room("q", held(count), now + 0.1) == 0
        elif answer == "unclear":
            gate.unclear(now)
            assert learnt.room("q", held(count), now + 0.1) == 0
        else:
            learnt.taken("q", held(count), now)
            assert gate.most is None or gate.most >= count
        for later in (now, now + 1000.0):
            assert 0 <= learnt.room("q", held(count), later) <= (ANY if gate.most is None else max(gate.most, 1))
        assert learnt.room("q", held(count), now + 1000.0) >= 1, "nothing waits for ever"
        now += 7.0
