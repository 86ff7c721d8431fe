"""Accuracy and uncertainty against the share of weights removed, in three meanings of "removed": the paper's Fig. 8."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from campaign.figures import published
from campaign.figures.context import Context
from campaign.figures.posteriors import counted, data_note, of_job, warned, warning_note
from campaign.figures.select import NothingToDrawError, Tables, model_name
from campaign.figures.style import LINES, MARKERS, RC, finish, log_axis, mark, new_figure
from campaign.tables.inference_schemas import PRUNING
from campaign.tables.schemas import IDENTITY_KEYS

SWEEP_KEYS = ("semantics", "scope", "by")
WORDS = {
    "zero": "zero: mean and sigma 0",
    "mean-only": "mean-only: mean 0, sigma kept",
    "bprune": "bprune, as published: mean 0, sigma softplus(0) = 0.693",
}
COLOURS = {"zero": "#1B7837", "mean-only": "#8073AC", "bprune": "#B35806"}
ROWS = {"accuracy": "accuracy", "nll": f"NLL ({PRUNING.unit('nll')})"}


def pruning_figure(tables: Tables, context: Context) -> Figure:
    """A column per network: accuracy above, NLL below, a curve per meaning with its 95% band over repeats."""
    jobs = by_weight(tables)
    models = list(dict.fromkeys(jobs["model"]))
    figure, axes = new_figure(columns=len(models), rows=2, height=2.3)
    handles = []
    with mpl.rc_context(RC):
        for place, model in enumerate(models):
            mine = jobs[jobs["model"] == model]
            for semantics in (name for name in WORDS if name in set(mine["semantics"])):
                style = style_of(semantics)
                curves = [levels(tables, job) for _, job in mine[mine["semantics"] == semantics].iterrows()]
                for row, column in enumerate(ROWS):
                    draw_band(axes[row * len(models) + place], curves, column, style)
            top, bottom = axes[place], axes[len(models) + place]
            variants = ", ".join(sorted({str(name) for name in mine["variant"]}))
            top.set_title(f"{model_name(model)} ({variants})", loc="left")
            if model in published.UNCHANGED_PERCENT:
                published.mark(top, published.UNCHANGED_PERCENT[model], "paper: unchanged\nup to here", middle=True)
            bottom.set_xlabel("kernel weights removed (%)")
            log_axis(bottom)
        for semantics in (name for name in WORDS if name in set(jobs["semantics"])):
            handles.append(Line2D([], [], label=WORDS[semantics], markersize=4, **style_of(semantics)))
    for row, label in enumerate(ROWS.values()):
        axes[row * len(models)].set_ylabel(label)
    handles.append(published.handle("published"))
    handles += [mark("WARN", "repeat with a warning")] if any(warned(job) for _, job in jobs.iterrows()) else []
    repeats = jobs.groupby(["model", "semantics"])["repeat"].nunique()
    notes = [
        "Weights of the lowest |mu| / sigma removed by one threshold for all layers; accuracy and NLL of the "
        f"Monte-Carlo mean over held-out images. {repeats.min()} to {repeats.max()} repeats (seeds) per curve; band: "
        "95% t-interval over repeats, none for a single one.",
        data_note(jobs),
        warning_note(jobs),
    ]
    return finish(figure, f"Pruning by signal-to-noise ratio on {context.site}", handles, notes)


def style_of(semantics: str) -> dict[str, Any]:
    """Colour, line and marker of a meaning, the same in every figure."""
    index = list(WORDS).index(semantics)
    return {"color": COLOURS[semantics], "linestyle": LINES[index], "marker": MARKERS[index]}


def by_weight(tables: Tables) -> pd.DataFrame:
    """The sweeps by single weights with one threshold, conv before fc as in the paper."""
    jobs = counted(tables["pruning_summary"], "pruning by weight", by="weight", scope="global")
    return jobs.sort_values("model", kind="stable")


def levels(tables: Tables, job: pd.Series) -> pd.DataFrame:
    """The levels of a sweep by ascending percent, the unpruned network first."""
    rows = of_job(tables["pruning"], job, (*IDENTITY_KEYS, *SWEEP_KEYS))
    if rows.empty:
        raise NothingToDrawError(f"{model_name(job['model'])}: its sweep has no levels")
    return rows.sort_values(["percent", "level"])


def draw_band(ax: Axes, curves: list[pd.DataFrame], column: str, style: Mapping[str, object]) -> None:
    """Mean over the sweeps of several repeats with its t-interval; levels are paired by their order."""
    count = min(len(rows) for rows in curves)
    x = np.mean([rows["percent"].to_numpy(dtype=float)[:count] for rows in curves], axis=0)
    values = np.array([rows[column].to_numpy(dtype=float)[:count] for rows in curves])
    mean = values.mean(axis=0)
    ax.plot(x, mean, markersize=4, **style)
    if len(curves) > 1:
        half = stats.t.ppf(0.975, len(curves) - 1) * values.std(axis=0, ddof=1) / math.sqrt(len(curves))
        low, high = mean - half, mean + half
        if column == "accuracy":
            low, high = low.clip(0, 1), high.clip(0, 1)
        else:
            low = np.maximum(low, values.min() * 0.5)  # a logarithmic axis has no zero
        ax.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
