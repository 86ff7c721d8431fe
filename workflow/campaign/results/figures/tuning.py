"""Settings that were tried: throughput of every combination against the stated one, as a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.marks import mark_points
from campaign.results.figures.select import NothingToDrawError, Tables
from campaign.results.figures.style import INK, RC, WIDTH, finish, new_figure
from campaign.results.tables.tuning_schemas import ALIKE, BEST, MOST

# Slower than the stated choice, as it, faster.
COLOURS = LinearSegmentedColormap.from_list("gain", ["#C4622D", "#FBEFE8", "#FFFFFF", "#E8F1FB", "#2D6DC4"])
NARROWEST = 0.02  # the colours reach at least so far from 1
GROUP = ["study", "dataset", "model", "kind", "nodes", "batch_size"]


def tuning_figure(tables: Tables, context: Context) -> Figure:
    """A panel per study, network, kind and nodes, and per value of a third setting: the gain of each combination.

    Raises NothingToDrawError where nothing was measured.
    """
    rows = tables["tuning"]
    rows = rows[rows["gain"].notna()]
    if rows.empty:
        raise NothingToDrawError("no combination of settings was measured yet (target tuning)")
    panels = [
        (title, part)
        for key, point in rows.groupby(GROUP, sort=True)
        for title, part in _parts("\n".join(_title(point.iloc[0], context.node_label)), point)
    ]
    columns = min(len(panels), 2)
    figure, axes = new_figure(columns, -(-len(panels) // columns), height=2.2, width=WIDTH)
    for spare in axes[len(panels) :]:
        spare.remove()
    far = max(NARROWEST, float(np.abs(rows["gain"] - 1).max()))
    for ax, (title, part) in zip(axes, panels, strict=False):
        with mpl.rc_context(RC):
            _draw(ax, part, TwoSlopeNorm(1, 1 - far, 1 + far))
            ax.set_title(title, loc="left", fontsize=7.5)
            mark_points(ax, title.replace("\n", ", "), "tuning", "gain", part)
    said = [
        f"{', '.join(_title(point.iloc[0], context.node_label))}: {sentence(point)}."
        for _, point in rows.groupby(GROUP)
    ]
    notes = [
        "Throughput over that of the stated choice (dashed), repeats as blocks; small: intervals that hold for all of "
        "a panel's study at once with 95% (Tukey's; noise of one spread). Framed: the best; dot: not told apart.",
        *said,
    ]
    return finish(figure, f"Settings tried on {context.site}", [], notes)


def _title(row: pd.Series, node_label: str) -> tuple[str, str]:
    """The network, and where it ran."""
    kind = "BNN" if row["kind"] == "bnn" else "CNN"
    network = f"{select.model_name(row['model'])}, {kind}, batch {row['batch_size']}"
    # (a label after its number would want a singular: "1 ranks")
    return f"{row['study']}: {network}", f"{node_label}: {row['nodes']}"


def _parts(title: str, point: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """A panel per value of the third setting, or one."""
    third = point["setting_3"].iloc[0]
    if not third:
        return [(title, point)]
    return [
        (f"{title}, {third} {value}", part)
        for value in _listed(point["value_3"])
        for part in (point[point["value_3"] == value],)
    ]


def _draw(ax: Axes, rows: pd.DataFrame, norm: TwoSlopeNorm) -> None:
    down, across = _listed(rows["value_1"]), _listed(rows["value_2"])
    values = np.full((len(down), len(across)), math.nan)
    places = [(down.index(row["value_1"]), across.index(row["value_2"])) for _, row in rows.iterrows()]
    for place, gain in zip(places, rows["gain"], strict=True):
        values[place] = gain
    ax.imshow(np.ma.masked_invalid(values), cmap=COLOURS, norm=norm, aspect="auto")
    ax.patch.set(hatch="////", edgecolor="#CCCCCC")
    for (y, x), (_, row) in zip(places, rows.iterrows(), strict=True):
        _write(ax, x, y, row)
    ax.set_yticks(range(len(down)), down)
    ax.set_xticks(range(len(across)), across if across != [""] else [])
    ax.set_ylabel(rows["setting_1"].iloc[0])
    ax.set_xlabel(rows["setting_2"].iloc[0])
    ax.grid(visible=False)
    ax.tick_params(length=0)


def _write(ax: Axes, x: int, y: int, row: pd.Series) -> None:
    known = not math.isnan(row["gain_low"]) and row["variant"] != row["against"]
    style = {"ha": "center", "va": "center", "color": INK}
    ax.text(x, y - (0.16 if known else 0), f"{row['gain']:.3f}", fontsize=7.5, **style)
    if known:
        ax.text(x, y + 0.26, f"{row['gain_low']:.3f} to {row['gain_high']:.3f}", fontsize=5, **style)
    frame = {"fill": False, "edgecolor": INK}
    if row["standing"] == BEST:
        ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, linewidth=1.6, **frame))
    elif row["variant"] == row["against"]:
        ax.add_patch(Rectangle((x - 0.44, y - 0.44), 0.88, 0.88, linewidth=0.8, linestyle="--", **frame))
    if row["standing"] == ALIKE:
        ax.plot(x + 0.4, y - 0.38, marker="o", markersize=2.5, color=INK)


def _listed(values: pd.Series) -> list[str]:
    """Numbers by their size, anything else as the rows have it."""
    listed = list(dict.fromkeys(values))
    try:
        return sorted(listed, key=float)
    except ValueError:
        return listed


def sentence(rows: pd.DataFrame) -> str:
    """Of one point: the best combination, and whether it beats the stated one beyond noise. Empty of one alone."""
    found = rows[rows["standing"] == BEST]
    if found.empty:
        return ""
    best = found.iloc[0]
    against = rows[rows["variant"] == best["against"]]
    others = int((rows["standing"] == ALIKE).sum())
    alike = f"; {others} other{'s' if others > 1 else ''} cannot be told apart from it" if others else ""
    if best["variant"] == best["against"]:
        return f"best: {_values(best)}, the stated choice{alike}"
    stated = f"the stated choice ({_values(against.iloc[0])})" if len(against) else "the stated choice"
    if math.isnan(best["gain_low"]):
        return f"best: {_values(best)}; too few repeats to compare it with {stated}{alike}"
    gain = f"{best['gain']:.3f} [{best['gain_low']:.3f}, {best['gain_high']:.3f}] times the throughput of {stated}"
    beyond = "beyond noise" if best["gain_low"] > 1 else "which noise may be"
    return f"best: {_values(best)}, {gain}, {beyond}{alike}"


def _values(row: pd.Series) -> str:
    named: Sequence[tuple[str, str]] = [(row[f"setting_{i}"], row[f"value_{i}"]) for i in range(1, MOST + 1)]
    return ", ".join(f"{key} {value}" for key, value in named if key)
