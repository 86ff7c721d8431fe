"""Efficiency at numbers of nodes that were not run, as projected: nothing that is drawn here was measured."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.marks import entry, mark
from campaign.results.figures.select import NothingToDrawError, Series, Tables
from campaign.results.figures.style import KIND_NAMES, MUTED, RC, TINTS, WIDTH, finish, new_figure, node_axis

PROJECTED = (0, (4, 2))  # as no measured curve is drawn
LABELLED = 4  # every so many powers of two have a number
MOST = 20  # rows of panels
PANEL = ["dataset", "model", "batch_size", "variant"]


def projection_figure(tables: Tables, context: Context) -> Figure:
    """A row of panels per data set, model, batch size and width, a column per network.

    Raises NothingToDrawError where nothing could be projected.
    """
    rows = tables["efficiency_projection"]
    known = rows[rows["efficiency"].notna() & (rows["nodes"] > 1)]
    if known.empty:
        why = sorted(set(rows["verdict"])) or ["no cell serves a figure of scaling"]
        raise NothingToDrawError(f"no efficiency could be projected: {'; '.join(why)}")
    networks = list(dict.fromkeys(known["source"]))
    every = [key for key, _ in known.groupby(PANEL, sort=True)]
    main = select.main_variant(known)
    points = sorted(sorted(every, key=lambda key: key[-1] != main)[:MOST])
    figure, axes = new_figure(
        len(networks), len(points), height=1.9, width=WIDTH if len(networks) > 1 else 0.75 * WIDTH
    )
    series = [replace(one, label=KIND_NAMES[one.kind]) for one in select.series_of(known)]  # a panel names its variant
    for place, point in enumerate(points):
        for column, network in enumerate(networks):
            here = known[(known[PANEL] == list(point)).all(axis=1) & (known["source"] == network)]
            ax = axes[place * len(networks) + column]
            with mpl.rc_context(RC):
                draw_panel(ax, here, series)
                dataset, model, batch, variant = point
                ax.set_title(
                    f"{select.model_name(model)}, {dataset}, batch {batch}, {variant}\n{network_name(network)}",
                    loc="left", fontsize=7.5,
                )  # fmt: skip
            if not column:
                ax.set_ylabel("projected efficiency")
    notes = [
        "Nothing here was measured at these scales: steps of this site's cells, projected onto networks by their "
        "published constants (docs/projection.md).",
        "Light: the model at both ends of what is assumed, which is no interval. Dark: 95% prediction interval, where "
        "three measured scales or more on that network allow one.",
        f"{len(every) - len(points)} more points are in table efficiency_projection." if len(every) > MOST else "",
    ]
    return finish(figure, f"Projected efficiency, from cells of {context.site}", handles(known, series), notes)


def network_name(source: str) -> str:
    """`aries` of 'projected: fabric aries, assumed from published facts'."""
    return source.removeprefix("projected: fabric ").partition(",")[0]


def draw_panel(ax: Axes, rows: pd.DataFrame, series: list[Series]) -> None:
    """The curves of one point on one network."""
    for one in series:
        curve = select.of_series(rows, one)
        if curve.empty:
            continue
        x = curve["nodes"].to_numpy(dtype=float)
        # a step's best end is an efficiency's upper one
        base = (curve["efficiency"] * curve["step_seconds"]).to_numpy(dtype=float)
        worst, best = (base / curve[end].to_numpy(dtype=float) for end in ("range_high", "range_low"))
        mark(ax.fill_between(x, worst, best, color=TINTS[one.kind], alpha=0.45, linewidth=0), one.label)
        ends = (curve[f"efficiency_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
        mark(ax.fill_between(x, *ends, color=one.colour, alpha=0.25, linewidth=0), one.label)
        (line,) = ax.plot(x, curve["efficiency"], color=one.colour, linestyle=PROJECTED, linewidth=1.2, zorder=3)
        mark(line, one.label)
    ax.axhline(1.0, color=MUTED, linestyle=(0, (1, 2)), linewidth=0.8, zorder=1)
    ax.set_ylim(0, 1.08)
    nodes = select.nodes_of(rows)
    node_axis(ax, nodes[:: max(1, len(nodes) // LABELLED)], "nodes, projected")


def handles(rows: pd.DataFrame, series: list[Series]) -> list[Line2D | Patch]:
    """The legend: of each kind of network, and of what the shades are."""
    made: list[Line2D | Patch] = []
    for one in {one.kind: one for one in series}.values():
        made.append(Line2D([], [], color=one.colour, linestyle=PROJECTED, linewidth=1.2, label=one.label))
        entry(made[-1])
    made.append(Patch(color=MUTED, alpha=0.25, linewidth=0, label="range of what is assumed"))
    if rows["efficiency_low"].notna().any():
        made.append(Patch(color=MUTED, alpha=0.5, linewidth=0, label="95% prediction interval"))
    return made
