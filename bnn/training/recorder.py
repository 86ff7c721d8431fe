"""Rows of steps.parquet while a run goes on, and its progress lines."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from bnn.metrics import STEADY, WARMUP
from bnn.records import STEPS
from bnn.training.clock import Timing

# A step ends with the next one's start, hence its row is made one step later. A GPU's loss and event times are read
# this many steps later, so that reading them does not stall the step.
CPU_LAG, GPU_LAG = 1, 8
PROGRESS_SECONDS = 5.0


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
        """Read whatever is still due; the last step must have ended."""
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
            "samples": facts.batch_size,
            **seconds,
            "loss": loss,
            "nll": nll,
            "kl": kl,
            "beta": beta,
            "accuracy": accuracy,
            "accuracy_running": self._accuracy_sum / self._accuracy_count,
        })  # fmt: skip
        self._progress()

    def _progress(self) -> None:
        """On rank 0, a line now and then that a log file can bear."""
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

    def frame(self) -> pd.DataFrame:
        """All rows so far of this rank, those of earlier attempts first."""
        mine = pd.DataFrame(self.rows, columns=STEPS.names)
        return mine if self._earlier is None else pd.concat([self._earlier, mine], ignore_index=True)
