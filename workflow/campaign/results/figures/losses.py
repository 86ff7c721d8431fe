"""Where each second of a step goes: stacked seconds over nodes, BNN beside CNN."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bnn.records.parts import COMMUNICATION, COMPUTE, HIDDEN, PARTS, UNEXPLAINED
from campaign.results.figures import select
from campaign.results.figures.context import Context
from campaign.results.figures.marks import marked
from campaign.results.figures.select import Tables
from campaign.results.figures.style import INK, KIND_NAMES, MUTED, RC, WIDTH, finish, new_figure
from campaign.results.tables.loss_schemas import BAYESIAN, CONVENTIONAL, INFLATION, STEP, WORDS

# Computing is blue to purple, waiting red to yellow, the rest grey to green; from the bottom of a stack to its top.
COLOURS = {
    "forward": "#C6DBEF", "backward": "#6BAED6",
    CONVENTIONAL: "#3182BD", BAYESIAN: "#C44E8C", INFLATION: "#7A1C4B",
    "input": "#029E73", "optimizer": "#8C8C8C", "between": "#C7C7C7",
    "transfer": "#FDBE6F", "negotiation": "#F28E2B", "reduction": "#F28E2B", "late": "#D62728", "exchange": "#8C2D04",
    UNEXPLAINED: "white",
}  # fmt: skip
BAR = 0.36


def losses_figure(tables: Tables, context: Context, *, role: str) -> Figure:
    """A panel per model, batch size and variant. Raises NothingToDrawError without any value."""
    points = select.rows_of(tables["losses"], role)
    cells = select.rows_of(tables["cells"], role)
    select.require_counted(points[points["part"] == STEP], "seconds", f"losses ({role})")
    panels = list(points.groupby(["model", "batch_size", "variant"], sort=True))
    columns = min(len(panels), 2)
    figure, axes = new_figure(columns, -(-len(panels) // columns), height=2.6, width=WIDTH)
    for spare in axes[len(panels) :]:
        spare.remove()
    drawn: list[str] = []
    for index, (ax, ((model, size, variant), rows)) in enumerate(zip(axes, panels, strict=False)):
        with mpl.rc_context(RC):
            drawn += draw_stacks(ax, rows)
            ax.set_title(f"{select.model_name(model)}, batch {size}, {variant}", loc="left", fontsize=8.5)
            ax.set_xlabel(context.node_label)
            if index % columns == 0:
                ax.set_ylabel("seconds of a step (s)")
    notes = [
        select.data_note(cells),
        "Every part is measured by itself, none is what others leave. Bars: 95% interval of the step's wall time over "
        "repeats. Dashed: communication that the backward pass hides, which is not lost.",
        select.reasons_note(_lacking(points), "reason", "Not measured"),
    ]
    handles = [_handle(name) for name in COLOURS if name in drawn]
    if HIDDEN in drawn:
        handles.append(Patch(facecolor="none", edgecolor=MUTED, linestyle="--", label=WORDS[HIDDEN]))
    return finish(figure, f"Where each second of a step goes on {context.site}", handles, notes)


def _lacking(points: pd.DataFrame) -> pd.DataFrame:
    """Rows of values that were not measured, each with what it is in its reason."""
    rows = points[points["reason"].str.startswith("not measured") & ~points["part"].isin(["late", "reduction"])]
    said = [
        f"{WORDS[part]} ({reason.removeprefix('not measured: ')})"
        for part, reason in zip(rows["part"], rows["reason"], strict=True)
    ]
    return rows.assign(reason=said)


def draw_stacks(ax: Axes, points: pd.DataFrame) -> list[str]:
    """The stacks of one model, batch size and variant; returns what was drawn."""
    nodes = select.nodes_of(points)
    kinds = [kind for kind in ("bnn", "cnn") if (points["kind"] == kind).any()]
    drawn: list[str] = []
    places, names = [], []
    for (kind, count), rows in points.groupby(["kind", "nodes"], sort=True):
        parts = rows.set_index("part")
        step = parts.loc[STEP]
        x = nodes.index(count) + (kinds.index(kind) - (len(kinds) - 1) / 2) * (BAR + 0.06)
        places.append(x)
        names.append(f"{KIND_NAMES[kind]}")
        if pd.isna(step["seconds"]):
            continue
        with marked(ax, f"{KIND_NAMES[kind]}, N = {count}", rows.iloc[:1], "throughput"):
            drawn += _stack(ax, parts, str(kind), x)
    ax.set_xticks(range(len(nodes)), [f"\n{count}" for count in nodes])
    ax.set_xticks(places, names, minor=True, fontsize=6.5)
    ax.tick_params(which="both", length=0)
    ax.set_xlim(-0.6, len(nodes) - 0.4)
    ax.set_ylim(bottom=0)
    return drawn


def _stack(ax: Axes, parts: pd.DataFrame, kind: str, x: float) -> list[str]:
    """The stack of one point at x, from its rows by part; returns the parts that were drawn."""
    step, bottom = parts.loc[STEP], 0.0
    drawn = []
    for name, height in segments(parts, kind):
        hatch = "////" if name == UNEXPLAINED else None
        ax.bar(x, height, BAR, bottom, color=COLOURS[name], hatch=hatch, edgecolor=INK, linewidth=0.3)
        bottom += height
        drawn.append(name)
    if not pd.isna(step["low"]):
        error = [[step["seconds"] - step["low"]], [step["high"] - step["seconds"]]]
        ax.errorbar(x, step["seconds"], yerr=error, color=INK, capsize=2.5, elinewidth=0.9, fmt="none", zorder=4)
    hidden = parts.loc[HIDDEN, "seconds"]
    if hidden > 0:
        ax.bar(x, hidden, BAR + 0.05, color="none", edgecolor=MUTED, linestyle="--", linewidth=0.8, zorder=3)
        drawn.append(HIDDEN)
    return drawn


def segments(parts: pd.DataFrame, kind: str) -> list[tuple[str, float]]:
    """Parts of a stack with their seconds, from below; `parts` are the rows of a point by part.

    Computing is shown as what it is made of where that was measured, else as forward and backward pass. Where it takes
    less here than on one node, or a BNN's less than a CNN's, nothing stands for that: the whole is as high as measured.
    """
    adding = parts[parts["adds"].astype(bool)]["seconds"]
    found = _compute(parts, kind, adding)
    rest = [name for name in COLOURS if name in PARTS and PARTS[name].group not in (COMPUTE, COMMUNICATION)]
    waiting = [name for name in COLOURS if name in PARTS and PARTS[name].group == COMMUNICATION]
    found += [(name, float(adding[name])) for name in (*rest, *waiting) if name in adding.index]
    if UNEXPLAINED in adding.index and adding[UNEXPLAINED] > 0:
        found.append((UNEXPLAINED, float(adding[UNEXPLAINED])))
    return found


def _compute(parts: pd.DataFrame, kind: str, adding: pd.Series) -> list[tuple[str, float]]:
    whole = float(adding["forward"] + adding["backward"])
    conventional, bayesian, inflation = (parts.loc[name, "seconds"] for name in (CONVENTIONAL, BAYESIAN, INFLATION))
    more = 0.0 if pd.isna(inflation) else max(0.0, float(inflation))
    if pd.isna(conventional) or (kind == "bnn" and (pd.isna(bayesian) or bayesian < 0)):
        return [("forward", float(adding["forward"])), ("backward", float(adding["backward"]))]
    plain = whole - more if kind == "cnn" else min(float(conventional), whole - more)
    found = [(CONVENTIONAL, plain), (BAYESIAN, whole - more - plain), (INFLATION, more)]
    return [(name, height) for name, height in found if height > 0]


def _handle(name: str) -> Artist:
    words = "compute of the CNN" if name == CONVENTIONAL else WORDS[name]
    hatch = "////" if name == UNEXPLAINED else None
    return Patch(facecolor=COLOURS[name], edgecolor=INK, linewidth=0.3, hatch=hatch, label=words)
