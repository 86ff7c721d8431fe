"""From the rows of a benchmark to medians, paired ratios and the noise floor: pure functions of the record.

All of them want the rows of one benchmark and, for inference, of one number of images (`cases` splits a table).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from bnn.bench.implementations import AGAIN, BASE, BEST, OURS, PEERS
from bnn.metrics import Interval, noise_floor, ratio_interval, repeats_interval

# (numerator, denominator) of the ratios of step times to report, where both were measured: ours against the
# conventional networks, the paper's own comparison, and what the peers take against ours.
PAIRS = (
    ("bnn-flipout", "cnn-plain"),
    ("bnn-flipout", "cnn"),
    ("bnn-flipout", "cnn-best"),
    ("bnn-flipout-torch", "cnn"),
    ("bnn-flipout-reference", "cnn-plain"),
    ("bnn-flipout-reference", "bnn-flipout"),
    ("bayesian-torch", "bnn-flipout"),
    ("tfp", "bnn-flipout"),
    *((again, first) for again, first in AGAIN.items()),
)


@dataclass(frozen=True)
class Line:
    """One implementation. Seconds are of a step, or of all draws; `seconds` and `ratio` come with 95% intervals.

    `ratio` is to the base `cnn`, paired by round; `share` is the part of the step that noise, KL and update take.
    `peak_memory_bytes` is the process's largest resident memory. None: not known.
    """

    implementation: str
    resolved: str
    rounds: int
    seconds: Interval
    samples_per_second: float
    ratio: Interval | None
    peak_memory_bytes: int
    share: float | None


def cases(rows: pd.DataFrame) -> Iterator[tuple[int | None, pd.DataFrame]]:
    """The rows of each number of images, (images, rows); (None, all rows) for training steps."""
    for images, group in rows.groupby("images", dropna=False, sort=True):
        yield (None if pd.isna(images) else int(images)), group


def round_medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds of each implementation in each round, the median over its steps: index round, a column each."""
    return rows.groupby(["round", "implementation"])["seconds"].median().unstack("implementation")


def paired_ratio(rows: pd.DataFrame, numerator: str, denominator: str) -> Interval | None:
    """Ratio of two implementations' seconds, taken within each round; None when one of them was not measured.

    None, too, for an implementation and itself.
    """
    medians = round_medians(rows)
    if numerator == denominator:
        return None
    if not {numerator, denominator} <= set(medians.columns):
        return None
    pairs = medians[[numerator, denominator]].dropna()
    return ratio_interval(pairs[numerator].tolist(), pairs[denominator].tolist()) if len(pairs) else None


def floors(rows: pd.DataFrame) -> dict[str, float]:
    """Noise floor (a fraction, see metrics.noise_floor) by each implementation that was measured twice."""
    medians, found = round_medians(rows), {}
    for again, first in AGAIN.items():
        if {again, first} <= set(medians.columns):
            pairs = medians[[first, again]].dropna()
            found[first] = noise_floor(pairs[first].tolist(), pairs[again].tolist())
    return found


def summarise(rows: pd.DataFrame) -> list[Line]:
    """One line per implementation: conventional networks, ours, peers."""
    medians = round_medians(rows)
    lines = []
    for name in sorted(rows["implementation"].unique(), key=_place):
        mine = rows[rows["implementation"] == name]
        seconds = repeats_interval(medians[name].dropna().tolist())
        parts = (mine["seconds_noise_kl_optimizer"] / mine["seconds"]).dropna()
        lines.append(
            Line(
                implementation=str(name),
                resolved=str(mine["resolved"].iloc[0]),
                rounds=int(mine["round"].nunique()),
                seconds=seconds,
                samples_per_second=float(mine["samples"].iloc[0]) / seconds.value,
                ratio=paired_ratio(rows, name, BASE),
                peak_memory_bytes=int(mine["peak_memory_bytes"].max()),
                share=float(parts.median()) if len(parts) else None,
            )
        )
    return lines


def _place(name: str) -> int:
    conventional = [known for known in OURS if known.startswith("cnn")]
    known = [*conventional, BEST, *(name for name in OURS if name not in conventional), *PEERS]
    return known.index(name) if name in known else len(known)


def ratios(rows: pd.DataFrame) -> list[tuple[str, str, Interval]]:
    """(numerator, denominator, ratio of seconds) of every pair of PAIRS that was measured."""
    found = [(a, b, paired_ratio(rows, a, b)) for a, b in PAIRS]
    return [(a, b, ratio) for a, b, ratio in found if ratio is not None]


def memory_ratios(rows: pd.DataFrame) -> list[tuple[str, str, float]]:
    """(numerator, denominator, ratio of peak memory) of `bnn-flipout` against each peer that was measured."""
    peak = rows.groupby("implementation")["peak_memory_bytes"].max()
    pairs = [(a, b) for b, a in PAIRS if b in ("bayesian-torch", "tfp")]
    return [(a, b, float(peak[a] / peak[b])) for a, b in pairs if {a, b} <= set(peak.index)]
