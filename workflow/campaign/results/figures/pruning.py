"""Accuracy and uncertainty against the share of weights removed, in three meanings of "removed": the paper's Fig. 8."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from campaign.results.figures import published
from campaign.results.figures.context import Context
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.posteriors import SWEEP_KEYS, counted, data_note, of_job, warned, warning_note
from campaign.results.figures.select import NothingToDrawError, Tables, model_name
from campaign.results.figures.style import LINES, MARKERS, RC, finish, log_axis, mark, mark_style, new_figure
from campaign.results.tables.inference_schemas import PRUNING, SEMANTICS
from campaign.results.tables.schemas import IDENTITY_KEYS

STYLES = {
    name: {"color": colour, "linestyle": line, "marker": marker, "markersize": 4}
    for name, colour, line, marker in zip(SEMANTICS, ("#1B7837", "#8073AC", "#B35806"), LINES, MARKERS, strict=False)
}
ROWS = {"accuracy": "accuracy", "nll": f"NLL ({PRUNING.unit('nll')})"}
# What makes networks one column; their repeats are averaged.
COLUMN_KEYS = ["model", "width", "dataset", "variant", "nodes", "batch_size"]
Sweep = tuple[pd.Series, pd.DataFrame]  # its row of table pruning_summary, and its levels


def pruning_figure(tables: Tables, context: Context) -> Figure:
    """A column per network: accuracy above, NLL below, a curve per meaning with its 95% band over repeats.

    Raises NothingToDrawError without a sweep by weight that counts.
    """
    jobs = counted(tables["pruning_summary"], "pruning by weight", by="weight", scope="global")
    columns = [group for _, group in jobs.sort_values("model", kind="stable").groupby(COLUMN_KEYS, sort=False)]
    figure, axes = new_figure(columns=len(columns), rows=2, height=2.3)
    with mpl.rc_context(RC):
        for place, mine in enumerate(columns):
            _column(axes[place], axes[len(columns) + place], mine, tables)
        for row, label in enumerate(ROWS.values()):
            axes[row * len(columns)].set_ylabel(label)
    named = [name for name in SEMANTICS if name in set(jobs["semantics"])]
    handles = [entry(Line2D([], [], label=SEMANTICS[name], **STYLES[name])) for name in named]
    papers = {model: share for model, share in published.UNCHANGED_PERCENT.items() if model in set(jobs["model"])}
    if papers:
        words = ", ".join(f"{share}% ({model_name(model)})" for model, share in papers.items())
        handles.append(published.handle(f"paper: unchanged up to {words}"))
    handles += [mark("WARN", "repeat with a warning")] if any(warned(job) for _, job in jobs.iterrows()) else []
    notes = [
        "Weights of the lowest |mu| / sigma removed by one threshold for all layers; accuracy and NLL of the "
        f"Monte-Carlo mean over held-out images. {_repeats(jobs)} (of other seeds) per curve; band: 95% t-interval "
        "over them, none for a single one.",
        data_note(jobs),
        warning_note(jobs),
    ]
    return finish(figure, f"Pruning by signal-to-noise ratio on {context.site}", handles, notes)


def levels(tables: Tables, job: pd.Series) -> pd.DataFrame:
    """The levels of a sweep by ascending percent. Raises NothingToDrawError when it has none."""
    rows = of_job(tables["pruning"], job, (*IDENTITY_KEYS, *SWEEP_KEYS))
    if rows.empty:
        raise NothingToDrawError(f"{model_name(job['model'])}: its sweep has no levels")
    return rows.sort_values(["percent", "level"])


def network_words(job: pd.Series) -> str:
    """The network of a column, with what departs from the paper's size."""
    width = "" if job["width"] == 1 else f", width {job['width']:g}"
    return f"{model_name(job['model'])}{width} ({job['variant']})"


def means(curves: list[pd.DataFrame], column: str) -> pd.DataFrame:
    """Over the sweeps of several repeats, by level: columns percent, mean, low and high (95% t; NaN of one value)."""
    rows = pd.concat(curves).dropna(subset=[column])
    found = rows.groupby("level").agg(
        percent=("percent", "mean"), mean=(column, "mean"), std=(column, "std"), count=(column, "size")
    )
    quantile = [stats.t.ppf(0.975, count - 1) if count > 1 else math.nan for count in found["count"]]
    half = np.array(quantile) * found["std"].astype(float) / np.sqrt(found["count"])
    return found.assign(low=found["mean"] - half, high=found["mean"] + half).sort_values("percent").astype(float)


def _column(top: Axes, bottom: Axes, jobs: pd.DataFrame, tables: Tables) -> None:
    for semantics in (name for name in SEMANTICS if name in set(jobs["semantics"])):
        sweeps = [(job, levels(tables, job)) for _, job in jobs[jobs["semantics"] == semantics].iterrows()]
        cells = pd.DataFrame([job[list(IDENTITY_KEYS)] for job, _ in sweeps])
        for ax, column in zip((top, bottom), ROWS, strict=True):
            with marked(ax, SEMANTICS[semantics], cells):
                _curve(ax, sweeps, column, STYLES[semantics])
    top.set_title(network_words(jobs.iloc[0]), loc="left")
    model = jobs["model"].iloc[0]
    if model in published.UNCHANGED_PERCENT:  # what the paper says of accuracy alone
        published.mark(top, published.UNCHANGED_PERCENT[model])
    for ax in (top, bottom):
        ax.set_xlim(-3, 103)
    bottom.set_xlabel(f"kernel weights removed ({PRUNING.unit('percent')})")
    log_axis(bottom)


def _curve(ax: Axes, sweeps: list[Sweep], column: str, style: dict[str, Any]) -> None:
    """Mean and band, which ends where the quantity does; a triangle at the last level of a repeat with a warning."""
    found = means([rows for _, rows in sweeps], column)
    ax.plot(found["percent"], found["mean"], **style)
    low, high = found["low"].clip(0, 1), found["high"].clip(0, 1)
    if column == "nll":  # a logarithmic axis has no zero
        low, high = found["low"].clip(lower=0.5 * found["mean"].min()), found["high"]
    ax.fill_between(found["percent"], low, high, color=style["color"], alpha=0.15, linewidth=0)
    for job, rows in sweeps:
        if warned(job):
            last = rows.dropna(subset=[column]).iloc[-1:]
            ax.plot(last["percent"], last[column], **(mark_style("WARN") | {"linestyle": "none", "zorder": 7}))


def _repeats(jobs: pd.DataFrame) -> str:
    counts = jobs.groupby([*COLUMN_KEYS, "semantics"])["repeat"].nunique()
    low, high = int(counts.min()), int(counts.max())
    return f"{low} repeat{'s' if low > 1 else ''}" if low == high else f"{low} to {high} repeats"
