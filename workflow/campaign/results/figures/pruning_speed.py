"""Time of inference against the share of weights removed, never without the accuracy that it costs."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from campaign.results.figures import published
from campaign.results.figures.context import Context
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.posteriors import counted, data_note, warned, warning_note
from campaign.results.figures.pruning import levels, network_words
from campaign.results.figures.select import Tables
from campaign.results.figures.style import (
    INK,
    LINES,
    MARKERS,
    MUTED,
    RC,
    finish,
    log_axis,
    mark,
    mark_style,
    new_figure,
)
from campaign.results.tables.inference_schemas import PRUNING
from campaign.results.tables.schemas import IDENTITY_KEYS

FORMS = {"dense": "dense", "csr": "sparse (CSR)", "compact": "dead units removed", "compact_csr": "both"}
COLOURS = {"dense": "#666666", "csr": "#1F78B4", "compact": "#E08214", "compact_csr": "#542788"}
BY = {"weight": "by weight", "unit": "by unit"}
LIMIT = {"color": MUTED, "linestyle": (0, (5, 3)), "linewidth": 1.0}
FASTEST = {"linestyle": "none", "marker": "o", "markersize": 9, "markerfacecolor": "none", "color": INK, "zorder": 5}


def pruning_speed_figure(tables: Tables, context: Context) -> Figure:
    """A column per network and way of pruning: time relative to the unpruned network above, loss of accuracy below.

    Of several repeats the first is drawn. Raises NothingToDrawError without a sweep that counts.
    """
    jobs = counted(tables["pruning_summary"], "pruning with truly zero weights", semantics="zero", scope="global")
    jobs = jobs.sort_values(["model", "by"], ascending=[True, False], kind="stable")
    jobs = jobs.drop_duplicates(["model", "by"])
    figure, axes = new_figure(columns=len(jobs), rows=2, height=2.3, width=max(5.0, 2.4 * len(jobs)))
    seen: set[str] = set()
    with mpl.rc_context(RC):
        for place, (_, job) in enumerate(jobs.iterrows()):
            rows = levels(tables, job)
            seen |= _times(axes[place], rows[rows["level"] >= 0])
            _loss(axes[len(jobs) + place], rows, warned(job))
            axes[place].set_title(f"{network_words(job)},\n{BY[job['by']]}", loc="left")
            axes[len(jobs) + place].set_xlabel(f"kernel weights removed ({PRUNING.unit('percent')})")
    axes[0].set_ylabel("time / unpruned dense")
    axes[len(jobs)].set_ylabel(f"accuracy lost ({PRUNING.unit('accuracy_loss')})")
    handles = [entry(Line2D([], [], label=FORMS[form], **_style(form))) for form in FORMS if form in seen]
    handles.append(Line2D([], [], label="fastest, with times as fast", **FASTEST))
    handles.append(Line2D([], [], label="limit of the headline: 1 point", **LIMIT))
    handles += [mark("WARN", "sweep with a warning")] if any(warned(job) for _, job in jobs.iterrows()) else []
    timed = tables["pruning"][tables["pruning"]["level"] >= 0]
    paper = published.FC_TIME
    notes = [
        "Above: median time of exact Monte-Carlo draws in each form over that of the unpruned dense network, timed in "
        f"turns ({_range(timed['timed_images'])} images, {_range(timed['timed_draws'])} draws); bars: 95% interval of "
        "the fastest form over rounds that come after its choice. Below: loss of the Monte-Carlo mean on the same "
        "images, paired 95% interval. A sweep by unit removes whole channels, neurons and inputs. The first repeat is "
        "shown.",
        f"Published, not drawn: one draw of FC takes about {paper['reduction']}% less time with {paper['percent']}% "
        "pruned, by operations that cannot leave zeros out.",
        data_note(jobs),
        warning_note(jobs),
    ]
    return finish(figure, f"Speed of pruned inference and its price on {context.site}", handles, notes)


def _style(form: str) -> dict[str, object]:
    index = list(FORMS).index(form)
    return {"color": COLOURS[form], "linestyle": LINES[index], "marker": MARKERS[index], "markersize": 4}


def _times(ax: Axes, rows: pd.DataFrame) -> set[str]:
    """Draw every form that was timed, and round the fastest a ring; returns the forms drawn."""
    unpruned = rows["seconds"] * rows["speedup"]
    ax.axhline(1.0, color=MUTED, linewidth=0.8)
    drawn = set()
    for form, words in FORMS.items():
        values = (rows[f"seconds_{form}"] / unpruned).astype(float)
        if values.notna().any():
            with marked(ax, words, rows[list(IDENTITY_KEYS)].iloc[:1]):
                ax.plot(rows["percent"], values, **_style(form))
            drawn.add(form)
    log_axis(ax)
    ax.set_xlim(-5, 110)
    best = rows[rows["speedup"].notna()]
    if len(best):
        low, high = (1 / best[f"speedup_{end}"].astype(float) for end in ("high", "low"))
        ax.vlines(best["percent"], low, high, color=INK, linewidth=1.0, zorder=4)
        ax.plot(best["percent"], 1 / best["speedup"].astype(float), **FASTEST)
        last = best.iloc[-1]
        place = {"xytext": (0, -9), "textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 7.5}
        ax.annotate(f"{last['speedup']:.2g}×", (last["percent"], 1 / last["speedup"]), **place)
        ax.margins(y=0.18)
    return drawn


def _loss(ax: Axes, rows: pd.DataFrame, warning: bool) -> None:
    loss = rows["accuracy_loss"].astype(float)
    low, high = (rows[f"accuracy_loss_{end}"].astype(float) for end in ("low", "high"))
    ends = [(loss - low).clip(lower=0), (high - loss).clip(lower=0)]
    ax.errorbar(rows["percent"], loss, yerr=ends, color=INK, marker="o", markersize=3.5, capsize=2)
    ax.axhline(1.0, **LIMIT)
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(top=110)
    ax.set_yticks([-1, 0, 1, 10, 100], ["-1", "0", "1", "10", "100"])
    ax.set_xlim(-5, 110)
    if warning:
        ax.plot(rows["percent"].iloc[-1:], loss.iloc[-1:], **(mark_style("WARN") | {"linestyle": "none", "zorder": 7}))


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
