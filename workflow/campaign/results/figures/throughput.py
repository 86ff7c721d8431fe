"""Samples per second against nodes: the paper's Fig. 2(a, b) and Fig. 6(a, b)."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bnn.metrics import FEW_REPEATS
from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.marks import mark, mark_bars, mark_points
from campaign.results.figures.select import Series, Tables
from campaign.results.figures.style import (
    INK,
    MUTED,
    RC,
    WIDTH,
    finish,
    log_axis,
    mark_style,
    new_figure,
    verdict_handles,
)
from campaign.results.tables.schemas import THROUGHPUT

MOST_NUMBERS = 8  # bars of a panel that still have room for their value
MOST_BARS = 16  # bars of a panel that still stand well beside another panel
MOST_LINEAR = 4  # node counts on a linear axis


def throughput_figure(
    tables: Tables, context: Context, *, role: str, model: str = "", batch_index: int | None = None
) -> Figure:
    """Grouped bars, a panel per batch size (or only the `batch_index`-th).

    Raises NothingToDrawError where there is no value.
    """
    points = select.rows_of(tables["throughput"], role, model)
    cells = select.rows_of(tables["cells"], role, model)
    sizes = select.batches(points)
    if batch_index is not None:
        sizes = sizes[batch_index : batch_index + 1]
        points, cells = points[points["batch_size"].isin(sizes)], cells[cells["batch_size"].isin(sizes)]
    select.require_counted(points, "throughput_steady", f"throughput ({role}{' ' + model if model else ''})")
    series = select.series_of(points)
    crowded = len(select.nodes_of(points)) * len(series) > MOST_BARS
    columns = 1 if crowded else len(sizes)
    wide = crowded or len(sizes) > 1
    rows = len(sizes) if crowded else 1
    figure, axes = new_figure(columns, rows, height=2.3 if rows > 1 else 2.9, width=WIDTH if wide else 0.75 * WIDTH)
    for ax, batch in zip(axes, sizes, strict=True):
        with mpl.rc_context(RC):
            here = points[points["batch_size"] == batch]
            rate_panel(ax, here, cells[cells["batch_size"] == batch], series)
            ax.set_title(f"batch {batch} per rank", loc="left")
            ax.set_xlabel(context.node_label)
    for ax in axes[::columns]:
        ax.set_ylabel(f"steady throughput ({THROUGHPUT.unit('throughput_steady')})")
    shown = [s for s in series if len(select.of_series(points, s))]
    handles = [
        Patch(facecolor=s.face, edgecolor=s.colour, linewidth=1.3, linestyle=s.line, label=s.label) for s in shown
    ]
    for handle in handles:
        mark(handle, str(handle.get_label()))
    handles.append(Line2D([], [], color=MUTED, linestyle=(0, (3, 2)), linewidth=1, label="ideal"))
    few = bool((points["repeats"] < FEW_REPEATS).any())
    names = ", ".join(select.model_name(m) for m in sorted(points["model"].unique()))
    notes = [
        select.data_note(cells),
        "Bars: centre of the repeats. Error bars: standard deviation over steady steps"
        + ("." if few else "; thick line: 95% interval over repeats.")
        + " Ideal: throughput on the fewest nodes times N."
        + (" Logarithmic axis." if axes[0].get_yscale() == "log" else ""),
    ]
    title = f"Throughput of {names} on {context.site}"
    return finish(figure, title, [*handles, *verdict_handles(_verdicts(cells), few)], notes)


def rate_panel(ax: Axes, points: pd.DataFrame, cells: pd.DataFrame, series: list[Series]) -> None:
    nodes = select.nodes_of(points)
    place = {n: float(index) for index, n in enumerate(nodes)}
    here = [s for s in series if len(select.of_series(points, s))]
    width = 0.8 / len(here)
    for index, one in enumerate(here):
        shift = (index - (len(here) - 1) / 2) * width
        rows = select.of_series(points, one)
        drawn = rows[rows["throughput_steady"].notna()]
        x = drawn["nodes"].map(place).to_numpy(dtype=float) + shift
        y = drawn["throughput_steady"].to_numpy(dtype=float)
        bars = ax.bar(
            x, y, width * 0.86, facecolor=one.face, edgecolor=one.colour, linewidth=1.2, linestyle=one.line, zorder=2
        )
        mark_bars(bars, one.label, "throughput", "throughput_steady", drawn)
        error = drawn["throughput_std"].to_numpy(dtype=float)
        style = {"fmt": "none", "ecolor": INK, "elinewidth": 0.9, "capsize": 2.5, "zorder": 4}
        for row, bar in enumerate(zip(x, y, np.nan_to_num(error), strict=True)):
            for artist in ax.errorbar(bar[0], bar[1], yerr=bar[2], **style).get_children():
                mark_points(artist, one.label, "throughput", "", drawn.iloc[row : row + 1])
        if len(nodes) * len(here) <= MOST_NUMBERS:
            _numbers(ax, x, y, one, drawn)
        _ideal(ax, rows, place, shift, width, one)
        _repeats(ax, drawn, select.of_series(cells, one), one, place, shift, width)
    ax.set_xticks(list(place.values()), [str(n) for n in nodes])
    ax.set_xlim(-0.6, len(nodes) - 0.4)
    if len(nodes) > MOST_LINEAR:  # throughput spans decades: the fewest nodes would vanish on a linear axis
        log_axis(ax)
        ax.set_ylim(bottom=0.5 * float(points["throughput_steady"].min()))
    else:
        ax.set_ylim(bottom=0)
    ax.tick_params(axis="x", length=0)


def _numbers(ax: Axes, x: np.ndarray, y: np.ndarray, one: Series, rows: pd.DataFrame) -> None:
    """The value at the foot of each bar."""
    dark = one.kind == "bnn" and one.rank == 0
    for index, (place, value) in enumerate(zip(x, y, strict=True)):
        text = f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
        style = {"ha": "center", "va": "bottom", "fontsize": 7, "color": "white" if dark else INK}
        written = ax.annotate(text, (place, 0), xytext=(0, 3), textcoords="offset points", zorder=6, **style)
        mark_points(written, one.label, "throughput", "", rows.iloc[index : index + 1])


def _ideal(ax: Axes, rows: pd.DataFrame, place: dict[int, float], shift: float, width: float, one: Series) -> None:
    """The line through (throughput on the fewest nodes) x N, bar by bar."""
    known = rows[rows["throughput_steady"].notna()]
    if known.empty:
        return
    first = known.iloc[0]
    per_rank = first["throughput_steady"] / first["ranks"]
    x = rows["nodes"].map(place).to_numpy(dtype=float) + shift
    y = per_rank * rows["ranks"].to_numpy(dtype=float)
    style = {"color": one.colour, "linestyle": (0, (3, 2)), "zorder": 3}
    (line,) = ax.plot(x, y, linewidth=0.9, alpha=0.75, **style)
    for artist in (line, ax.hlines(y, x - width * 0.43, x + width * 0.43, linewidth=1.1, **style)):
        mark(artist, one.label)


def _repeats(
    ax: Axes,
    points: pd.DataFrame,
    cells: pd.DataFrame,
    one: Series,
    place: dict[int, float],
    shift: float,
    width: float,
) -> None:
    """Every repeat while there are few, else their interval; an invalid repeat is drawn in any case."""
    few = set(points.loc[points["repeats"] < FEW_REPEATS, "nodes"])
    measured = cells[cells["throughput_steady"].notna() & (cells["verdict"] != "MISSING")]
    for n, rows in measured.groupby("nodes"):
        shown = rows if n in few else rows[rows["verdict"] == "INVALID"]
        spread = np.linspace(-0.24, 0.24, len(shown)) * width if len(shown) > 1 else [0.0] * len(shown)
        for index, offset in enumerate(spread):
            row = shown.iloc[index : index + 1]
            style = mark_style(row["verdict"].iloc[0])
            (dot,) = ax.plot(place[n] + shift + offset, row["throughput_steady"], zorder=5, **style)
            mark_points(dot, one.label, "cells", "throughput_steady", row)
    many = points[points["repeats"] >= FEW_REPEATS]
    x = many["nodes"].map(place).to_numpy(dtype=float) + shift
    lines = ax.vlines(x, many["throughput_low"], many["throughput_high"], color=INK, linewidth=3, alpha=0.55, zorder=5)
    mark(lines, one.label)


def _verdicts(cells: pd.DataFrame) -> list[str]:
    return list(cells.loc[cells["throughput_steady"].notna(), "verdict"])
