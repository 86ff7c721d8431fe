"""Training time and scaling efficiency of GPUs and CPUs: the paper's Fig. 7(c, d)."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bnn.metrics import FEW_REPEATS
from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.efficiency import STEADY, TOTAL, curve_style, efficiency_panel, reasons
from campaign.results.figures.gpu_data import Compared, compared
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.runtime import OF_CELLS, mark_repeats, unit_of
from campaign.results.figures.select import Series, Tables
from campaign.results.figures.sites import CPU, GPU
from campaign.results.figures.style import (
    MUTED,
    RC,
    WIDTH,
    finish,
    log_axis,
    new_figure,
    node_axis,
    verdict_handles,
)

EPOCH, WHOLE = "epoch_seconds", "total_seconds"


def runtimes_figure(tables: Tables, context: Context) -> Figure:
    """Two panels that share no series: an epoch's time computed from steady throughput, and whole runs as measured.

    Raises NothingToDrawError where GPUs or CPUs have no value.
    """
    data = compared(tables, context, "throughput", EPOCH, {GPU, CPU})
    epochs, other_sets = _one_value(data.points, "train_size", context.name)
    whole, words, other_runs = _whole_runs(data.points, context.name)
    figure, axes = new_figure(columns=2)
    with mpl.rc_context(RC):
        _curves(axes[0], epochs, data, EPOCH, ideal=True)
        size = int(epochs["train_size"].dropna().iloc[0])
        axes[0].set_ylabel(f"{unit_of(epochs, EPOCH)[1]} per epoch\n({size:,} images)")
        axes[0].set_title("one epoch, from steady throughput", loc="left")
        _curves(axes[1], whole, data, WHOLE, ideal=False)
        axes[1].set_ylabel(f"{unit_of(whole, WHOLE)[1]} incl. start-up")
        axes[1].set_title(words, loc="left")
    few = data.points["repeats"] < FEW_REPEATS
    notes = [
        "Curves: centre of the repeats (left), their mean (right)."
        + ("" if few.all() else f" Vertical bars: 95% interval over repeats, from {FEW_REPEATS} on (left).")
        + " Dotted: ideal, from the fewest of each series.",
        f"Left out on the left: {other_sets}, with another number of training images." if other_sets else "",
        f"Left out on the right: {other_runs}, whose runs are of another length." if other_runs else "",
        *data.notes,
    ]
    title = f"Training time of {data.model} on GPUs and CPUs ({data.sites}), batch {data.batch} per rank"
    handles = [*_handles(data.series), Line2D([], [], label="ideal (left)", **IDEAL | {"color": MUTED})]
    return finish(figure, title, [*handles, *verdict_handles(data.cells["verdict"], bool(few.any()))], notes)


IDEAL = {"linewidth": 0.8, "linestyle": (0, (1, 1.5)), "alpha": 0.8, "zorder": 1}


def _one_value(points: pd.DataFrame, column: str, own: str) -> tuple[pd.DataFrame, str]:
    """Points of one training set, or of one length: this site's, or else most sites'. And the sites left out."""
    counts = points.groupby(column)["site"].agg(lambda sites: (own in set(sites), sites.nunique()))
    best = max(counts.index, key=lambda value: (*counts[value], -value))
    rest = points.loc[points[column].notna() & (points[column] != best), "site"]
    return points[points[column].isna() | (points[column] == best)], ", ".join(sorted(set(rest)))


def _whole_runs(points: pd.DataFrame, own: str) -> tuple[pd.DataFrame, str, str]:
    """Runs that did all their epochs, or where there are none, as they stopped; the words for it; sites left out."""
    measured = points[points["total_seconds"].notna()]
    done = measured[measured["complete"].astype(bool)]
    column = "epochs_asked" if len(done) else "steps"
    chosen, _ = _one_value(done if len(done) else measured, column, own)
    count = int(chosen[column].iloc[0])
    plural = "" if count == 1 else "s"
    words = f"measured: {count} epoch{plural}" if len(done) else f"measured: runs stopped after {count} step{plural}"
    names = set(zip(measured["site"], measured["variant"], strict=True))
    rest = sorted({site for site, _ in names - set(zip(chosen["site"], chosen["variant"], strict=True))})
    return chosen, words, ", ".join(rest)


def _curves(ax: Axes, points: pd.DataFrame, data: Compared, column: str, *, ideal: bool) -> None:
    scale, _ = unit_of(points, column)
    for one in data.series:
        rows = select.of_series(points, one)
        known = rows[rows[column].notna()]
        if known.empty:
            continue
        style = _curve_style(one)
        x, y = known["nodes"].to_numpy(dtype=float), known[column].to_numpy(dtype=float) / scale
        with marked(ax, one.label):
            ax.plot(x, y, **style)
        mark_repeats(ax, select.of_series(data.cells, one), known, OF_CELLS[column], scale, one.label)
        if ideal:
            many = known[known["repeats"] >= FEW_REPEATS]
            ends = many[[f"{column}_low", f"{column}_high"]].to_numpy(dtype=float) / scale
            # of ranks: on a CPU node there may be several, on the axis of GPUs each is one
            n = np.array(select.nodes_of(rows), dtype=float)
            with marked(ax, one.label):
                ax.vlines(many["nodes"], ends[:, 0], ends[:, 1], color=one.colour, linewidth=1.0)
                ax.plot(n, y[0] * x[0] / n, **IDEAL | {"color": one.colour})
    nodes = select.nodes_of(points)
    node_axis(ax, nodes, data.axis)
    log_axis(ax)  # GPUs and CPUs lie far apart


def efficiencies_figure(tables: Tables, context: Context) -> Figure:
    """A panel per definition that can be measured; every series relative to its own baseline.

    Raises NothingToDrawError where no run on GPUs has a value.
    """
    data = compared(tables, context, "scaling", STEADY.value, {GPU})
    points = _of_one_engine(data.points)
    panels = [definition for definition in (STEADY, TOTAL) if points[definition.value].notna().any()]
    figure, axes = new_figure(len(panels), width=WIDTH if len(panels) > 1 else 0.75 * WIDTH)
    with mpl.rc_context(RC):
        for ax, definition in zip(axes, panels, strict=True):
            named = replace(context, node_label=data.axis)
            efficiency_panel(ax, points, data.cells, data.series, definition, [data.batch], named)
            ax.set_title(definition.words, loc="left")
    axes[0].set_ylabel("scaling efficiency T1 / (N·TN)")
    notes = [
        "Bars: one standard deviation from the spread of steady steps"
        + (" (from total time: over repeats)." if TOTAL in panels else ".")
        + f" Baseline T1: {_baselines(points, data)}."
        + " Fixed batch per rank and fixed epochs: strong scaling in total work.",
        reasons(points, STEADY, "Without a value"),
        reasons(points, TOTAL, "Efficiency from total time"),
        *data.notes,
    ]
    few = bool((points["pairs"] < FEW_REPEATS).any())
    handles = [*_handles(data.series), Line2D([], [], color=MUTED, linestyle=(0, (3, 2)), linewidth=1, label="ideal")]
    handles += verdict_handles(list(data.cells.loc[data.cells["counted"].astype(bool), "verdict"]), few)
    title = f"Scaling efficiency of {data.model} on {data.sites}, batch {data.batch} per rank"
    return finish(figure, title, handles, notes)


def _of_one_engine(points: pd.DataFrame) -> pd.DataFrame:
    """No value where the baseline ran through another engine: it is of another series."""
    keys = ["variant", "kind"]
    baselines = points.loc[points["nodes"] == points["baseline_nodes"], keys].drop_duplicates()
    own = points[keys].merge(baselines.assign(own=True), on=keys, how="left")["own"].notna().to_numpy()
    foreign = ~own & points["baseline_nodes"].notna().to_numpy()
    changed = points.copy()
    for definition in (STEADY, TOTAL):
        changed.loc[foreign, definition.value] = np.nan
        changed.loc[foreign, definition.reason] = "its baseline ran through another engine"
    return changed


def _baselines(points: pd.DataFrame, data: Compared) -> str:
    """What stands for one: N of the baseline, by group where they differ."""
    known = points[points[STEADY.value].notna()]
    found = known.groupby("variant", sort=True)["baseline_nodes"].first().astype(int)
    if found.nunique() == 1:
        return f"N = {found.iloc[0]}"
    return ", ".join(f"{data.short(name)} N = {count}" for name, count in found.items())


def _handles(series: list[Series]) -> list[Line2D]:
    return [entry(Line2D([], [], label=one.label, **_curve_style(one))) for one in series]


def _curve_style(one: Series) -> dict[str, object]:
    """As the curves of scaling efficiency: colour by kind, marker and line by group."""
    return {key: value for key, value in curve_style(one, 0).items() if key != "ecolor"}
