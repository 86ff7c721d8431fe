"""Which allreduces are timed, how often and in what order; pure but for the ranks that it is given."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bnn.bench.allreduce.ranks import FLOAT, Ranks
from bnn.errors import UserError
from bnn.metrics import log_intervals

MOST_CALLS = 1000
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes, ascending; rank counts, ascending (empty: those at hand); rounds, and the seconds of a turn."""

    sizes: tuple[int, ...]
    ranks: tuple[int, ...] = ()
    rounds: int = 7
    turn_seconds: float = 0.02
    seed: int = 0
    computing: bool = False  # whether what they take from computing is measured as well


@dataclass(frozen=True)
class Time:
    """One allreduce of `bytes` on `ranks` ranks of `nodes` hosts: the median over rounds with its 95% interval, s.

    `control`: the median of a second measurement of the same, taken in the same rounds, over this one. `computing`:
    what is left of a computing thread's speed beside it, median over rounds, at most 1; None: not measured.
    """

    nodes: int
    ranks: int
    bytes: int
    seconds: float
    low: float
    high: float
    control: float
    calls: int
    computing: float | None = None


def powers(least: int, most: int) -> tuple[int, ...]:
    """Sizes in bytes from `least` on, each twice the one before, up to `most`."""
    found, size = [], least
    while size <= most:
        found.append(size)
        size *= 2
    return tuple(found)


def nodes_of(hosts: Sequence[str], ranks: int) -> int | None:
    """On how many hosts the first `ranks` ranks are; None where they do not spread evenly over them."""
    mine = hosts[:ranks]
    counts = {mine.count(host) for host in mine}
    return len(set(mine)) if len(counts) == 1 else None


def rank_counts(hosts: Sequence[str], wanted: Sequence[int], groups: bool) -> list[tuple[int, int]]:
    """Which (ranks, nodes) to time: those wanted, or powers of two and all, as far as they spread evenly over hosts.

    Raises UserError for a count that there is not, or that does not.
    """
    size = len(hosts)
    if size < 2:
        raise UserError("one rank has nobody to reduce with; start the command with mpiexec -n 2 or more")
    for count in wanted:
        if not 2 <= count <= size:
            raise UserError(f"--ranks {count}: this job has {size} ranks; give 2 to {size}")
        if not groups and count != size:
            raise UserError(f"--ranks {count}: an engine averages over all of its {size} ranks; start {count} ranks")
        if nodes_of(hosts, count) is None:
            raise UserError(f"--ranks {count}: the first {count} ranks do not spread evenly over their hosts")
    asked = wanted or (sorted({*powers(2, size), size}) if groups else [size])
    return [(count, nodes) for count in asked if (nodes := nodes_of(hosts, count)) is not None]


def measure(ranks: Ranks, plan: Plan, progress: Progress) -> list[Time]:
    """Time every size on every rank count, each twice per round, in random order within a round.

    Every rank calls it and gets the same. Raises UserError where a sum is wrong.
    """
    counts = rank_counts(ranks.hosts, plan.ranks, ranks.groups)
    order, found = random.Random(plan.seed), []
    for place, (count, nodes) in enumerate(counts):
        ranks.choose(count)
        calls = {size: _calls(ranks, count, size, plan.turn_seconds) for size in plan.sizes}
        turns = [(size, again) for size in plan.sizes for again in (0, 1)]
        seconds = {size: np.empty((2, plan.rounds)) for size in plan.sizes}
        left: dict[int, list[float]] = {size: [] for size in plan.sizes}
        for turn in range(plan.rounds):
            progress(f"{count} ranks, round {turn + 1} of {plan.rounds}", (place + turn / plan.rounds) / len(counts))
            order.shuffle(turns)
            for size, again in turns:
                seconds[size][again, turn] = ranks.seconds(size // FLOAT, calls[size])
                if plan.computing and again:
                    left[size].append(ranks.left(size // FLOAT, calls[size], plan.turn_seconds))
        for size in plan.sizes:
            (value, control), low, high = np.exp(log_intervals(np.log(seconds[size])))
            beside = min(1.0, float(np.median(left[size]))) if plan.computing else None
            ends = float(low[0]), float(high[0])
            found.append(Time(nodes, count, size, float(value), *ends, control / value, calls[size], beside))
    return found


def _calls(ranks: Ranks, count: int, size: int, turn_seconds: float) -> int:
    """Allreduces of a turn, from one that is tried; the same on all ranks."""
    if not ranks.right(size // FLOAT):
        raise UserError(f"{ranks.library}: an allreduce of {size} bytes on {count} ranks does not give the sum")
    ranks.seconds(size // FLOAT, 1)
    return int(np.clip(turn_seconds / ranks.seconds(size // FLOAT, 1), 1, MOST_CALLS))
