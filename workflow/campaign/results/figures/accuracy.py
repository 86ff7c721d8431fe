"""Time to a training accuracy against nodes: the paper's Fig. 3(c)."""

from __future__ import annotations

from typing import Any

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

Styles = dict[tuple[Series, float], dict[str, Any]]  # of each series and accuracy, for matplotlib
WORDS = {"running": "running mean since the first step (the paper's)", "epoch": "mean of each epoch"}


def accuracy_figure(tables: Tables, context: Context, *, role: str) -> Figure:
    """A column per definition of training accuracy, a row per model, data set and batch size.

    A run that never reaches a target is drawn as a lower bound.

    Raises NothingToDrawError when no cell counts.
    """
    if tables["accuracy"].empty:
        raise select.NothingToDrawError(f"time to accuracy: no cell with role {role} counts")
    rows = select.rows_of(tables["accuracy"], role)
    cells = select.rows_of(tables["cells"], role)
    ends = cells[[*IDENTITY_KEYS, "seconds_training"]]
    rows = rows.merge(ends, on=list(IDENTITY_KEYS), how="left")
    styles = _styles(rows)
    trained = list(rows.groupby(["model", "dataset", "batch_size"]))
    figure, axes = new_figure(columns=len(WORDS), rows=len(trained))
    for index, ((model, dataset, batch), here) in enumerate(trained):
        for ax, definition in zip(axes[index * len(WORDS) :], WORDS, strict=False):
            with mpl.rc_context(RC):
                _panel(ax, here[here["definition"] == definition], context, styles)
                ax.set_title(WORDS[definition], loc="left", fontsize=9)
        what = ", ".join([select.model_name(model), *_named(rows, dataset, batch, shared=False)])
        axes[index * len(WORDS)].set_ylabel(f"{what}\ntraining time ({ACCURACY.unit('seconds')})")
    missed = not rows["reached"].all()
    notes = [
        select.data_note(cells),
        "Small marks: repeats; lines: their geometric mean where all repeats arrive. Start-up is not counted."
        + (" Arrow: the accuracy was not reached; training ended there." if missed else ""),
    ]
    same = _named(rows, *rows.iloc[0][["dataset", "batch_size"]], shared=True)
    title = ", ".join([f"Time to training accuracy on {context.site}", *same])
    warned = verdict_handles(["WARN"] if (rows["verdict"] == "WARN").any() else [])[-1:]
    return finish(figure, title, [*_handles(styles, missed), *warned], notes)


def _named(rows: pd.DataFrame, dataset: str, batch: int, *, shared: bool) -> list[str]:
    """A data set and a batch size in words, each only if all rows have it (`shared`), or only if some have another."""
    words = {"dataset": dataset, "batch_size": f"batch {batch} per rank"}
    return [word for key, word in words.items() if (rows[key].nunique() == 1) == shared]


def _panel(ax: Axes, rows: pd.DataFrame, context: Context, styles: Styles) -> None:
    nodes = select.nodes_of(rows)
    found = {curve: select.of_series(rows[rows["target"] == curve[1]], curve[0]) for curve in styles}
    curves = {curve: here for curve, here in found.items() if len(here)}
    for index, ((one, target), here) in enumerate(curves.items()):
        shift = 2 ** (0.09 * (index - (len(curves) - 1) / 2))
        style, label = styles[one, target], curve_label(one, target)
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


def _styles(rows: pd.DataFrame) -> Styles:
    """How each curve is drawn, in the legend's order: a colour per kind; marks and lines per variant and accuracy."""
    targets = sorted(rows["target"].unique())
    made = {}
    for one in select.series_of(rows):
        for place, target in enumerate(targets):
            index = one.rank * len(targets) + place
            made[one, float(target)] = {
                "color": one.colour, "marker": MARKERS[index % len(MARKERS)], "linestyle": LINES[index % len(LINES)],
                "markerfacecolor": one.colour if one.kind == "bnn" else "white", "markeredgewidth": 1.1,
            }  # fmt: skip
    return made


def curve_label(one: Series, target: float) -> str:
    """How the legend calls a curve."""
    return f"{one.label}, accuracy {target:g}"


def _handles(styles: Styles, missed: bool) -> list[Line2D]:
    made = [Line2D([], [], label=curve_label(*curve), **style) for curve, style in styles.items()]
    for handle in made:
        mark(handle, str(handle.get_label()))
    if missed:
        made.append(
            Line2D([], [], color=INK, linestyle="none", marker=r"$\uparrow$", markersize=9, label="not reached by then")
        )
    return made
