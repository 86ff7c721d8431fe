"""What a rank waited for after its backward pass: the late rank, agreement, the transfer. Pure functions of stamps.

All stamps are in seconds of one clock. Until the last of all ranks has its last block full, a rank that waits waits for
that rank: whatever travels meanwhile is hidden behind that one's computing. From then on a rank waits for one block
after the other: until the call starts that carries the block, the ranks agree that it can (negotiation), and then it
travels (transfer) until the rank knows that its average is there. What the stamps do not cover, such as Python's work
beside them, belongs to none of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RankStamps:
    """Stamps of one rank by step: `waits` (n,), the others (n, blocks); `sent` is NaN where no profile told it.

    `hidden` (n,) are seconds of data calls before the rank waited.
    """

    waits: np.ndarray
    full: np.ndarray
    averaged: np.ndarray
    sent: np.ndarray
    hidden: np.ndarray

    def shifted(self, offset: np.ndarray) -> RankStamps:
        """The same by another clock, `offset` (n,) seconds ahead of this one's."""
        column = offset[:, None]
        return RankStamps(
            self.waits + offset, self.full + column, self.averaged + column, self.sent + column, self.hidden
        )

    def table(self) -> np.ndarray:
        """All of it as one array, (n, 2 + 3 blocks)."""
        return np.column_stack([self.waits, self.hidden, self.full, self.averaged, self.sent])

    @classmethod
    def of_table(cls, table: np.ndarray) -> RankStamps:
        """Inverse of `table`."""
        waits, hidden, blocks = table[:, 0], table[:, 1], (table.shape[1] - 2) // 3
        full, averaged, sent = (table[:, 2 + i * blocks : 2 + (i + 1) * blocks] for i in range(3))
        return cls(waits, full, averaged, sent, hidden)


def with_calls(rows: np.ndarray, calls: np.ndarray | None) -> RankStamps:
    """The stamps of `ExchangeStamps.rows` with those of the data calls that carried the blocks.

    `calls` (m, 2): start and end of each call of this rank that reduced data, in order of their ends; None: no profile.
    A rank that waits for a block is woken when the call ends that carried it, so it is the last one to end before.
    """
    blocks = (rows.shape[1] - 1) // 2
    waits, full, averaged = rows[:, 0], rows[:, 1 : 1 + blocks], rows[:, 1 + blocks :]
    sent, hidden = np.full(averaged.shape, np.nan), np.full(waits.shape, np.nan)
    if calls is None or not blocks or not len(rows):
        return RankStamps(waits, full, averaged, sent, hidden)
    starts, ends = calls[:, 0], calls[:, 1]
    carrier = np.searchsorted(ends, averaged, side="right") - 1
    known = carrier >= 0
    sent[known] = starts[carrier[known]]
    sent[sent < full.min(axis=1, keepdims=True)] = np.nan  # of an earlier step: this one's calls were not kept
    step = np.searchsorted(averaged[:, -1], ends, side="left")  # the step by whose end a call had ended
    mine = step < len(rows)
    step, starts, ends = step[mine], starts[mine], ends[mine]
    recorded = ~np.isnan(sent).any(axis=1)
    hidden[recorded] = 0.0
    np.add.at(hidden, step, np.clip(np.minimum(ends, waits[step]) - starts, 0, None))
    return RankStamps(waits, full, averaged, sent, hidden)


def last_full(ranks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """When the last rank had each block full, (n, blocks), and which rank had the last block full last, (n,).

    `ranks` are all ranks' `full` in rank order, by one clock; each is looked at once, and need not stay. NaN, and rank
    -1, where one of them is not known. Raises ValueError without ranks.
    """
    last, late_rank = None, np.zeros(0, dtype=int)
    for rank, full in enumerate(ranks):
        if last is None:
            last, late_rank = full.copy(), np.zeros(len(full), dtype=int)
        elif full.shape[1]:
            late_rank = np.where(full[:, -1] > last[:, -1], rank, late_rank)
            last = np.maximum(last, full)
    if last is None:
        raise ValueError("no rank has stamps")
    known = ~np.isnan(last[:, -1]) if last.shape[1] else np.zeros(len(last), dtype=bool)
    return last, np.where(known, late_rank, -1)


def split_waits(mine: RankStamps, last: np.ndarray, negotiates: bool) -> dict[str, np.ndarray]:
    """Seconds per step that the rank of `mine` waited, by reason, each (n,); NaN where stamps are missing.

    `last` (n, blocks): when the last rank had each block full. An engine that `negotiates` agrees on what is ready
    before anything travels; with one that does not, the transfer starts when the last rank is there.
    """
    before = np.column_stack([mine.waits, mine.averaged[:, :-1]])
    before, there = np.minimum(before, mine.averaged), mine.averaged
    ready = np.clip(last.max(axis=1, keepdims=True, initial=-np.inf), before, there)
    sent = np.clip(mine.sent if negotiates else ready, ready, there)
    return {
        "late": (ready - before).sum(axis=1),
        "reduction": (there - ready).sum(axis=1),
        "negotiation": (sent - ready).sum(axis=1),
        "transfer": (there - sent).sum(axis=1),
        "hidden": mine.hidden,
    }
