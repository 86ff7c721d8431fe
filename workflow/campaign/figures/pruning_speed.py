"""Time of inference against the share of weights removed, beside the accuracy that it costs."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from campaign.figures.context import Context
from campaign.figures.posteriors import counted, data_note, warned, warning_note
from campaign.figures.pruning import levels
from campaign.figures.select import Tables, model_name
from campaign.figures.style import INK, LINES, MARKERS, MUTED, RC, finish, mark, new_figure

FORMS = {"dense": "dense", "csr": "sparse (CSR)", "compact": "dead units removed", "compact_csr": "both"}
COLOURS = {"dense": "#666666", "csr": "#1F78B4", "compact": "#E08214", "compact_csr": "#542788"}
BY = {"weight": "by weight", "unit": "by unit"}


def pruning_speed_figure(tables: Tables, context: Context) -> Figure:
    """A column per network and way of pruning: time relative to the unpruned network above, loss of accuracy below.

    Of several repeats the first is drawn. Raises NothingToDrawError without a sweep that counts.
    """
    jobs = counted(tables["pruning_summary"], "pruning with truly zero weights", semantics="zero", scope="global")
    jobs = jobs.sort_values(["model", "by", "repeat"], ascending=[True, False, True], kind="stable")
    jobs = jobs.drop_duplicates(["model", "by"])
    figure, axes = new_figure(columns=len(jobs), rows=2, height=2.3, width=max(5.0, 2.4 * len(jobs)))
    seen: set[str] = set()
    with mpl.rc_context(RC):
        for place, (_, job) in enumerate(jobs.iterrows()):
            rows = levels(tables, job)
            seen |= _times(axes[place], rows[rows["level"] >= 0])
            _loss(axes[len(jobs) + place], rows)
            axes[place].set_title(f"{model_name(job['model'])}, {BY[job['by']]}", loc="left")
            axes[len(jobs) + place].set_xlabel("kernel weights removed (%)")
    axes[0].set_ylabel("time / unpruned")
    axes[len(jobs)].set_ylabel("accuracy lost (points)")
    handles = [
        Line2D([], [], label=FORMS[form], color=COLOURS[form], linestyle=LINES[i], marker=MARKERS[i], markersize=4)
        for i, form in enumerate(FORMS)
        if form in seen
    ]
    handles.append(Line2D([], [], label="limit of the headline: 1 point", **LIMIT))
    handles += [mark("WARN", "sweep with a warning")] if any(warned(job) for _, job in jobs.iterrows()) else []
    timed = tables["pruning"][tables["pruning"]["level"] >= 0]
    notes = [
        "Above: median time of exact Monte-Carlo draws in each form over that of the unpruned dense network, timed in "
        f"turns ({_range(timed['timed_images'])} images, {_range(timed['timed_draws'])} draws). Below: loss of the "
        "Monte-Carlo mean on the same images, paired 95% interval. A sweep by unit removes whole channels, neurons and "
        "inputs. The first repeat is shown.",
        data_note(jobs),
        warning_note(jobs),
    ]
    return finish(figure, f"Speed of pruned inference and its price on {context.site}", handles, notes)


LIMIT = {"color": MUTED, "linestyle": (0, (5, 3)), "linewidth": 1.0}


def _times(ax: Axes, rows: pd.DataFrame) -> set[str]:
    """Draw every form that was timed; returns their names."""
    unpruned = rows["seconds"] * rows["speedup"]
    ax.axhline(1.0, color=MUTED, linewidth=0.8)
    drawn = set()
    for index, form in enumerate(FORMS):
        values = rows[f"seconds_{form}"] / unpruned
        if values.notna().any():
            style = {"color": COLOURS[form], "linestyle": LINES[index], "marker": MARKERS[index], "markersize": 4}
            ax.plot(rows["percent"], values, **style)
            drawn.add(form)
    ax.set_ylim(bottom=0)
    return drawn


def _loss(ax: Axes, rows: pd.DataFrame) -> None:
    loss = rows["accuracy_loss"].astype(float)
    low, high = (rows[f"accuracy_loss_{end}"].astype(float) for end in ("low", "high"))
    ax.errorbar(rows["percent"], loss, yerr=[loss - low, high - loss], color=INK, marker="o", markersize=3.5, capsize=2)
    ax.axhline(1.0, **LIMIT)
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(top=110)
    ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
