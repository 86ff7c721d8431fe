"""Where each second of a step goes: the parts whose sum is compared with its wall time. Written once, here.

Every part is measured by itself, between two readings of a clock around what it names; none is what others leave. Wall
time is read from another clock. What the parts do not cover is called unexplained, and may be negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnn.metrics import Chosen
from bnn.records.parts import PARTS

if TYPE_CHECKING:
    import pandas as pd

# Which parts stand for waiting, by what is measured of it: the first whose parts are all there.
SPLITS = (("late", "negotiation", "transfer"), ("late", "reduction"), ("exchange",))
BEYOND_CLOCKS = 0.01  # of a step: where clocks of hosts may be off by more, waiting is not split


@dataclass(frozen=True)
class RankLosses:
    """Mean seconds per step of one rank over `steps` steady steps.

    `parts` are those whose sum is compared with `wall`; `wall` is NaN where no second clock was read. `hidden` is NaN
    where it was not measured. `late_share` is the share of steps in which this rank was the last, NaN if unknown.
    """

    rank: int
    steps: int
    wall: float
    by_laps: float
    parts: dict[str, float]
    hidden: float
    late_share: float

    @property
    def seconds(self) -> float:
        """Wall time of a step, s: by the second clock, or, where it was not read, by the step clock itself."""
        return self.by_laps if math.isnan(self.wall) else self.wall

    @property
    def unexplained(self) -> float:
        """Wall time less all parts, s; NaN where no second clock was read."""
        return self.wall - sum(self.parts.values())


def rank_losses(steps: pd.DataFrame, clock_error: float | None = 0.0, chosen: Chosen | None = None) -> list[RankLosses]:
    """Of every rank, from the steady steps that give the headline throughput (`chosen`, if known); empty without any.

    Where waiting is split in some of them only, from those. `clock_error`: s by which hosts' clocks may be off to one
    another, None if unknown; beyond BEYOND_CLOCKS of a step waiting is not split.
    """
    rows = (chosen or Chosen.of(steps)).rows
    if rows.empty:
        return []
    trusted = clock_error is not None and clock_error <= BEYOND_CLOCKS * float(rows["seconds"].mean())
    known = rows["seconds_late"].notna()
    if trusted and not known.all():
        split = known.groupby(rows["step"]).transform("all")
        rows = rows[split] if split.any() else rows
    names = next(names for names in SPLITS if names == SPLITS[-1] or (trusted and _measured(rows, names)))
    waiting = {name for split in SPLITS for name in split} - set(names)
    columns = {name: part.column for name, part in PARTS.items() if name not in waiting}
    ranks = _ByRank.of(rows["rank"])
    means = {name: ranks.mean(rows[column]) for name, column in columns.items()}
    laps, hidden = ranks.mean(rows["seconds"]), ranks.mean(rows["seconds_hidden"], whole=True)
    wall = ranks.mean(rows["ended_at"] - rows["started_at"], whole=True)
    late = rows["late_rank"]
    last = ranks.mean((late == rows["rank"]).astype(float).where(late.notna() & trusted))
    return [
        RankLosses(
            rank=int(rank),
            steps=int(ranks.sizes[at]),
            wall=float(wall[at]),
            by_laps=float(laps[at]),
            parts={name: float(found[at]) for name, found in means.items()},
            hidden=float(hidden[at]),
            late_share=float(last[at]),
        )
        for at, rank in enumerate(ranks.ranks)
    ]


class _ByRank(NamedTuple):
    """Means by rank of columns of many rows: by numpy, as a group-by of pandas takes several times as long."""

    ranks: np.ndarray
    place: np.ndarray
    sizes: np.ndarray

    @staticmethod
    def of(column: pd.Series) -> _ByRank:
        return _ByRank(*np.unique(column.to_numpy(), return_inverse=True, return_counts=True))

    def mean(self, column: pd.Series, whole: bool = False) -> np.ndarray:
        """Mean of what is known of each rank, NaN of nothing; `whole`: NaN, too, where anything is missing."""
        values = column.to_numpy(dtype=float, na_value=np.nan)
        known = ~np.isnan(values)
        count = np.bincount(self.place, known, len(self.ranks))
        total = np.bincount(self.place, np.where(known, values, 0.0), len(self.ranks))
        told = count == self.sizes if whole else count > 0
        return np.divide(total, count, out=np.full(len(total), np.nan), where=told)


def _measured(rows: pd.DataFrame, names: tuple[str, ...]) -> bool:
    return bool(rows[[PARTS[name].column for name in names]].notna().all(axis=None))
