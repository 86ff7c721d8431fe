"""Seconds of an inference against its Monte-Carlo draws, with the straight line through them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from campaign.results.figures import published
from campaign.results.figures.context import Context
from campaign.results.figures.jobs import all_jobs, job_series, mark_warned
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.posteriors import data_note, warning_note
from campaign.results.figures.select import Tables, model_name
from campaign.results.figures.style import INK, RC, finish, mark, new_figure
from campaign.results.tables.inference_schemas import INFERENCE_DRAWS

SEGMENTS = 10  # of consecutive draws; their mean draw times give the slope's interval


@dataclass(frozen=True)
class Fit:
    """seconds = intercept + slope x draws, with the slope's 95% interval (NaN with fewer than two segments)."""

    slope: float
    low: float
    high: float
    intercept: float


def elapsed(draws: pd.DataFrame, startup: float) -> np.ndarray:
    """Seconds from the start until 1, 2, ... draws are done, (draws,): ranks work side by side, each one by one."""
    own = draws.sort_values("draw").groupby("rank")["seconds"].cumsum()
    return np.asarray(startup + np.sort(own.to_numpy(dtype=float)))


def fit(seconds: np.ndarray) -> Fit:
    """Least squares over all draws.

    Cumulative times are not independent, so that the interval is a t-interval of the mean times per draw of
    consecutive segments, about the fitted slope.
    """
    count = len(seconds)
    if count < 2:
        return Fit(math.nan, math.nan, math.nan, math.nan)
    slope, intercept = (float(value) for value in np.polyfit(np.arange(1, count + 1), seconds, 1))
    means = [float(part.mean()) for part in np.array_split(np.diff(seconds), min(SEGMENTS, count - 1))]
    if len(means) < 2:
        return Fit(slope, math.nan, math.nan, intercept)
    half = float(stats.t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / math.sqrt(len(means)))
    return Fit(slope, slope - half, slope + half, intercept)


def inference_runtime_figure(tables: Tables, context: Context) -> Figure:
    """A panel per network; a line per job, its fit in black. Raises NothingToDrawError without measured draws."""
    series = job_series(tables, "inference_draws", "seconds")
    figure, axes = new_figure(columns=len(series), height=3.0)
    handles = []
    with mpl.rc_context(RC):
        for ax, (model, mine) in zip(axes, series.items(), strict=True):
            for one in mine:
                startup = one.job["seconds_startup"]
                seconds = elapsed(one.rows.dropna(subset=["seconds"]), 0.0 if pd.isna(startup) else float(startup))
                draws = np.arange(1, len(seconds) + 1)
                style = one.style | {"marker": "none", "linewidth": 2.2}
                line = fit(seconds)
                label = f"{one.name}: {_words(line, one.job)}"
                with marked(ax, label, one.cell):
                    ax.plot(draws, seconds, **style)
                    ax.plot([0, len(seconds)], [line.intercept, line.intercept + line.slope * len(seconds)], **LINE)
                    mark_warned(ax, one, len(seconds), float(seconds[-1]))
                handles.append(entry(Line2D([], [], label=label, **style)))
            ax.set_title(model_name(model), loc="left")
            ax.set_xlabel("Monte-Carlo draws")
            ax.set_xlim(left=0)
            ax.set_ylim(bottom=0)
    axes[0].set_ylabel(f"time since the start ({INFERENCE_DRAWS.unit('seconds')})")
    jobs = all_jobs(series)
    warned = [mark("WARN", "job with a warning")] if any(o.warned for m in series.values() for o in m) else []
    handles += [Line2D([], [], label="least squares", **LINE), *warned]
    title = f"Time of inference against Monte-Carlo draws on {context.site}"
    return finish(figure, title, handles, [*_notes(jobs), data_note(jobs), warning_note(jobs)])


LINE = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 3)), "zorder": 5}


def _words(line: Fit, job: pd.Series) -> str:
    if math.isnan(line.slope):
        return "a single draw"
    interval = "" if math.isnan(line.low) else f" (95% {line.low:.3g} to {line.high:.3g})"
    return f"{line.slope:.3g} s per draw{interval}, intercept {line.intercept:.2g} s; {job['images']:,.0f} images"


def _notes(jobs: pd.DataFrame) -> list[str]:
    low, high = sorted(published.INFERENCE_SECONDS)
    first, last = published.INFERENCE_SECONDS[low], published.INFERENCE_SECONDS[high]
    slope = (last - first) / (high - low)
    text = (
        "Start-up (loading, preparing) stands before the first draw; ranks draw side by side. Interval: t, from the "
        f"mean times per draw of {SEGMENTS} consecutive segments."
    )
    if jobs["seconds_startup"].isna().any():
        text += " Where start-up was not measured, time starts at the first draw."
    paper = (
        f"Published, not drawn (another machine, VGG-16): {first:g} s for {low} draws, {last:g} s for {high}; the line "
        f"through both has {slope:.2f} s per draw and an intercept of {first - low * slope:.0f} s."
    )
    return [text, paper]
