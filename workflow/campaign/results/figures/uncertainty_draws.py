"""What asking costs: NLL of every method against the time that a prediction takes, as draws grow."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from campaign.results.figures.context import Context
from campaign.results.figures.marks import marked
from campaign.results.figures.method_data import (
    POINT_KEYS,
    TEXT,
    Colour,
    Method,
    clean,
    compared,
    label_points,
    legible,
    limits,
    methods_of,
    point_title,
    require,
    warning_words,
    with_series,
)
from campaign.results.figures.select import Tables, data_words
from campaign.results.figures.style import RC, finish, new_figure

X, Y = "seconds_per_image", "nll"


def uncertainty_draws_figure(tables: Tables, context: Context) -> Figure:
    """A panel per point; a curve with its intervals per method that draws, a mark for each that predicts once.

    Raises NothingToDrawError where no point has two methods with a time and an NLL.
    """
    rows = clean(compared(require(tables["methods"], [X, Y], "methods")))
    methods = methods_of(rows)
    of_draws = with_series(tables["method_draws"], rows)
    points = list(rows.groupby(POINT_KEYS, sort=True))
    figure, axes = new_figure(columns=1, rows=len(points), height=3.4)
    with mpl.rc_context(RC):
        for ax, (place, mine) in zip(axes, points, strict=True):
            here = of_draws[(of_draws[POINT_KEYS] == pd.Series(place, POINT_KEYS)).all(axis=1)]
            _panel(ax, mine, here, methods)
            ax.set_ylabel("NLL (nats per image)")
            ax.set_title(point_title(mine.iloc[0]), loc="left")
        axes[-1].set_xlabel("time of a prediction (ms per image, all its draws)")
    notes = [
        "Numbers: draws. Curves: the mean of the first so many draws; its time is that of all draws in proportion. "
        "Bars: 95% interval over repeats, both ways; bars that leave the panel go on.",
        data_words(rows),
        warning_words(rows),
    ]
    return finish(figure, f"What uncertainty costs in prediction on {context.site}", [], notes)


def _panel(ax: Axes, rows: pd.DataFrame, of_draws: pd.DataFrame, methods: dict[str, Method]) -> None:
    ax.set_xscale("log")
    labels, drawn = [], []
    for row in rows.to_dict("records"):
        curve = of_draws[of_draws["series"] == row["series"]].sort_values("draws")
        frame = curve if len(curve) > 1 else pd.DataFrame([row])
        method = methods[row["series"]]
        with marked(ax, method.name, pd.DataFrame([row]), "methods"):
            _method(ax, frame, method.colour)
        last = frame.iloc[-1]
        labels.append((float(last[X]), float(last[Y]), method))
        drawn.append(frame)
    limits(ax, pd.concat(drawn), X, Y, right=0.45)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1000 * value:,.6g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    label_points(ax, labels)


def _method(ax: Axes, frame: pd.DataFrame, colour: Colour) -> None:
    """One method's curve, its intervals, and the number of draws at each point of several."""
    ax.plot(frame[X], frame[Y], color=colour, marker="o", markersize=4, zorder=4)
    words = legible(colour, TEXT)
    for one in frame.to_dict("records"):
        if pd.notna(one[f"{Y}_low"]):
            ax.plot([one[X]] * 2, [one[f"{Y}_low"], one[f"{Y}_high"]], color=colour, lw=0.8, alpha=0.6)
        if pd.notna(one[f"{X}_low"]):
            ax.plot([one[f"{X}_low"], one[f"{X}_high"]], [one[Y]] * 2, color=colour, lw=0.8, alpha=0.6)
        if len(frame) > 1:
            place = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
            ax.annotate(f"{one['draws']:.0f}", (one[X], one[Y]), fontsize=6.5, color=words, **place)
