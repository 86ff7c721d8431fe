"""When each block of gradients is full within the backward pass: what a projection to more ranks needs of a run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnn.metrics import STEADY
from bnn.records.summary import GradientBlock
from bnn.training.run import Run


def gradient_blocks(run: Run, rows: pd.DataFrame) -> list[GradientBlock]:
    """The blocks of this run's messages in their order; `rows` are rank 0's of the record steps.

    Of one rank, which sends none, those that it would send.
    """
    waiting, sizes = run.waiting, run.trainer.exchange.planned_bytes
    stamps = waiting.stamps or waiting.watched
    mine = rows[rows["attempt"] == run.folder.attempt].sort_values("step")
    kept = np.zeros((0, 1 + 2 * len(sizes))) if stamps is None else stamps.rows()[: len(mine)]
    backward = mine["seconds_backward"].to_numpy()
    steady = (mine["phase"] == STEADY).to_numpy()
    # of one rank the warm-up alone was watched: its later half, which is the calmer one
    chosen = steady[: len(kept)] if waiting.watched is None else np.arange(len(kept)) >= len(kept) // 2
    if not (chosen.any() and steady.any()):
        return [GradientBlock(bytes=size, full_seconds=None) for size in sizes]
    shares = full_shares(kept[chosen], backward[: len(kept)][chosen], len(sizes))
    seconds = np.median(shares, axis=0) * np.median(backward[steady])
    return [GradientBlock(bytes=size, full_seconds=float(at)) for size, at in zip(sizes, seconds, strict=True)]


def full_shares(rows: np.ndarray, backward: np.ndarray, blocks: int) -> np.ndarray:
    """Share of the backward pass after which each block could leave, (steps, blocks), from 0 to 1.

    `rows` are of `ExchangeStamps.rows`, `backward` seconds of the same steps' backward passes. Blocks leave in order;
    one that is not full when the backward pass is over leaves then.
    """
    before_end = rows[:, :1] - rows[:, 1 : 1 + blocks]
    shares = np.clip(1 - before_end / backward[:, None], 0, 1)
    return np.maximum.accumulate(np.where(np.isnan(shares), 1.0, shares), axis=1)
