"""Whether predictive probabilities mean what they say: reliability diagrams, with how many images are in each bin."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from campaign.results.figures.context import Context
from campaign.results.figures.jobs import JobSeries, all_jobs, job_series, mark_warned
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.posteriors import data_note, warning_note
from campaign.results.figures.select import Tables, model_name
from campaign.results.figures.style import MUTED, RC, finish, mark, new_figure
from campaign.results.tables.inference_schemas import INFERENCE_RELIABILITY

DIAGONAL = {"color": MUTED, "linestyle": (0, (3, 2)), "linewidth": 1.0}


def inference_reliability_figure(tables: Tables, context: Context) -> Figure:
    """Per network: accuracy against confidence above, images per bin below. Empty bins have no mark.

    Raises NothingToDrawError without a bin that holds an image.
    """
    series = job_series(tables, "inference_reliability", "accuracy")
    figure, axes = new_figure(columns=len(series), rows=2, height=2.1, ratios=(3.0, 1.2))
    above, below = axes[: len(series)], axes[len(series) :]
    handles = []
    with mpl.rc_context(RC):
        for top, bottom, (model, mine) in zip(above, below, series.items(), strict=True):
            top.plot([0, 1], [0, 1], **DIAGONAL)
            for index, one in enumerate(mine):
                label = f"{one.name}: {_error(one.job)}"
                with marked(top, label, one.cell), marked(bottom, label, one.cell):
                    _accuracy(top, one, (index - (len(mine) - 1) / 2) * 0.006)
                    _counts(bottom, one)
                handles.append(entry(Line2D([], [], label=label, markersize=4.5, **one.style)))
            top.set_title(model_name(model), loc="left")
            top.set_xlim(0, 1)
            top.set_ylim(0, 1.03)
            bottom.set_xlim(0, 1)
            bottom.set_xlabel("confidence (largest predictive probability)")
            _count_axis(bottom, max(int(one.rows["count"].max()) for one in mine))
    above[0].set_ylabel("accuracy")
    below[0].set_ylabel(INFERENCE_RELIABILITY.unit("count"))
    jobs = all_jobs(series)
    warned = [mark("WARN", "job with a warning")] if any(o.warned for m in series.values() for o in m) else []
    handles += [Line2D([], [], label="calibrated", **DIAGONAL), *warned]
    notes = [
        "Above: share of right predictions against mean confidence of each bin; bars: 95% intervals (Wilson), series "
        "set apart by a hair. Below: images per bin, logarithmic. ECE: mean over images of |accuracy - confidence|.",
        data_note(jobs),
        warning_note(jobs),
    ]
    return finish(figure, f"Reliability of the Monte-Carlo mean on {context.site}", handles, notes)


def wilson(right: int, count: int) -> tuple[float, float]:
    """95% interval of a share."""
    interval = stats.binomtest(right, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _accuracy(ax: Axes, one: JobSeries, shift: float) -> None:
    rows = one.rows[one.rows["count"] > 0].sort_values("bin")
    ends = [wilson(round(row["accuracy"] * row["count"]), int(row["count"])) for _, row in rows.iterrows()]
    x, y = rows["confidence"].to_numpy(dtype=float) + shift, rows["accuracy"].to_numpy(dtype=float)
    low, high = np.array(ends).reshape(-1, 2).T
    ax.vlines(x, low, high, color=one.style["color"], linewidth=0.9, alpha=0.7)
    ax.plot(x, y, markersize=4.5, clip_on=False, zorder=4, **one.style)
    if len(rows):
        mark_warned(ax, one, float(x[-1]), float(y[-1]))


def _counts(ax: Axes, one: JobSeries) -> None:
    rows = one.rows.sort_values("bin")
    style = {"color": one.style["color"], "linestyle": one.style["linestyle"], "linewidth": 1.2}
    edges = np.append(rows["low"].to_numpy(dtype=float), float(rows["high"].iloc[-1]))
    ax.stairs(rows["count"].to_numpy(dtype=float), edges, **style)


def _count_axis(ax: Axes, most: int) -> None:
    """Logarithmic with a place for empty bins; ticks at every second power of ten."""
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(0, 2 * most)
    ticks = [0, *(10**power for power in range(0, 12, 2) if 10**power <= most)]
    ax.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()


def _error(job: pd.Series) -> str:
    return "ECE not measured" if pd.isna(job["calibration_error"]) else f"ECE {job['calibration_error']:.4f}"
