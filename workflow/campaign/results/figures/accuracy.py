"""Time to a training accuracy against nodes: the paper's Fig. 3(c)."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.marks import mark, mark_points
from campaign.results.figures.select import Series, Tables
from campaign.results.figures.style import (
    INK,
    LINES,
    MARKERS,
    RC,
    finish,
    mark_style,
    new_figure,
    node_axis,
    verdict_handles,
)
from campaign.results.tables.schemas import ACCURACY, IDENTITY_KEYS

WORDS = {"running": "running mean since the first step (the paper's)", "epoch": "mean of each epoch"}


def accuracy_figure(tables: Tables, context: Context, *, role: str) -> Figure:
    """A panel per definition of training accuracy. A run that never reaches a target is drawn as a lower bound.

    Raises NothingToDrawError when no cell counts.
    """
    if tables["accuracy"].empty:
        raise select.NothingToDrawError(f"time to accuracy: no cell with role {role} counts")
    rows = select.rows_of(tables["accuracy"], role)
    cells = select.rows_of(tables["cells"], role)
    ends = cells[[*IDENTITY_KEYS, "seconds_training"]]
    rows = rows.merge(ends, on=list(IDENTITY_KEYS), how="left")
    models = sorted(rows["model"].unique())
    figure, axes = new_figure(columns=len(WORDS), rows=len(models))
    for index, model in enumerate(models):
        for ax, definition in zip(axes[index * len(WORDS) :], WORDS, strict=False):
            with mpl.rc_context(RC):
                _panel(ax, rows[(rows["model"] == model) & (rows["definition"] == definition)], context)
                ax.set_title(WORDS[definition], loc="left", fontsize=9)
        axes[index * len(WORDS)].set_ylabel(f"{select.model_name(model)}: training time ({ACCURACY.unit('seconds')})")
    datasets = ", ".join(sorted(rows["dataset"].unique()))
    batch = ", ".join(map(str, select.batches(rows)))
    missed = not rows["reached"].all()
    notes = [
        select.data_note(cells),
        "Small marks: repeats; lines: their geometric mean where all repeats arrive. Start-up is not counted."
        + (" Arrow: the accuracy was not reached; training ended there." if missed else ""),
    ]
    title = f"Time to training accuracy on {context.site}, {datasets}, batch {batch} per rank"
    warned = verdict_handles(["WARN"] if (rows["verdict"] == "WARN").any() else [])[-1:]
    return finish(figure, title, [*_handles(rows, missed), *warned], notes)


def _panel(ax: Axes, rows: pd.DataFrame, context: Context) -> None:
    nodes = select.nodes_of(rows)
    curves = [(one, target) for one in select.series_of(rows) for target in sorted(rows["target"].unique())]
    for index, (one, target) in enumerate(curves):
        shift = 2 ** (0.09 * (index - (len(curves) - 1) / 2))
        here = select.of_series(rows[rows["target"] == target], one)
        style, label = _style(rows, one, target), curve_label(one, target)
        reached = here[here["reached"]]
        dots = ax.plot(
            reached["nodes"] * shift, reached["seconds"], **(style | {"linestyle": "none", "markersize": 4.5})
        )
        mark_points(dots[0], label, "accuracy", "seconds", reached)
        whole = here.groupby("nodes").filter(lambda group: bool(group["reached"].all()))
        if len(whole):
            centre = whole.groupby("nodes")["seconds"].agg(lambda s: float(np.exp(np.log(s).mean())))
            mark(ax.plot(centre.index.to_numpy(dtype=float) * shift, centre, **(style | {"marker": "none"}))[0], label)
        missed = here[~here["reached"]]
        x, y = missed["nodes"].to_numpy(dtype=float) * shift, missed["seconds_training"].to_numpy(dtype=float)
        warned = here[here["verdict"] == "WARN"]
        at = warned["seconds"].fillna(warned["seconds_training"])
        mark(ax.plot(warned["nodes"] * shift * 2**0.04, at, **(mark_style("WARN") | {"linestyle": "none"}))[0], label)
        reach = 0.08 * rows[["seconds", "seconds_training"]].max(axis=None)
        arrows = ax.errorbar(x, y, yerr=reach, lolims=True, **(style | {"linestyle": "none", "markersize": 4.5}))
        for artist in arrows.get_children():
            mark(artist, label)
    ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    node_axis(ax, nodes, context.node_label)


def _style(rows: pd.DataFrame, one: Series, target: float) -> dict[str, object]:
    index = sorted(rows["target"].unique()).index(target)
    face = one.colour if one.kind == "bnn" else "white"
    return {
        "color": one.colour, "marker": MARKERS[index % len(MARKERS)], "linestyle": LINES[index % len(LINES)],
        "markerfacecolor": face, "markeredgewidth": 1.1,
    }  # fmt: skip


def curve_label(one: Series, target: float) -> str:
    """How the legend calls a curve."""
    return f"{one.label}, accuracy {target:g}"


def _handles(rows: pd.DataFrame, missed: bool) -> list[Line2D]:
    made = [
        Line2D([], [], label=curve_label(one, target), **_style(rows, one, target))
        for one in select.series_of(rows)
        for target in sorted(rows["target"].unique())
    ]
    for handle in made:
        mark(handle, str(handle.get_label()))
    if missed:
        made.append(
            Line2D([], [], color=INK, linestyle="none", marker=r"$\uparrow$", markersize=9, label="not reached by then")
        )
    return made
