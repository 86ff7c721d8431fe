"""Faults on purpose, for experiments: one rank that computes slower, or whose input stands still now and then.

What they take is measured and recorded, step by step, so that it can be looked for in what a run's records tell.
"""

from __future__ import annotations

import time

from bnn.errors import UserError
from bnn.faults import Fault
from bnn.settings import TrainSettings
from bnn.training.recorder import PARTS, StepClock

FORWARD, BACKWARD = PARTS.index("forward"), PARTS.index("backward")


class Faults:
    """What one rank suffers on purpose. A rank that suffers nothing has none of these (`faults_of`)."""

    def __init__(self, fault: Fault, clock: StepClock) -> None:
        self._slow, self._sleep, self._every = fault.slow, fault.sleep_ms / 1000, fault.every
        self._clock = clock
        self._backward = 0.0  # seconds of the last one that was over
        self._now = False

    def at_input(self, step: int) -> None:
        """The batch of `step` is being fetched: sleep, where it is its turn."""
        self._now = step % self._every == 0
        if self._now and self._sleep:
            start = time.perf_counter()
            time.sleep(self._sleep)
            self._clock.timing.injected += time.perf_counter() - start

    def lap(self) -> None:
        """A part of the step is over, as `StepClock.lap`. What computation loses, it loses before its gradients leave.

        That is at the end of the forward pass, for the backward pass, too, by what the last one took.
        """
        marks = self._clock.timing.marks
        if self._now and self._slow and len(marks) == 1 + FORWARD:
            start = time.perf_counter()
            lost = self._slow * (start - marks[FORWARD] + self._backward)
            while time.perf_counter() - start < lost:
                pass
            self._clock.timing.injected += time.perf_counter() - start
        self._clock.lap()
        if len(marks) == 2 + BACKWARD:
            self._backward = marks[1 + BACKWARD] - marks[BACKWARD]


def faults_of(settings: TrainSettings, rank: int, size: int, clock: StepClock) -> Faults | None:
    """What this rank suffers; None: nothing. Raises UserError where the rank that should does not exist."""
    fault = settings.fault
    if fault is None:
        return None
    if fault.rank >= size:
        raise UserError(f"fault.rank: there is no rank {fault.rank}, this run has {size}")
    return Faults(fault, clock) if fault.rank == rank else None
