"""Clocks of hosts: a ping-pong finds an offset within the error that it states, and says when it cannot."""

from __future__ import annotations

import math
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn import clocks
from bnn.clocks import ClockReading, ClockRelation, ask, read_clock, serve
from bnn.engine import SingleEngine

TOKEN = bytes(range(clocks.TOKEN_BYTES))


def served(expected: int, ahead: float = 0.0, patience: float = 5.0) -> tuple[int, threading.Thread]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    answering = {"clock": lambda: time.perf_counter() + ahead}
    thread = threading.Thread(target=serve, args=(listener, TOKEN, expected, patience), kwargs=answering)
    thread.start()
    return port, thread


@settings(max_examples=10, deadline=None)
@given(st.floats(-1e6, 1e6))
def test_an_offset_lies_within_the_error_that_is_stated(ahead: float) -> None:
    port, thread = served(1, ahead)
    reading = ask(["127.0.0.1"], port, TOKEN)
    thread.join()
    assert abs(reading.offset - ahead) <= reading.error
    assert 0 < reading.error < 0.05
    assert reading.at <= time.perf_counter()


def test_only_who_knows_the_word_is_answered() -> None:
    port, thread = served(1)
    assert math.isnan(ask(["127.0.0.1"], port, bytes(len(TOKEN))).offset)
    assert not math.isnan(ask(["127.0.0.1"], port, TOKEN).offset)
    thread.join()


def test_a_host_that_cannot_be_reached_has_an_unknown_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert math.isnan(ask(["127.0.0.1", "no-such-host.invalid"], port, TOKEN).offset)
    start = time.monotonic()
    _, thread = served(1, patience=0.2)
    thread.join()
    assert time.monotonic() - start < 2


def test_between_two_readings_a_clock_drifts_evenly() -> None:
    relation = ClockRelation(ClockReading(100.0, 5.0, 1e-5), ClockReading(200.0, 5.1, 2e-5))
    np.testing.assert_allclose(relation.offsets(np.array([100.0, 150.0, 200.0])), [5.0, 5.05, 5.1])
    assert relation.error == 2e-5
    unknown = ClockReading(200.0, math.nan, math.nan)
    assert math.isnan(ClockRelation(relation.start, unknown).error)
    assert np.isnan(ClockRelation(relation.start, unknown).offsets(np.array([150.0]))).all()


class Pretended(SingleEngine):
    """One rank of several, whose `gather` hands over what a test says the others said."""

    def __init__(self, rank: int, answers: dict[str, Any]) -> None:
        self.rank, self.size, self.answers = rank, 2, answers

    def gather(self, value: Any, label: str) -> list[Any]:
        found = self.answers[label](value)
        assert isinstance(found, list)
        return found


def test_ranks_of_one_machine_share_a_clock() -> None:
    reading = read_clock(Pretended(1, {"c.identity": lambda mine: [mine, mine]}), "c")
    assert (reading.offset, reading.error) == (0, 0)
    assert read_clock(SingleEngine(), "c").error == 0


def test_two_machines_compare_theirs() -> None:
    """Both ranks in one process, as two threads: rank 1 finds the offset 0 within its error."""
    barrier, said, found = threading.Barrier(2, timeout=20), {}, {}

    class Together(SingleEngine):
        size = 2

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def gather(self, value: Any, label: str) -> list[Any]:
            said[label, self.rank] = value if not label.endswith("identity") else f"machine {self.rank}"
            barrier.wait()
            return [said[label, 0], said[label, 1]]

    def work(rank: int) -> None:
        found[rank] = read_clock(Together(rank), "c")

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found[0].offset, found[0].error) == (0, 0)
    assert abs(found[1].offset) <= found[1].error < 0.05
