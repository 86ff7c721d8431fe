"""Scaling efficiency T1/(N TN) against nodes: the paper's Fig. 3(a, b) and Fig. 6(d)."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bnn.metrics import FEW_REPEATS, scaling_efficiency
from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.marks import mark, mark_points
from campaign.results.figures.select import Series, Tables
from campaign.results.figures.style import (
    INK,
    MARKERS,
    MUTED,
    RC,
    WIDTH,
    finish,
    mark_style,
    new_figure,
    node_axis,
    verdict_handles,
)


@dataclass(frozen=True)
class Definition:
    """One way to take T: its columns in table `scaling` and its seconds in table `cells`."""

    words: str
    value: str
    sigma: str
    reason: str
    seconds: str


STEADY = Definition("from steady throughput", "efficiency_steady", "steady_sigma", "reason_steady", "epoch_seconds")
TOTAL = Definition("from total time", "efficiency_total", "total_sigma", "reason_total", "seconds_total")


def efficiency_figure(
    tables: Tables, context: Context, *, role: str, model: str = "", one_panel: bool = False
) -> Figure:
    """A panel per batch size (or all in one) and definition that can be measured.

    Raises NothingToDrawError without any value.
    """
    points = select.rows_of(tables["scaling"], role, model)
    cells = select.rows_of(tables["cells"], role, model)
    select.require_counted(points, STEADY.value, f"scaling efficiency ({role}{' ' + model if model else ''})")
    groups = [select.batches(points)] if one_panel else [[size] for size in select.batches(points)]
    panels = [
        (definition, sizes)
        for definition in (STEADY, TOTAL)
        for sizes in groups
        if points.loc[points["batch_size"].isin(sizes), definition.value].notna().any()
    ]
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(columns, rows, width=WIDTH if columns > 1 else 0.75 * WIDTH)
    for spare in axes[len(panels) :]:
        spare.remove()
    series = select.series_of(points)
    for ax, (definition, sizes) in zip(axes, panels, strict=False):
        with mpl.rc_context(RC):
            efficiency_panel(ax, points, cells, series, definition, sizes, context)
            ax.set_title(f"batch {' and '.join(map(str, sizes))} per rank, {definition.words}", loc="left", fontsize=9)
    for ax in axes[: len(panels) : columns]:
        ax.set_ylabel("scaling efficiency T1 / (N·TN)")
    names = ", ".join(select.model_name(m) for m in sorted(points["model"].unique()))
    short = reasons(points, TOTAL, "Efficiency from total time")
    notes = [
        select.data_note(cells),
        "Bars: one standard deviation from the spread of steady steps"
        + (" (from total time: over repeats)." if any(d is TOTAL for d, _ in panels) else ".")
        + " Fixed batch per rank and fixed epochs: strong scaling in total work.",
        reasons(points, STEADY, "Without a value"),
        short,
    ]
    few = bool((points["pairs"] < FEW_REPEATS).any())
    verdicts = list(cells.loc[cells["counted"], "verdict"])
    handles = [*_handles(points, series, one_panel), *verdict_handles(verdicts, few)]
    return finish(figure, f"Scaling efficiency of {names} on {context.site}", handles, notes)


def reasons(points: pd.DataFrame, definition: Definition, what: str) -> str:
    return select.reasons_note(points, definition.reason, what)


def efficiency_panel(
    ax: Axes, points: pd.DataFrame, cells: pd.DataFrame, series: list[Series], definition: Definition, sizes: list[int],
    context: Context,
) -> None:  # fmt: skip
    here = points[points["batch_size"].isin(sizes)]
    nodes = select.nodes_of(here)
    ax.axhline(1.0, color=MUTED, linestyle=(0, (3, 2)), linewidth=1.0, zorder=1)
    curves = [(one, size) for one in series for size in sizes if len(_curve(here, one, size, definition))]
    for index, (one, size) in enumerate(curves):
        rows = _curve(here, one, size, definition)
        # side by side, so that bars of equal efficiency do not hide one another
        shift = 2 ** (0.11 * (index - (len(curves) - 1) / 2))
        x = rows["nodes"].to_numpy(dtype=float) * shift
        y = rows[definition.value].to_numpy(dtype=float)
        error = rows[definition.sigma].fillna(0).to_numpy(dtype=float)
        style = curve_style(one, sizes.index(size))
        label = curve_label(one, size, len(sizes))
        line, *bars = ax.errorbar(x, y, yerr=error, capsize=2.5, elinewidth=0.9, zorder=3, **style).get_children()
        mark_points(line, label, "scaling", definition.value, rows)
        for bar in bars:
            mark(bar, label)
        _repeats(ax, rows, select.of_series(cells[cells["batch_size"] == size], one), definition, shift, label)
    # a curve needs no zero; below a half everything is shown
    low, high = ax.get_ylim()
    ax.set_ylim(0 if low < 0.5 else 0.5, max(high, 1.1))
    node_axis(ax, nodes, context.node_label)


def _curve(points: pd.DataFrame, one: Series, size: int, definition: Definition) -> pd.DataFrame:
    rows = select.of_series(points[points["batch_size"] == size], one)
    return rows[rows[definition.value].notna()]


def _repeats(
    ax: Axes, rows: pd.DataFrame, cells: pd.DataFrame, definition: Definition, shift: float, series: str
) -> None:
    """Every pair of repeats, while there are few; a warning on either side marks the pair."""
    few = rows[(rows["pairs"] < FEW_REPEATS) & (rows["nodes"] != rows["baseline_nodes"])]
    counted = cells[cells["counted"]].dropna(subset=[definition.seconds])
    for _, point in few.iterrows():
        one = counted[counted["nodes"] == point["baseline_nodes"]].set_index("repeat")
        many = counted[counted["nodes"] == point["nodes"]].set_index("repeat")
        for repeat in sorted(set(one.index) & set(many.index)):
            a, b = one.loc[repeat], many.loc[repeat]
            value = scaling_efficiency(a[definition.seconds], b[definition.seconds], b["ranks"] / a["ranks"])
            verdict = "WARN" if "WARN" in (a["verdict"], b["verdict"]) else "OK"
            mark(ax.plot(point["nodes"] * shift * 2**0.04, value, zorder=4, **mark_style(verdict))[0], series)


def curve_style(one: Series, batch: int) -> dict[str, object]:
    face = one.colour if one.kind == "bnn" else "white"
    line = one.line if batch == 0 else (0, (4, 2))
    marker = MARKERS[min(one.rank * 2 + batch, len(MARKERS) - 1)]
    return {
        "color": one.colour, "ecolor": INK, "marker": marker, "linestyle": line, "markerfacecolor": face,
        "markeredgewidth": 1.2,
    }  # fmt: skip


def curve_label(one: Series, batch: int, batches: int) -> str:
    """How the legend calls a curve of a panel with so many batch sizes."""
    return f"{one.label}, batch {batch}" if batches > 1 else one.label


def _handles(points: pd.DataFrame, series: list[Series], one_panel: bool) -> list[Line2D]:
    made = []
    sizes = select.batches(points) if one_panel else [0]
    for one in series:
        for index, size in enumerate(sizes):
            style = curve_style(one, index)
            style.pop("ecolor")
            label = curve_label(one, size, len(sizes))
            made.append(Line2D([], [], label=label, **style))
            mark(made[-1], label)
    made.append(Line2D([], [], color=MUTED, linestyle=(0, (3, 2)), linewidth=1, label="ideal"))
    return made
