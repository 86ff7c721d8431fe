"""The definitions both sides use: throughput, warm-up, intervals, efficiency, verdict. Written once, here.

A "steps" frame holds rows of steps.parquet (bnn.records.steps). A step lasts from its start to that of the next one;
evaluations and checkpoints between them are in no step. Its wall time is that of its slowest rank: synchronous training
goes on when the last rank is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from bnn.records.neighbours import PhaseLoad

WARMUP = "warmup"
STEADY = "steady"
# The parts of a step that are useful work; waiting for gradients and what lies between steps are not.
USEFUL = ("data", "forward", "backward", "optimizer")
# Below this many values order statistics give no interval of 95%: it is Student's t on the logarithm.
FEW_REPEATS = 6
T_ON_LOG, ORDER_STATISTICS = "t-interval on log", "order statistics of the median"
T_OF_MEAN = "t-interval of the mean"
# Below this mean standard deviation of a probability over draws, the draws are called alike.
ALIKE = 1e-3
# Seconds by which the difference of two readings of a CPU's time may be off: a tick of 1/100 s at each end.
TICKS = 0.02


# Columns of steps: what a row is of, what all ranks of a step have in common, and what a step has of its ranks'.
STEP_KEYS = ("attempt", "step", "rank")
FIRST = ("epoch", "phase")
OVER_RANKS = {"samples": np.add, "started_at": np.fmin, "seconds": np.fmax, "seconds_exchange": np.fmax}
MEANS = ("loss", "nll", "kl", "accuracy", "accuracy_running")


@dataclass(frozen=True)
class Interval:
    """A central value with its 95% interval; `low` and `high` are NaN where one value allows none."""

    value: float
    low: float
    high: float
    method: str


def per_step(steps: pd.DataFrame) -> pd.DataFrame:
    """One row per (attempt, step): samples summed over ranks, seconds of the slowest rank and of rank 0, mean losses.

    A step that a resumed attempt ran again counts once, with its latest attempt.
    """
    import pandas as pd

    attempts = steps["attempt"].to_numpy()
    if len(steps) and attempts.min() != attempts.max():
        steps = steps[attempts == steps.groupby("step")["attempt"].transform("max").to_numpy()]
    # by numpy, as these are the rows of all ranks: a group-by of pandas takes five times as long
    order = np.lexsort([steps[name].to_numpy() for name in ("rank", "step", "attempt")])
    columns = {name: steps[name].to_numpy()[order] for name in (*STEP_KEYS, *FIRST, *OVER_RANKS)}
    columns |= {name: steps[name].to_numpy(dtype=float)[order] for name in MEANS}
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(columns["attempt"]) != 0) | (np.diff(columns["step"]) != 0)
    starts = np.flatnonzero(new)
    found = {name: columns[name][starts] for name in ("attempt", "step", *FIRST)}
    another = new.copy()
    another[1:] |= np.diff(columns["rank"]) != 0
    found["ranks"] = _each(np.add, another.astype(np.int64), starts)
    found |= {name: _each(reduce, columns[name], starts) for name, reduce in OVER_RANKS.items()}
    for name in MEANS:
        known = ~np.isnan(columns[name])
        count = _each(np.add, known.astype(float), starts)
        with np.errstate(invalid="ignore", over="ignore"):  # a loss may be infinite
            total = _each(np.add, np.where(known, columns[name], 0.0), starts)
        found[name] = np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
    # sorted by rank: rank 0 is the first of its step
    found["seconds_rank0"] = np.where(columns["rank"][starts] == 0, columns["seconds"][starts], np.nan)
    return pd.DataFrame(found)


def _each(reduce: np.ufunc, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Values of each group reduced; a group goes from its start to the next one's."""
    return np.asarray(reduce.reduceat(values, starts)) if len(starts) else values[:0]


def steady(steps: pd.DataFrame) -> pd.DataFrame:
    """Steps after warm-up of the attempt with the most of them: rates are taken within one attempt."""
    return steady_of(per_step(steps))


def steady_of(by_step: pd.DataFrame) -> pd.DataFrame:
    """The same from rows of `per_step`."""
    rows = by_step[by_step["phase"] == STEADY]
    if rows.empty:
        return rows
    attempts, counts = np.unique(rows["attempt"].to_numpy(), return_counts=True)
    return rows if len(attempts) == 1 else rows[rows["attempt"] == attempts[counts.argmax()]]


class Chosen(NamedTuple):
    """The steady steps that give the headline throughput: as `steady` has them, and the rows of all their ranks."""

    by_step: pd.DataFrame
    rows: pd.DataFrame

    @staticmethod
    def of(steps: pd.DataFrame, by_step: pd.DataFrame | None = None) -> Chosen:
        """Of the rows of steps.parquet; `by_step`: `per_step` of them, where it is known."""
        chosen = steady(steps) if by_step is None else steady_of(by_step)
        return Chosen(chosen, rows_of(steps, chosen))


def rows_of(steps: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """The rows of all ranks of the steps that `steady` chose, in their order."""
    if chosen.empty:
        return steps.iloc[:0]
    mine = (steps["attempt"] == chosen["attempt"].iloc[0]) & steps["step"].isin(chosen["step"])
    return steps[mine]


def throughput_steady(steps: pd.DataFrame) -> float | None:
    """Samples per second after warm-up: total samples / total seconds within one attempt. The headline."""
    rows = steady(steps)
    return None if rows.empty else float(rows["samples"].sum() / rows["seconds"].sum())


def throughput_steady_std(steps: pd.DataFrame) -> float | None:
    """Standard deviation of the per-step rates after warm-up (the error bar the paper draws), samples/s."""
    rows = steady(steps)
    return None if len(rows) < 2 else float((rows["samples"] / rows["seconds"]).std(ddof=1))


def throughput_all(steps: pd.DataFrame) -> float | None:
    """Samples per second over every step, warm-up included."""
    rows = per_step(steps)
    return None if rows.empty else float(rows["samples"].sum() / rows["seconds"].sum())


def throughput_paper(steps: pd.DataFrame) -> tuple[float | None, float | None]:
    """Mean and standard deviation over all steps of (all ranks' samples / rank 0's step time): the paper's figure."""
    rows = per_step(steps)
    rates = rows["samples"] / rows["seconds_rank0"]
    mean = float(rates.mean()) if len(rates) else None
    return mean, float(rates.std(ddof=1)) if len(rates) > 1 else None


def coefficient_of_variation(steps: pd.DataFrame) -> float | None:
    """Standard deviation / mean of the steady step times."""
    rows = steady(steps)
    return None if len(rows) < 2 else float(rows["seconds"].std(ddof=1) / rows["seconds"].mean())


def unsettled_warmup(steps: pd.DataFrame, tolerance: float = 0.15) -> bool:
    """Whether the first third of the steady steps is slower than the last third by more than `tolerance` (medians)."""
    seconds = steady(steps)["seconds"].to_numpy()
    third = len(seconds) // 3
    if third < 2:
        return False
    return bool(np.median(seconds[:third]) > (1 + tolerance) * np.median(seconds[-third:]))


def change_point(seconds: np.ndarray) -> int:
    """How many first steps took another time than the others: where step times level off; 0 where they do not change.

    Of all splits within the first half it is the one that leaves the least squares of log seconds about the means of
    both sides. It counts if it lowers n log(squares) by more than 3 log(n), the price of a change in the modified BIC
    of Zhang and Siegmund (2007), and by more than 10, which fewer than one in twenty series of at least 8 independent
    times of one distribution do; of fewer steps there is none. A single slow step is no change: times are taken as
    within a factor of 2 of their median.
    """
    n = len(seconds)
    if n < 8 or not np.all(seconds > 0):
        return 0
    logs = np.log(seconds / np.median(seconds)).clip(-math.log(2), math.log(2))
    places = np.arange(1, n // 2 + 1)
    before, total = logs.cumsum()[places - 1], logs.sum()
    explained = before**2 / places + (total - before) ** 2 / (n - places)
    best = int(np.argmax(explained))
    whole = float((logs**2).sum())
    least = max(whole - float(explained[best]), 1e-12 * n)  # (rounding of equal times is no noise to beat)
    undivided = max(whole - total**2 / n, 1e-12 * n)
    return int(places[best]) if n * math.log(undivided / least) > max(10.0, 3 * math.log(n)) else 0


def scaling_efficiency(seconds_one: float, seconds_n: float, n: float) -> float:
    """T1 / (N * TN) for equal total work, N relative to the baseline (the paper, section 4.2)."""
    return seconds_one / (n * seconds_n)


@dataclass(frozen=True)
class UsefulWork:
    """What the ranks of a run did in its steady steps: seconds of input, forward and backward pass and update.

    `total` is the sum over all ranks, `largest` that of the busiest rank; `seconds` is the wall time of these steps.
    The efficiencies are those of the POP project (Wagner et al., Tools for High Performance Computing 2017), where a
    backward pass counts as a whole: the exchange that it hides is not lost.
    """

    total: float
    largest: float
    seconds: float
    ranks: int
    samples: int

    @property
    def load_balance(self) -> float:
        """Mean over the ranks / the busiest rank."""
        return self.total / self.ranks / self.largest

    @property
    def communication_efficiency(self) -> float:
        """The busiest rank / wall time: what waiting for gradients, and what lies between steps, leaves."""
        return self.largest / self.seconds

    @property
    def parallel_efficiency(self) -> float:
        """Load balance x communication efficiency: the share of all ranks' time that is useful."""
        return self.total / self.ranks / self.seconds

    def computation_scaling(self, reference: UsefulWork) -> float:
        """Useful seconds for the same number of samples, those of `reference` / these: 1 where nothing slows them."""
        return (reference.total / reference.samples) / (self.total / self.samples)

    def global_efficiency(self, reference: UsefulWork) -> float:
        """Parallel efficiency x computation scaling; its ratio to the reference's is the scaling efficiency."""
        return self.parallel_efficiency * self.computation_scaling(reference)


def useful_work(steps: pd.DataFrame, chosen: Chosen | None = None) -> UsefulWork | None:
    """The useful work of the steady steps that give the headline throughput (`chosen`, if known); None without any."""
    by_step, rows = chosen or Chosen.of(steps)
    if rows.empty:
        return None
    by_rank = rows[[f"seconds_{part}" for part in USEFUL]].sum(axis=1).groupby(rows["rank"]).sum()
    return UsefulWork(
        total=float(by_rank.sum()),
        largest=float(by_rank.max()),
        seconds=float(by_step["seconds"].sum()),
        ranks=len(by_rank),
        samples=int(by_step["samples"].sum()),
    )


def epoch_seconds(throughput: float, train_size: int) -> float:
    """Seconds for one pass over the training set at a steady throughput (samples/s over all ranks)."""
    return train_size / throughput


@dataclass(frozen=True)
class LearningCurve:
    """A training accuracy against seconds of training; `definition` is a column of `per_step`.

    `accuracy_running` is the paper's running mean since step 0. `accuracy` is judged per completed epoch: the mean over
    the epoch's steps, reached at the epoch's end.
    """

    seconds: np.ndarray
    accuracies: np.ndarray

    @staticmethod
    def of(by_step: pd.DataFrame, definition: str, epochs_completed: int) -> LearningCurve:
        """Of rows of `per_step`."""
        rows = by_step[["step", "epoch", "seconds", definition]].sort_values("step")
        elapsed = rows["seconds"].cumsum().to_numpy()
        if definition != "accuracy":
            return LearningCurve(elapsed, rows[definition].to_numpy(dtype=float))
        means = rows[rows["epoch"] < epochs_completed].groupby("epoch")["accuracy"].mean()
        ends = np.searchsorted(rows["epoch"].to_numpy(), means.index.to_numpy(), side="right") - 1
        return LearningCurve(elapsed[ends], means.to_numpy(dtype=float))

    def time_to(self, target: float) -> float | None:
        """Seconds until it first reaches `target`; None when it never does."""
        hits = np.flatnonzero(self.accuracies >= target)
        return float(self.seconds[hits[0]]) if len(hits) else None

    @property
    def best(self) -> float:
        """NaN of no value."""
        known = self.accuracies[~np.isnan(self.accuracies)]
        return float(known.max()) if len(known) else math.nan


def repeats_interval(values: Sequence[float]) -> Interval:
    """Median of what positive repeated measurements are drawn from, with its 95% interval; `values` in order of time.

    docs/intervals.md says what it covers, by simulation. The value, always within the interval, is the geometric mean
    of fewer than FEW_REPEATS values, else their median on the logarithm, so that a / b and b / a agree. Raises
    ValueError without values or with one that is not positive.
    """
    data = np.asarray(values, dtype=float)
    if data.size == 0 or not np.all(data > 0):
        raise ValueError("an interval needs positive values")
    if data.size == 1:
        return Interval(float(data[0]), math.nan, math.nan, "single value")
    centre, low, high = (float(end[0]) for end in np.exp(log_intervals(np.log(data)[None])))
    return Interval(centre, low, high, T_ON_LOG if data.size < FEW_REPEATS else ORDER_STATISTICS)


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of repeated measurements that may be zero or negative, as parts and differences are, with its 95% interval.

    Student's t, at any number of values: means of parts add up to the mean of their sum, as medians do not.
    docs/intervals.md says what it covers. Raises ValueError without values.
    """
    from scipy import special

    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("an interval needs values")
    if data.size == 1:
        return Interval(float(data[0]), math.nan, math.nan, "single value")
    centre = float(data.mean())
    half = float(special.stdtrit(data.size - 1, 0.975) * data.std(ddof=1) / math.sqrt(data.size))
    return Interval(centre, centre - half, centre + half, T_OF_MEAN)


def log_intervals(logs: np.ndarray) -> np.ndarray:
    """Centres and ends of the 95% intervals of many samples at once, (3, m), from their logarithms, (m, n), n > 1.

    Fewer than FEW_REPEATS values allow no interval of 95% without an assumption: Student's t about their mean, which
    takes their noise for symmetric. From there on the interval of the median by order statistics, interpolated between
    the ranks whose coverage is next above and below (Hettmansperger and Sheather, Statistics & Probability Letters 4,
    1986), at a confidence raised by what the values' autocorrelation asks for.
    """
    from scipy import special

    count = logs.shape[1]
    if count < FEW_REPEATS:
        centre = logs.mean(axis=1)
        half = special.stdtrit(count - 1, 0.975) * logs.std(axis=1, ddof=1) / math.sqrt(count)
        return np.stack([centre, centre - half, centre + half])
    confidence = 2 * special.ndtr(special.ndtri(0.975) * np.sqrt(variance_inflation(logs))) - 1
    ranks = np.arange(1, count // 2 + 1)
    covered = np.append(1 - 2 * special.bdtr(ranks - 1, count, 0.5), 0.0)  # by the values of rank d and n + 1 - d
    index = np.clip((covered[None, :-1] >= confidence[:, None]).sum(axis=1) - 1, 0, None)
    rank, above, below = ranks[index], covered[index], covered[index + 1]
    share = np.clip((above - confidence) / (above - below), 0, 1)
    weight = (count - rank) * share / (rank + (count - 2 * rank) * share)
    ordered = np.sort(logs, axis=1)
    rows, inner = np.arange(len(logs)), np.minimum(rank, count - 1)
    low = (1 - weight) * ordered[rows, rank - 1] + weight * ordered[rows, inner]
    high = (1 - weight) * ordered[rows, count - rank] + weight * ordered[rows, count - 1 - inner]
    centre = np.median(logs, axis=1)
    # equal values differ by rounding once they are weighted
    return np.stack([centre, np.minimum(low, centre), np.maximum(high, centre)])


def variance_inflation(logs: np.ndarray) -> np.ndarray:
    """Variance of a median of these successive values over that of as many independent ones, (m,), of (m, n).

    An autoregression of first order, by the lag-1 correlation of ranks, less its bias in short series (Marriott and
    Pope, Biometrika 41, 1954); a median follows the values' signs, whose correlation is 2/pi arcsin(rho) under normal
    noise. Never below 1: what looks alternating is taken for independent.
    """
    from scipy import stats

    count = logs.shape[1]
    ranks = stats.rankdata(logs, axis=1) - (count + 1) / 2
    spread = np.maximum((ranks**2).sum(axis=1), 1e-12)
    rho = (ranks[:, 1:] * ranks[:, :-1]).sum(axis=1) / spread
    rho = np.clip(rho + (1 + 3 * rho) / count, 0, 0.9)
    rho[ranks.any(axis=1) == 0] = 0  # nothing varies
    lags = np.arange(1, count)
    inflation: np.ndarray = 1 + 4 / math.pi * ((1 - lags / count) * np.arcsin(rho[:, None] ** lags)).sum(axis=1)
    return inflation


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Ratio of two sets of repeats, paired by repeat, in order of time: the interval is that of the pairs' ratios.

    Raises ValueError when the sets are not of one length: unpaired repeats have no paired ratio.
    """
    if len(numerators) != len(denominators):
        raise ValueError("a paired ratio needs as many numerators as denominators")
    return repeats_interval([a / b for a, b in zip(numerators, denominators, strict=True)])


def noise_floor(values: Sequence[float], again: Sequence[float]) -> float:
    """How far from 1 a ratio may be by chance: the far end of the 95% interval of one implementation against itself.

    `values` and `again` are measurements of it as two implementations, paired by round. A fraction (0.02: ratios
    between 0.98 and 1.02 say nothing); NaN for a single round. Raises ValueError as `ratio_interval` does.
    """
    interval = ratio_interval(again, values)
    return max(abs(1 - interval.low), abs(interval.high - 1))


def degenerate(sigma_median: float | None, sigma_median_start: float | None, draw_spread: float | None) -> list[str]:
    """Why a posterior is no more than a point: its noise has not been learnt, or its draws are all alike."""
    reasons = []
    if sigma_median is not None and sigma_median_start and abs(sigma_median / sigma_median_start - 1) < 0.05:
        reasons.append(f"degenerate posterior: median sigma {sigma_median:.3g} has not moved from its start")
    if draw_spread is not None and draw_spread < ALIKE:
        spread = f"spread of the true class's probability {draw_spread:.2g}"
        reasons.append(f"degenerate posterior: draws all alike ({spread})")
    return reasons


def disturbances(load: PhaseLoad | None, during: str, limit: float) -> list[str]:
    """What disturbed a measurement, each with its number; empty where nothing did or nothing could be measured.

    `load` is what the machine did meanwhile, `during` names the part that was measured. More than `limit` (a fraction)
    of the time of the CPUs that the run's ranks may use, beyond what the counters' ticks can tell: taken by other
    programs, by the hypervisor, or withheld by a quota; or some program waited for memory that share of the time. Any
    throttling for heat counts. Where ranks are not bound to CPUs, those of the machine count: the scheduler keeps
    ranks and others apart while there is room, and then they share caches, memory and clock frequency alone.
    """
    if load is None or load.seconds <= 0:
        return []
    reasons, short, limited = [], TICKS / load.seconds, f"(limit {limit:.0%})"
    if load.foreign_share is not None and load.foreign_cores is not None and load.foreign_share > limit + short:
        cores = f"{load.foreign_cores:.2f} of a core" if load.foreign_cores < 1 else f"{load.foreign_cores:.2f} cores"
        mine = f"{load.foreign_share:.0%} of the {load.cpus} CPUs it may use" if load.cpus > 1 else "the one it may use"
        reasons.append(f"other programs used {cores} during {during}: {mine} {limited}")
    if load.stolen_share is not None and load.stolen_share > limit + short:
        reasons.append(f"the hypervisor took {load.stolen_share:.0%} of the CPU time during {during} {limited}")
    if load.held_back_share is not None and load.held_back_share > limit:
        reasons.append(f"a CPU quota withheld {load.held_back_share:.0%} of the CPU time during {during} {limited}")
    if load.pressure_memory is not None and load.pressure_memory > limit:
        reasons.append(f"programs waited for memory {load.pressure_memory:.0%} of the time of {during} {limited}")
    if load.throttles:
        reasons.append(f"processors were slowed down for their heat {load.throttles} times during {during}")
    return reasons


def verdict(
    steps: pd.DataFrame,
    ranks: int,
    *,
    cv_limit: float,
    attempts: int,
    mixed_hardware: Sequence[str] = (),
    dirty: bool | None = False,
    sigma_median: float | None = None,
    sigma_median_start: float | None = None,
    draw_spread: float | None = None,
    finite: bool = True,
    disturbed: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """Judge a run: ('OK' | 'WARN' | 'INVALID', reasons). Drawn and marked, never dropped.

    A posterior is degenerate when the median sigma is within 5% of its start (the noise has not been learnt), or when
    the draws of an evaluation are all alike. `finite`: whether the trained parameters and their predictions are.
    `disturbed`: what `disturbances` says of the steady steps.
    """
    invalid, warn = [], []
    present = sorted(int(rank) for rank in steps["rank"].unique())
    missing = [rank for rank in range(ranks) if rank not in present]
    if missing:
        invalid.append(f"no rows of rank {', '.join(map(str, missing))}")
    last = steps[steps["attempt"] == steps["attempt"].max()]
    counts = last.groupby("rank")["step"].count()
    if len(counts) and counts.nunique() > 1:
        invalid.append(f"unequal steps: {int(counts.min())} on rank {counts.idxmin()}, {int(counts.max())} elsewhere")
    bad = steps[~np.isfinite(steps["loss"])]
    if len(bad):
        row = bad.sort_values(["step", "rank"]).iloc[0]
        invalid.append(f"non-finite loss at step {int(row['step'])} on rank {int(row['rank'])}")
    elif not finite:
        invalid.append(f"non-finite parameters or predictions after step {int(steps['step'].max())}")
    if mixed_hardware:
        invalid.append(f"mixed hardware: {'; '.join(mixed_hardware)}")
    variation = coefficient_of_variation(steps)
    if variation is None:
        warn.append("fewer than 2 steady steps")
    elif variation > cv_limit:
        warn.append(f"step times vary by {variation:.0%} (limit {cv_limit:.0%})")
    if unsettled_warmup(steps):
        warn.append("warm-up not settled: step times still fall")
    if attempts > 1:
        warn.append(f"resumed: {attempts} attempts")
    if dirty:
        warn.append("the working tree had uncommitted changes")
    warn += disturbed
    warn += degenerate(sigma_median, sigma_median_start, draw_spread)
    return ("INVALID" if invalid else "WARN" if warn else "OK"), invalid + warn
