"""Training time against nodes: the paper's Fig. 2(c) and Fig. 6(c)."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bnn.metrics import FEW_REPEATS
from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.marks import mark, mark_points
from campaign.results.figures.select import Tables
from campaign.results.figures.style import (
    COLOURS,
    KIND_NAMES,
    LINES,
    MARKERS,
    MUTED,
    RC,
    finish,
    log_axis,
    mark_style,
    new_figure,
    node_axis,
    verdict_handles,
)

# a curve: one kind of one model at one batch size
CURVE = ["model", "kind", "batch_size"]
# columns of cells, by those of the same meaning of points
OF_CELLS = {"epoch_seconds": "epoch_seconds", "total_seconds": "seconds_total"}


def runtime_figure(tables: Tables, context: Context, *, role: str, every_batch: bool) -> Figure:
    """Two panels that share no series: an epoch's time computed from steady throughput, and whole runs as measured.

    The main variant, at the largest batch size of all models or at every one. Raises NothingToDrawError where there is
    no value.
    """
    points = select.rows_of(tables["throughput"], role)
    points = points[points["variant"] == select.main_variant(points)]
    if not every_batch:
        points = points[points["batch_size"] == _largest_shared(points)]
    select.require_counted(points, "epoch_seconds", f"training time ({role})")
    cells = select.rows_of(tables["cells"], role)
    cells = cells[cells["variant"].isin(points["variant"]) & cells["batch_size"].isin(points["batch_size"])]
    figure, axes = new_figure(columns=2)
    with mpl.rc_context(RC):
        _curves(axes[0], points, cells, "epoch_seconds", context, of=points, ideal=True)
        sizes = sorted({int(size) for size in points["train_size"].dropna()})
        images = f"{sizes[0]:,} images" if len(sizes) == 1 else "the training set"
        axes[0].set_ylabel(f"{unit_of(points, 'epoch_seconds')[1]} per epoch\n({images})")
        axes[0].set_title("one epoch, from steady throughput", loc="left")
        whole, words = _whole_runs(points)
        _curves(axes[1], whole, cells, "total_seconds", context, of=points, ideal=False)
        axes[1].set_ylabel(f"{unit_of(whole, 'total_seconds')[1]} incl. start-up")
        axes[1].set_title(words, loc="left")
    batch = ", ".join(str(size) for size in select.batches(points))
    dataset = ", ".join(sorted(points["dataset"].unique()))
    title = f"Training time on {context.site}, {dataset}, batch {batch} per rank"
    few = bool((points["repeats"] < FEW_REPEATS).any())
    left_out = len(points[points["total_seconds"].notna()]) - len(whole)
    notes = [
        select.data_note(cells),
        "Curves: centre of the repeats (left), their mean (right)."
        + ("" if few else " Vertical bars: 95% interval over repeats (left)."),
        f"{left_out} points whose runs stop short of their epochs are left out on the right." if left_out else "",
    ]
    return finish(figure, title, [*_handles(points), *verdict_handles(cells["verdict"], few)], notes)


def _largest_shared(points: pd.DataFrame) -> int:
    """The largest batch size at which every model was run, or else the largest of all."""
    sizes = [set(rows["batch_size"]) for _, rows in points.groupby("model")]
    shared = set.intersection(*sizes)
    return int(max(shared or set.union(*sizes)))


def _whole_runs(points: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Runs that did all their epochs; where there are none, the runs as they stopped. And the words for it."""
    measured = points[points["total_seconds"].notna()]
    done = measured[measured["complete"]]
    if len(done):
        epochs = sorted({int(n) for n in done["epochs_asked"]})
        return done, f"measured: {', '.join(map(str, epochs))} epoch{'' if epochs == [1] else 's'}"
    steps = sorted({int(n) for n in measured["steps"]})
    count = str(steps[0]) if len(steps) == 1 else f"{steps[0]}-{steps[-1]}"
    return measured, f"measured: runs stopped after {count} steps"


def unit_of(points: pd.DataFrame, column: str) -> tuple[float, str]:
    """Seconds per unit and its name: minutes as the paper has them, seconds where minutes would be fractions."""
    return (60.0, "minutes") if points[column].max() >= 120 else (1.0, "seconds")


def _curves(
    ax: Axes,
    points: pd.DataFrame,
    cells: pd.DataFrame,
    column: str,
    context: Context,
    *,
    of: pd.DataFrame,
    ideal: bool,
) -> None:
    """A curve for each model, kind and batch size of `points`, called as among the points `of` the figure."""
    scale, _ = unit_of(points, column)
    nodes = select.nodes_of(points)
    for (model, kind, batch), rows in points.groupby(CURVE):
        style = _style(points, model, kind, batch)
        known = rows[rows[column].notna()].sort_values("nodes")
        x, y = known["nodes"].to_numpy(dtype=float), known[column].to_numpy(dtype=float) / scale
        label = curve_label(of, rows)
        mark_points(ax.plot(x, y, **style)[0], label, "throughput", column, known)
        of_curve = cells[(cells[CURVE] == [model, kind, batch]).all(axis=1)]
        mark_repeats(ax, of_curve, known, OF_CELLS[column], scale, label)
        if ideal and len(known):
            many = known[known["repeats"] >= FEW_REPEATS]
            ends = many[[f"{column}_low", f"{column}_high"]].to_numpy(dtype=float) / scale
            mark(ax.vlines(many["nodes"], ends[:, 0], ends[:, 1], color=style["color"], linewidth=1.0), label)
            first = known.iloc[0]
            n = np.array(nodes, dtype=float) / first["nodes"]
            faint = {"linewidth": 0.8, "linestyle": (0, (1, 1.5)), "alpha": 0.8, "zorder": 1}
            mark(ax.plot(nodes, y[0] / n, color=style["color"], **faint)[0], label)
    node_axis(ax, nodes, context.node_label)
    if len(nodes) > 3:
        log_axis(ax)
    else:
        ax.set_ylim(0, 1.05 * ax.get_ylim()[1])


def mark_repeats(ax: Axes, cells: pd.DataFrame, points: pd.DataFrame, seconds: str, scale: float, series: str) -> None:
    """Every repeat of a series by its column `seconds` while there are few; an invalid one in any case."""
    few = cells["nodes"].isin(points.loc[points["repeats"] < FEW_REPEATS, "nodes"]) & cells["counted"].astype(bool)
    shown = cells[cells[seconds].notna() & (few | (cells["verdict"] == "INVALID"))]
    for index in range(len(shown)):
        row = shown.iloc[index : index + 1]
        # beside the curve, so that it hides nothing
        style = mark_style(row["verdict"].iloc[0])
        (dot,) = ax.plot(row["nodes"] * 2**0.06, row[seconds] / scale, zorder=4, **style)
        mark_points(dot, series, "cells", seconds, row)


def _style(points: pd.DataFrame, model: str, kind: str, batch: int) -> dict[str, object]:
    """Colour by kind; marker and line by model, or by batch size where there is only one model."""
    models, sizes = sorted(points["model"].unique(), reverse=True), select.batches(points)
    index = models.index(model) * len(sizes) + sizes.index(int(batch))
    face = COLOURS[kind] if kind == "bnn" else "white"
    return {
        "color": COLOURS[kind], "marker": MARKERS[index % len(MARKERS)], "linestyle": LINES[index % len(LINES)],
        "markerfacecolor": face, "markeredgewidth": 1.2,
    }  # fmt: skip


def curve_label(points: pd.DataFrame, rows: pd.DataFrame) -> str:
    """How the legend calls a curve (its rows) among all points of the figure."""
    models, sizes = points["model"].nunique(), points["batch_size"].nunique()
    first = rows.iloc[0]
    label = f"{select.model_name(first['model'])} " if models > 1 or sizes == 1 else ""
    batch = f", batch {first['batch_size']}" if sizes > 1 else ""
    return f"{label}{KIND_NAMES[first['kind']]} ({first['implementation']}){batch}"


def _handles(points: pd.DataFrame) -> list[Line2D]:
    made = []
    # VGG before ResNet, as in the paper; a stable order of the rest
    points = points.sort_values(["model", "batch_size", "kind"], ascending=[False, True, True])
    for (model, kind, batch), rows in points.groupby(CURVE, sort=False):
        made.append(Line2D([], [], label=curve_label(points, rows), **_style(points, model, kind, batch)))
        mark(made[-1], curve_label(points, rows))
    made.append(Line2D([], [], color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)), label="ideal (left)"))
    return made
