"""Step time and memory of our implementations and of the peers, implementation by implementation."""

from __future__ import annotations

import textwrap

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from campaign.results.figures.context import Context
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.select import NothingToDrawError, Tables, model_name
from campaign.results.figures.style import COLOURS, INK, MUTED, RC, finish, new_figure

PEER = "#D08A1D"
SIDES = {
    "cnn": (COLOURS["cnn"], "s", "CNN"),
    "bnn": (COLOURS["bnn"], "o", "BNN, ours"),
    "peer": (PEER, "D", "BNN, peer"),
}
BAND = "#DDDDDD"
LINE, FRAME = 0.2, 0.75  # inches: an implementation's line; title and axis of a panel
BASE = "cnn"
POINT = ["model", "batch"]
RUN_COMMAND = "snakemake --profile PROFILE peer_comparison"


def peers_figure(tables: Tables, context: Context) -> Figure:
    """A row of two panels per model and batch size: seconds of a training step, and peak memory.

    Raises NothingToDrawError when nothing has been measured, with how to.
    """
    rows = tables["bench"]
    measured = rows[rows["step_seconds"].notna()]
    if measured.empty:
        raise NothingToDrawError(f"no benchmark has been measured as planned; {RUN_COMMAND} does")
    points = list(measured[POINT].drop_duplicates().itertuples(index=False, name=None))
    shown = [rows[(rows[POINT] == list(point)).all(axis=1)].reset_index(drop=True) for point in points]
    heights = [len(one) * LINE + FRAME for one in shown]
    figure, axes = new_figure(2, len(points), height=sum(heights) / len(points), ratios=tuple(heights))
    with mpl.rc_context(RC):
        for (model, batch), one, left, right in zip(points, shown, axes[::2], axes[1::2], strict=True):
            run = _run(tables, model, batch)
            _band(left, one, run)
            _panel(left, one, "step_seconds", 1.0, labels=True)
            _panel(right, one, "peak_memory_bytes", 2.0**20, labels=False)
            left.set_title(f"{model_name(model)}, batch {batch}, {run['threads']} threads", loc="left")
            left.set_xlabel("step time (s); label: step time / that of cnn")
            right.set_xlabel("peak memory (MiB)")
    title = f"Training steps of {', '.join(dict.fromkeys(model_name(model) for model, _ in points))} on {context.site}"
    return finish(figure, title, _handles(measured, tables["bench_runs"]), _notes(tables, rows))


def _run(tables: Tables, model: str, batch: int) -> pd.Series:
    runs = tables["bench_runs"]
    return runs[(runs["model"] == model) & (runs["batch"] == batch)].iloc[0]


def _panel(ax: Axes, rows: pd.DataFrame, column: str, scale: float, *, labels: bool) -> None:
    """A line per implementation, first above: a mark, its interval where there is one, and the ratio to cnn."""
    places = {name: len(rows) - 1 - index for index, name in enumerate(rows["implementation"])}
    for _, row in rows.iterrows():
        y = places[row["implementation"]]
        if pd.isna(row[column]):
            ax.annotate("not measured", (0, y), xytext=(4, 0), textcoords="offset points", **_text(MUTED))
            continue
        with marked(ax, SIDES[row["side"]][2]):
            _implementation(ax, row, column, scale, y, labels=labels)
    ax.set_yticks(list(places.values()), list(places) if labels else [""] * len(places))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ends = rows[f"{column}_high"].fillna(rows[column]) if labels else rows[column]
    ax.set_xlim(0, 1.3 * float(ends.max()) / scale)


def _implementation(ax: Axes, row: pd.Series, column: str, scale: float, y: float, *, labels: bool) -> None:
    colour, marker, _ = SIDES[row["side"]]
    x = row[column] / scale
    face = "white" if row["control"] else colour
    ax.hlines(y, 0, x, color=colour, linewidth=0.8, alpha=0.35, zorder=2)
    end = x
    if labels and not pd.isna(row[f"{column}_low"]):
        end = max(x, row[f"{column}_high"] / scale)
        ax.hlines(y, row[f"{column}_low"] / scale, end, color=INK, linewidth=1.1, zorder=4)
    ax.plot(x, y, marker=marker, color=colour, markerfacecolor=face, markersize=5, linestyle="none", zorder=3)
    words = _ratio(row) if labels else f"{x:,.0f}"
    ax.annotate(words, (end, y), xytext=(6, 0), textcoords="offset points", **_text(INK))


def _text(colour: str) -> dict[str, object]:
    return {"va": "center", "ha": "left", "fontsize": 7.5, "color": colour, "zorder": 6}


def _ratio(row: pd.Series) -> str:
    """The ratio to cnn; its own time where cnn was not measured."""
    if row["implementation"] == BASE or pd.isna(row["ratio_cnn"]):
        return f"{row['step_seconds']:.3g} s"
    return f"{row['ratio_cnn']:.2f}×"


def _band(ax: Axes, rows: pd.DataFrame, run: pd.Series) -> None:
    """The noise floor about cnn's step time: in it a difference from cnn says nothing."""
    base = rows.loc[rows["implementation"] == BASE, "step_seconds"]
    if base.empty or pd.isna(base.iloc[0]) or pd.isna(run["noise_floor"]):
        return
    ends = [base.iloc[0] * (1 + sign * run["noise_floor"]) for sign in (-1, 1)]
    ax.axvspan(*ends, color=BAND, alpha=0.7, linewidth=0, zorder=1, gid="noise-floor")


def _handles(rows: pd.DataFrame, runs: pd.DataFrame) -> list[Line2D | Patch]:
    found: list[Line2D | Patch] = [
        entry(Line2D([], [], linestyle="none", color=colour, marker=marker, label=label))
        for side, (colour, marker, label) in SIDES.items()
        if side in set(rows["side"])
    ]
    if rows["control"].any():
        style = {"linestyle": "none", "color": MUTED, "marker": "o", "markerfacecolor": "white"}
        found.append(Line2D([], [], label="the same once more", **style))
    if runs["noise_floor"].notna().any():
        found.append(Patch(facecolor=BAND, label="noise floor about cnn"))
    return found


def _notes(tables: Tables, rows: pd.DataFrame) -> list[str]:
    runs = tables["bench_runs"]
    done = runs[runs["state"] == "measured"]
    rounds = sorted({int(count) for count in done["rounds"].dropna()})
    notes = [
        f"Centres of {' or '.join(map(str, rounds))} interleaved rounds; lines: 95% intervals over rounds; ratios are "
        "taken within a round. Noise floor: the far end of the 95% interval of cnn measured once more / cnn. Full "
        "steps: forward, loss with KL, backward, optimizer.",
    ]
    absent = rows[rows["step_seconds"].isna()].drop_duplicates(["implementation", "state"])
    notes += [textwrap.shorten(f"{row['implementation']}: {row['state']}", 300) for _, row in absent.iterrows()]
    missing = runs[runs["state"] != "measured"]
    notes += [f"{row['model']}, batch {row['batch']}: {row['state']}." for _, row in missing.iterrows()]
    named = set(rows["side"])
    return notes if "peer" in named else [*notes, "No peer is part of this comparison."]
