"""Seconds of a step by part, without a host synchronisation inside the step.

A step lasts from its start to that of the next one, so that nothing which every step costs is left out: recording it,
Python, signs of life. What comes between two steps only now and then (evaluation, checkpoint, energy counters) belongs
to none: the clock is stopped for it.

On a CPU the wall clock is read at each lap. On a GPU an event is recorded instead and read some steps later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bnn.heartbeat import Heartbeat
from bnn.records.heartbeat import Part

PARTS = ("data", "forward", "backward", "exchange", "optimizer")
BETWEEN = "between"  # from the last part to the next step's start
# What a heartbeat says after so many laps of a step; the last stays until the next step begins.
LIVE: tuple[Part, ...] = ("data", "forward", "backward", "exchange", "update", "update")


@dataclass
class Timing:
    """Marks of one step: its start, the end of each part in the order of PARTS, and the end of the step."""

    started_at: float
    marks: list[Any] = field(default_factory=list)

    def seconds(self) -> dict[str, float]:
        """Seconds per part, of the rest (key 'seconds_between') and of the whole step (key 'seconds'), their sum.

        Waits for a GPU's events if they are still due. Raises ValueError for a step that has not ended.
        """
        if isinstance(self.marks[0], float):
            parts = [end - start for start, end in zip(self.marks, self.marks[1:], strict=False)]
        else:
            self.marks[-1].synchronize()
            parts = [a.elapsed_time(b) / 1000 for a, b in zip(self.marks, self.marks[1:], strict=False)]
        named = {f"seconds_{part}": value for part, value in zip((*PARTS, BETWEEN), parts, strict=True)}
        return {"seconds": sum(parts), **named}


class StepClock:
    """Times one step after another: `start`, which ends the step before, then `lap` at the end of each part.

    `stop` ends a step that none follows at once. The heartbeat follows.
    """

    def __init__(self, device: str, heartbeat: Heartbeat | None = None) -> None:
        self._cuda = device == "cuda"
        self._heartbeat = heartbeat or Heartbeat(Path())  # never started: it only keeps what it is told
        self._timing = Timing(0.0)
        self._running = False

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def start(self) -> None:
        self._heartbeat.move(LIVE[0])
        now = self._mark()
        self._end(now)
        self._timing = Timing(time.time(), [now])
        if not self._running:
            self._running = True
            self._heartbeat.resume()

    def lap(self) -> None:
        marks = self._timing.marks
        marks.append(self._mark())
        self._heartbeat.move(LIVE[len(marks) - 1])

    def stop(self) -> None:
        """End the step, if one goes on: what comes now belongs to none."""
        if self._running:
            self._end(self._mark())
            self._running = False
            self._heartbeat.pause()

    def _end(self, mark: Any) -> None:
        if self._running:
            self._timing.marks.append(mark)

    @property
    def timing(self) -> Timing:
        return self._timing
