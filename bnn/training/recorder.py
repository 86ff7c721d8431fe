"""What a step took and what it computed: its time by part, its row of steps.parquet, and progress lines.

A step lasts from its start to that of the next one, so that nothing which every step costs is left out: recording it,
Python, signs of life. What comes between two steps only now and then (evaluation, checkpoint, energy counters) belongs
to none: the clock is stopped for it. Neither the clock nor the recorder makes the host wait for a GPU inside a step.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from bnn.heartbeat import Heartbeat
from bnn.metrics import STEADY, WARMUP
from bnn.records import STEPS
from bnn.records.heartbeat import Part

PARTS = ("data", "forward", "backward", "exchange", "optimizer")
BETWEEN = "between"  # from the last part to the next step's start
# What a heartbeat says after so many laps of a step; the last stays until the next step begins.
LIVE: tuple[Part, ...] = ("data", "forward", "backward", "exchange", "update", "update")
# A step ends with the next one's start, hence its row is made one step later. A GPU's loss and event times are read
# this many steps later, so that reading them does not stall the step.
CPU_LAG, GPU_LAG = 1, 8
PROGRESS_SECONDS = 5.0


@dataclass
class Timing:
    """Marks of one step: its start, the end of each part in the order of PARTS, and the end of the step.

    `started_at` and `ended_at` are by the clock of the day, in seconds since 1970: a second measurement of the whole.
    On a GPU, which the host runs ahead of, a step has no end by that clock (NaN). `injected` are seconds of this step
    that an experiment made this rank lose.
    """

    started_at: float
    marks: list[Any] = field(default_factory=list)
    ended_at: float = math.nan
    injected: float = 0.0

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

    `stop` ends a step that none follows at once. The heartbeat follows. On a CPU the wall clock is read at each lap; on
    a GPU an event is recorded instead, and read some steps later.
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
        now, today = self._mark(), time.time()
        self._end(now, today)
        self._timing = Timing(today, [now])
        if not self._running:
            self._running = True
            self._heartbeat.resume()

    def lap(self) -> None:
        marks = self._timing.marks
        marks.append(self._mark())
        self._heartbeat.move(LIVE[len(marks) - 1])

    def stop(self) -> None:
        """End the step that goes on, if there is one; what comes now belongs to no step."""
        if self._running:
            self._end(self._mark(), time.time())
            self._running = False
            self._heartbeat.pause()

    def _end(self, mark: Any, today: float) -> None:
        if self._running:
            self._timing.marks.append(mark)
            if not self._cuda:
                self._timing.ended_at = today

    @property
    def timing(self) -> Timing:
        return self._timing


@dataclass(frozen=True)
class RunFacts:
    """What is the same in every row of one attempt on one rank."""

    attempt: int
    first_step: int
    steps: int
    warmup_steps: int
    engine: str
    implementation: str
    rank: int
    ranks: int
    batch_size: int


class Recorder:
    """Collects one row per step. `failed_step` is the step whose loss was not finite on any rank, once known."""

    def __init__(self, facts: RunFacts, device: str, earlier: pd.DataFrame | None) -> None:
        self.facts = facts
        self.rows: list[dict[str, Any]] = []
        self.failed_step: int | None = None
        self._earlier = earlier
        self._cuda = device == "cuda"
        self._pending: deque[tuple[int, int, float, Timing, list[float] | Tensor, torch.cuda.Event | None]] = deque()
        accuracies = [] if earlier is None else earlier.sort_values("step")["accuracy"].tolist()
        self._accuracy_sum, self._accuracy_count = 0.0, 0
        for accuracy in accuracies:
            self._count(accuracy)
        self._last_line = time.monotonic()

    def add(self, step: int, epoch: int, beta: float, timing: Timing, metrics: Tensor) -> None:
        """Take a step's timing and its device tensor [nll, kl, loss, accuracy, finite on all ranks].

        On a CPU `failed_step` is known at once.
        """
        values: list[float] | Tensor
        copied = None
        if self._cuda:
            host = torch.empty(metrics.shape, dtype=metrics.dtype, pin_memory=True)
            host.copy_(metrics, non_blocking=True)
            values, copied = host, torch.cuda.Event()
            copied.record()
        else:
            values = metrics.tolist()
            self._judge(step, values)
        self._pending.append((step, epoch, beta, timing, values, copied))
        while len(self._pending) > (GPU_LAG if self._cuda else CPU_LAG):
            self._settle()

    def flush(self) -> None:
        """Make the rows of all steps that have none yet; the last step must have ended."""
        while self._pending:
            self._settle()

    def _judge(self, step: int, values: list[float]) -> None:
        if values[-1] < 1 and self.failed_step is None:
            self.failed_step = step

    def _count(self, accuracy: float) -> None:
        self._accuracy_sum += accuracy
        self._accuracy_count += 1

    def _settle(self) -> None:
        step, epoch, beta, timing, read, copied = self._pending.popleft()
        if copied is not None:
            copied.synchronize()  # the last thing queued in that step: the metrics are here, and its events are over
        seconds = timing.seconds()
        values = read if isinstance(read, list) else read.tolist()
        self._judge(step, values)
        nll, kl, loss, accuracy, _ = values
        self._count(accuracy)
        facts = self.facts
        self.rows.append({
            "attempt": facts.attempt,
            "step": step,
            "epoch": epoch,
            "phase": WARMUP if step - facts.first_step < facts.warmup_steps else STEADY,
            "engine": facts.engine,
            "implementation": facts.implementation,
            "rank": facts.rank,
            "ranks": facts.ranks,
            "started_at": timing.started_at,
            "ended_at": timing.ended_at,
            "samples": facts.batch_size,
            **seconds,
            "seconds_injected": timing.injected,
            "loss": loss,
            "nll": nll,
            "kl": kl,
            "beta": beta,
            "accuracy": accuracy,
            "accuracy_running": self.accuracy_running,
        })  # fmt: skip
        self._progress()

    def _progress(self) -> None:
        """Print a line on rank 0, seldom enough for a log file."""
        row, now = self.rows[-1], time.monotonic()
        last = row["step"] + 1 == self.facts.steps
        if self.facts.rank != 0 or not (last or now - self._last_line >= PROGRESS_SECONDS):
            return
        self._last_line = now
        recent = self.rows[-20:]
        mean = sum(r["seconds"] for r in recent) / len(recent)
        rate = self.facts.batch_size * self.facts.ranks / mean
        left = time.strftime("%H:%M:%S", time.gmtime(mean * (self.facts.steps - row["step"] - 1)))
        print(
            f"step {row['step'] + 1}/{self.facts.steps}  epoch {row['epoch'] + 1}  {mean:.3f} s/step  "
            f"{rate:.1f} samples/s  loss {row['loss']:.4g}  accuracy {row['accuracy_running']:.3f}  {left} left",
            flush=True,
        )

    @property
    def done(self) -> int:
        """Steps that have a row, those of earlier attempts too: all that were taken, once flushed."""
        return self.facts.first_step + len(self.rows)

    @property
    def accuracy_running(self) -> float:
        """This rank's mean training accuracy of these steps; NaN of none, and of a regression."""
        return self._accuracy_sum / self._accuracy_count if self._accuracy_count else math.nan

    def frame(self) -> pd.DataFrame:
        """All rows so far of this rank, those of earlier attempts first."""
        mine = pd.DataFrame(self.rows, columns=STEPS.names)
        return mine if self._earlier is None else pd.concat([self._earlier, mine], ignore_index=True)
