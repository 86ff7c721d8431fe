"""One rank of a replay: it sleeps where the recorded rank computed, and averages buffers of the recorded sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from bnn.bench.replay.schedule import Schedule
from bnn.engine import Engine
from bnn.exchange import Stamps
from bnn.training.recorder import StepClock, Timing

FLOAT = 4


def play(
    engine: Engine, plan: Schedule, block_bytes: Sequence[int], full: Sequence[float], stamps: Stamps,
    advance: Callable[[int], None],
) -> list[Timing]:  # fmt: skip
    """Every step's laps, as a training run has them. All moments of a step before its exchange count from its start."""
    buffers = [torch.zeros(-(-size // FLOAT)) for size in block_bytes]
    clock, timings = StepClock("cpu"), []
    for step, (data, forward, backward, update, between) in enumerate(plan.seconds):
        clock.start()
        timings.append(clock.timing)
        start = clock.timing.marks[0]
        _sleep_until(start + data)
        clock.lap()
        _sleep_until(start + data + forward)
        clock.lap()
        handles = []
        for index, (buffer, share) in enumerate(zip(buffers, full, strict=True)):
            _sleep_until(start + data + forward + share * backward)
            stamps.full(index)
            handles.append(engine.start_average(buffer, f"gradients.{index}"))
        _sleep_until(start + data + forward + backward)
        clock.lap()
        stamps.waits()
        for index, (buffer, handle) in enumerate(zip(buffers, handles, strict=True)):
            engine.finish_average(handle, buffer)
            stamps.averaged(index)
        stamps.next_step()
        clock.lap()
        there = clock.timing.marks[-1]
        _sleep_until(there + update)
        clock.lap()
        _sleep_until(there + update + between)
        advance(step + 1)
    clock.stop()
    return timings


def _sleep_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)
