"""What uncertainty costs: NLL and calibration of every method against what its training takes, clean and shifted."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from campaign.results.figures.context import Context
from campaign.results.figures.marks import marked
from campaign.results.figures.method_data import (
    POINT_KEYS,
    Method,
    clean,
    compared,
    hardest_shifts,
    label_points,
    limits,
    methods_of,
    point_title,
    require,
    warning_words,
)
from campaign.results.figures.select import Tables, data_words
from campaign.results.figures.style import INK, MUTED, RC, finish, new_figure

PANELS = {"nll": "NLL (nats per image)", "calibration_error": "expected calibration error"}
COST, TIME = "cost", "seconds_to_nll"
SHAPES = ("s", "^", "D", "v", "P", "X")  # of shifts, one for each kind; images as they are: circles


def uncertainty_figure(tables: Tables, context: Context) -> Figure:
    """Two panels per point (network, data, nodes, batch): NLL and calibration error, against relative cost.

    And two more against the training time to an NLL, where two methods have one. Raises NothingToDrawError where no
    point has two methods with a cost and values.
    """
    rows = compared(require(tables["methods"], [*PANELS, "cost"], "methods"))
    shifts = hardest_shifts(rows)
    pairs = [(mine, x) for _, mine in rows.groupby(POINT_KEYS, sort=True) for x in (COST, *_timed(mine))]
    figure, axes = new_figure(columns=len(PANELS), rows=len(pairs), height=3.6)
    methods = methods_of(rows)
    with mpl.rc_context(RC):
        for index, (mine, x) in enumerate(pairs):
            pair = axes[len(PANELS) * index : len(PANELS) * (index + 1)]
            for ax, column in zip(pair, PANELS, strict=True):
                _panel(ax, mine, x, column, methods, shifts)
                ax.set_ylabel(PANELS[column])
                ax.set_xlabel(_x_words(mine, x))
            pair[0].set_title(point_title(mine.iloc[0]), loc="left")
        for index, (mine, x) in enumerate(pairs):  # once all else has its place
            for ax, column in zip(axes[len(PANELS) * index :], PANELS, strict=False):
                names = clean(mine).dropna(subset=[column, x])
                at = zip(names[x], names[column], names["series"], strict=True)
                label_points(ax, [(x, y, methods[name]) for x, y, name in at])
    handles = [_handle("o", "images as they are", filled=True)]
    handles += [_handle(SHAPES[index], shift) for index, shift in enumerate(shifts)]
    notes = [
        "Bars: 95% interval over repeats, both ways; none of a single repeat. Bars that leave a panel go on. "
        "Dashed: the methods that no other beats in both, images as they are.",
        f"Cost 1: {'; '.join(sorted(set(rows['baseline'])))}; paired by repeat.",
        *(_without_time(mine) for mine, x in pairs if x != COST),
        _left_out(rows, shifts),
        data_words(rows),
        warning_words(rows),
    ]
    return finish(figure, f"What uncertainty costs in training on {context.site}", handles, notes)


def _timed(rows: pd.DataFrame) -> list[str]:
    """The time to an NLL, where two series or more of a point have one."""
    return [TIME] if clean(rows).dropna(subset=[TIME])["series"].nunique() > 1 else []


def _x_words(rows: pd.DataFrame, x: str) -> str:
    if x == COST:
        return "relative cost of a training step"
    return f"training time to NLL {rows['nll_target'].iloc[0]:g} (s)"


def _without_time(rows: pd.DataFrame) -> str:
    """Which methods are not among those with a time to the NLL."""
    all_of_them = clean(rows)
    late = sorted(set(all_of_them.loc[all_of_them[TIME].isna(), "series"]))
    return (
        f"Without a time to NLL {rows['nll_target'].iloc[0]:g} (table methods says why): {'; '.join(late)}."
        if late
        else ""
    )


def _panel(ax: Axes, rows: pd.DataFrame, x: str, column: str, methods: dict[str, Method], shifts: list[str]) -> None:
    found = rows.dropna(subset=[column, x])
    drawn = found[found["shift"].isin(["", *shifts])]
    for name, mine in drawn.groupby("series", sort=False):
        with marked(ax, name, mine, "methods"):
            _method(ax, mine, x, column, methods[name].colour, shifts)
    _front(ax, clean(drawn), x, column)
    limits(ax, drawn, x, column, right=0.3)


def _method(ax: Axes, rows: pd.DataFrame, across: str, column: str, colour: object, shifts: list[str]) -> None:
    """One method's points, images as they are and shifted, on a line, with their intervals."""
    ax.plot([rows[across].iloc[0]] * 2, [rows[column].min(), rows[column].max()], color=colour, lw=0.6, alpha=0.5)
    for row in rows.itertuples():
        x, y = getattr(row, across), getattr(row, column)
        x_ends = (getattr(row, f"{across}_low"), getattr(row, f"{across}_high"))
        ends = (getattr(row, f"{column}_low"), getattr(row, f"{column}_high"))
        bar = {"color": colour, "lw": 0.9, "alpha": 1.0 if not row.shift else 0.4, "zorder": 3}
        if ends[0] == ends[0]:  # NaN: no interval
            ax.plot([x] * 2, ends, **bar)
        if x_ends[0] == x_ends[0] and not row.shift:
            ax.plot(x_ends, [y] * 2, **bar)
        shape = SHAPES[shifts.index(row.shift)] if row.shift else "o"
        face = "white" if row.shift else colour
        size = 4.0 if row.shift else 6.0
        style = {"marker": shape, "markersize": size, "markerfacecolor": face, "markeredgecolor": colour}
        ax.plot([x], [y], linestyle="none", zorder=5, **style)


def _front(ax: Axes, rows: pd.DataFrame, x: str, column: str) -> None:
    """A line through the methods than which none is both cheaper and better, by their centres."""
    best, line = float("inf"), []
    for row in rows.sort_values([x, column]).itertuples():
        if getattr(row, column) < best:
            best = getattr(row, column)
            line.append((getattr(row, x), best))
    if len(line) > 1:
        ax.plot(*zip(*line, strict=True), color=MUTED, linestyle=(0, (4, 3)), linewidth=0.8, zorder=2, label="_front")


def _handle(marker: str, label: str, *, filled: bool = False) -> Line2D:
    face = INK if filled else "white"
    return Line2D([], [], linestyle="none", marker=marker, color=INK, markerfacecolor=face, markersize=5, label=label)


def _left_out(rows: pd.DataFrame, shifts: list[str]) -> str:
    others = sorted(set(rows["shift"]) - {"", *shifts})
    return f"Of each kind of shift the hardest is drawn; the table has {', '.join(others)}, too." if others else ""
