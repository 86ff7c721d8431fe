"""How far the predictive distribution of S draws is from that of all, against S; the paper's 400 put to the test."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from campaign.results.figures import published
from campaign.results.figures.context import Context
from campaign.results.figures.jobs import JobSeries, all_jobs, job_series, mark_warned
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.posteriors import data_note, warning_note
from campaign.results.figures.select import Tables, model_name
from campaign.results.figures.style import MUTED, RC, finish, log_axis, mark, new_figure

TOLERANCE = {"color": MUTED, "linestyle": (0, (5, 3)), "linewidth": 1.0}


def inference_convergence_figure(tables: Tables, context: Context) -> Figure:
    """A panel per network, a curve with its 95% band per job, on logarithmic axes.

    Distances of 0 (all draws alike) have no place there and are named in the legend. Raises NothingToDrawError without
    a recorded distance.
    """
    series = job_series(tables, "inference_convergence", "distance")
    figure, axes = new_figure(columns=len(series), height=3.0)
    handles = []
    with mpl.rc_context(RC):
        for ax, (model, mine) in zip(axes, series.items(), strict=True):
            for one in mine:
                label = f"{one.name}: {_settled(one)}"
                with marked(ax, label, one.cell):
                    _draw(ax, one)
                handles.append(entry(Line2D([], [], label=label, markersize=4, **one.style)))
            _axis(ax, mine)
            ax.set_title(model_name(model), loc="left")
    axes[0].set_ylabel("distance to all draws")
    jobs = all_jobs(series)
    warned = [mark("WARN", "job with a warning")] if any(o.warned for m in series.values() for o in m) else []
    tolerances = sorted(jobs["settled_tolerance"].dropna().unique())
    limits = [Line2D([], [], label=f"tolerance {' or '.join(f'{t:g}' for t in tolerances)}", **TOLERANCE)]
    paper = published.handle(f"published: settled from {published.SETTLED_DRAWS} draws on")
    handles += [*(limits if tolerances else []), paper, *warned]
    notes = [
        "Distance: 1-Wasserstein, between the true class's softmax values over S draws and over all draws of the job, "
        "mean over images; band: 95% of random subsets of S draws, taken with replacement. Settled (▼): the band's "
        "upper end stays below the tolerance from there on. Where most images are certain, the mean settles before the "
        "others do.",
        data_note(jobs),
        warning_note(jobs),
    ]
    return finish(figure, f"Convergence of the predictive distribution on {context.site}", handles, notes)


def _positive(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["distance"] > 0].sort_values("draws")


def _draw(ax: Axes, one: JobSeries) -> None:
    rows = _positive(one.rows)
    if rows.empty:
        return
    draws, style = rows["draws"].to_numpy(dtype=float), one.style
    low = rows["distance_low"].where(rows["distance_low"] > 0)
    ax.fill_between(draws, low, rows["distance_high"], color=style["color"], alpha=0.18, linewidth=0)
    ax.plot(draws, rows["distance"], markersize=3.5, **style)
    mark_warned(ax, one, float(draws[-1]), float(rows["distance"].iloc[-1]))
    settled, tolerance = one.job["settled_draws"], one.job["settled_tolerance"]
    if pd.notna(settled) and pd.notna(tolerance):
        drop = {"color": style["color"], "marker": "v", "markersize": 7, "markeredgecolor": "white", "zorder": 8}
        ax.plot([float(settled)], [float(tolerance)], linestyle="none", label="_settled", **drop)


def _axis(ax: Axes, mine: list[JobSeries]) -> None:
    log_axis(ax)
    sizes = sorted({int(size) for one in mine for size in one.rows["draws"]} | {published.SETTLED_DRAWS})
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("S, Monte-Carlo draws")
    if all(_positive(one.rows).empty for one in mine):
        ax.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
        ax.set_ylim(1e-4, 1)
        ax.text(0.5, 0.75, "every distance is 0:\nall draws alike", transform=ax.transAxes, ha="center", fontsize=8)
    for tolerance in sorted({float(one.job["settled_tolerance"]) for one in mine if one.job["settled_tolerance"] > 0}):
        ax.axhline(tolerance, **TOLERANCE)
    published.mark(ax, published.SETTLED_DRAWS)


def _settled(one: JobSeries) -> str:
    settled, draws = one.job["settled_draws"], one.job["draws"]
    if _positive(one.rows).empty:
        return "draws alike, every distance 0"
    return f"not settled within {draws:.0f} draws" if pd.isna(settled) else f"settled from {settled:.0f} draws on (▼)"
