"""Where the time goes: the standard efficiencies of every curve over nodes, as a table with coloured cells."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.marks import mark_points
from campaign.results.figures.select import Series, Tables
from campaign.results.figures.style import INK, RC, WIDTH, finish, new_figure
from campaign.results.tables.efficiency_schemas import EFFICIENCIES

Panel = tuple[str, int, Series, pd.DataFrame]  # model, batch size, series, and its rows

# From what is lost to what is not: light where nothing is to be seen.
COLOURS = LinearSegmentedColormap.from_list("efficiency", ["#7A1C4B", "#D978A8", "#F6E3ED", "#FFFFFF"])
DARK = 0.35  # below this value a cell is so dark that its text is white
MOST = 40  # panels: a reader looks at no more, and each takes a tenth of a second
FEW = 4  # up to as many numbers of nodes two panels stand side by side


def efficiency_map(tables: Tables, context: Context, *, role: str) -> Figure:
    """A panel per model, batch size and series: a row per efficiency, a column per number of nodes.

    Raises NothingToDrawError without any value.
    """
    points = select.rows_of(tables["efficiencies"], role)
    cells = select.rows_of(tables["cells"], role)
    select.require_counted(points, "parallel", f"efficiencies ({role})")
    panels = [
        (model, size, one, rows)
        for model in sorted(points["model"].unique(), reverse=True)
        for size in select.batches(points[points["model"] == model])
        for one in select.series_of(points)
        if len(rows := _rows(points, model, size, one))
    ]
    panels, left_out = at_most(MOST, panels)
    columns = min(len(panels), 2 if len(select.nodes_of(points)) <= FEW else 1)
    figure, axes = new_figure(columns, -(-len(panels) // columns), height=1.75, width=WIDTH)
    for spare in axes[len(panels) :]:
        spare.remove()
    for index, (ax, (model, size, one, rows)) in enumerate(zip(axes, panels, strict=False)):
        with mpl.rc_context(RC):
            draw_map(ax, rows, context.node_label)
            title = f"{select.model_name(model)}, batch {size}, {one.label}"
            ax.set_title(title, loc="left", fontsize=7.5)
            mark_points(ax, title, "efficiencies", "", rows)  # the panel as a whole
            if index % columns:
                ax.set_yticklabels([])
    notes = [
        select.data_note(cells),
        "Small: 95% interval over repeats. White is 1 or more. Load balance x communication efficiency = parallel "
        "efficiency; x computation scaling against the same cell on one node = global efficiency. An exchange that the "
        "backward pass hides is not lost.",
        f"{left_out:,} more curves, of other variants, are in table efficiencies." if left_out else "",
    ]
    return finish(figure, f"Where the time goes: efficiencies on {context.site}", [], notes)


def at_most(count: int, panels: list[Panel]) -> tuple[list[Panel], int]:
    """The first panels, those of main variants before others', in their own order; and how many are left out."""
    ranked = sorted(range(len(panels)), key=lambda index: (panels[index][2].rank, index))
    kept = sorted(ranked[:count])
    return [panels[index] for index in kept], len(panels) - len(kept)


def _rows(points: pd.DataFrame, model: str, size: int, one: Series) -> pd.DataFrame:
    chosen = points[(points["model"] == model) & (points["batch_size"] == size)]
    rows = select.of_series(chosen, one)
    return rows[rows["parallel"].notna()].drop_duplicates("nodes")


def draw_map(ax: Axes, rows: pd.DataFrame, node_label: str) -> None:
    """The cells of one curve; what has no value is hatched."""
    values = np.array([rows[name].to_numpy(dtype=float) for name in EFFICIENCIES])
    ax.imshow(np.ma.masked_invalid(values), cmap=COLOURS, vmin=0, vmax=1, aspect="auto")
    ax.patch.set(hatch="////", edgecolor="#CCCCCC")
    for row, name in enumerate(EFFICIENCIES):
        for column, (_, point) in enumerate(rows.iterrows()):
            _write(ax, column, row, point[name], point[f"{name}_low"], point[f"{name}_high"])
    ax.set_xticks(range(len(rows)), [str(nodes) for nodes in rows["nodes"]])
    ax.set_yticks(range(len(EFFICIENCIES)), [words for words, _ in EFFICIENCIES.values()])
    ax.set_xlabel(node_label)
    ax.grid(visible=False)
    ax.tick_params(length=0)


def _write(ax: Axes, column: int, row: int, value: float, low: float, high: float) -> None:
    if np.isnan(value):
        return
    colour = "white" if value < DARK else INK
    known = not np.isnan(low)
    style = {"ha": "center", "va": "center", "color": colour}
    ax.text(column, row - (0.16 if known else 0), f"{value:.2f}", fontsize=7.5, **style)
    if known:
        ax.text(column, row + 0.26, f"{low:.2f} to {high:.2f}", fontsize=5, **style)
