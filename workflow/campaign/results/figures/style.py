"""One look for all figures: colours, markers, sizes, and how a figure is written."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, ScalarFormatter

from campaign.results.figures.marks import number_marks

# The id by which the SVG of a notice tells that nothing was drawn.
NOT_DRAWN = "not-drawn"

# Apart for every common colour blindness and in grey; a BNN is always the first, a CNN always the second.
COLOURS = {"bnn": "#C44E8C", "cnn": "#1F5A94"}
TINTS = {"bnn": "#EBC3D9", "cnn": "#C3D5E8"}
INK, MUTED = "#222222", "#666666"
WARN, INVALID = "#B8860B", "#C00000"
KIND_NAMES = {"bnn": "BNN", "cnn": "CNN"}
MODEL_NAMES = {"vgg16": "VGG-16", "resnet18": "ResNet-18", "conv": "Conv", "fc": "FC"}
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
WIDTH = 7.2  # inches: the width of a report's column

RC = {
    # fallbacks are all narrower than DejaVu, so that text stays within its place where that is not installed
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.5,
    "hatch.linewidth": 0.6,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "bnn-at-scale",
    "text.parse_math": False,  # names come from campaign files: a dollar sign is a dollar sign
}


def new_figure(
    columns: int = 1, rows: int = 1, height: float = 2.9, width: float = WIDTH, ratios: tuple[float, ...] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure in the house style and its axes, row by row; `ratios` are the rows' heights relative to one another."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(width, height * rows))
        axes = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios)
    return figure, list(axes.flat)


def lay_out(figure: Figure) -> None:
    """Give the axes their places. The figure keeps no layout engine: with one it is drawn once more for each file."""
    if figure.axes:
        ConstrainedLayoutEngine().execute(figure)


def finish(figure: Figure, title: str, handles: Iterable[Artist], notes: Iterable[str]) -> Figure:
    """Lay out the axes; title above; legend, then footnotes below, outside of all axes."""
    with mpl.rc_context(RC):
        words = textwrap.fill(title, int(figure.get_figwidth() * 12))
        figure.suptitle(words, fontsize=10.5, fontweight="bold", x=0.01, ha="left")
        lay_out(figure)
        bottom = _legend(figure, list(handles))
        characters = int(figure.get_figwidth() * 17.5)
        lines = [line for note in notes if note for line in textwrap.wrap(note, characters)]
        style = {"fontsize": 7.5, "color": MUTED, "va": "top", "ha": "left", "linespacing": 1.35}
        figure.text(0.01, bottom, "\n".join(lines), **style)
    return figure


def notice(title: str, reason: str) -> Figure:
    """In place of a figure whose cells have no value: a title and the reason in words, without axes."""
    figure = Figure(figsize=(WIDTH, 0.3))
    figure.patch.set_gid(NOT_DRAWN)
    return finish(figure, title, [], [f"Not drawn: {reason}."])


def _legend(figure: Figure, handles: list[Artist]) -> float:
    """The legend below all axes, with as many columns as fit; returns the free height below it, in figure units."""
    if not handles:
        return -0.01
    for columns in (4, 3, 2, 1):
        place = {"loc": "upper left", "bbox_to_anchor": (0.0, 0.0), "ncols": columns}
        legend = figure.legend(handles=handles, columnspacing=1.5, handlelength=2.2, **place)
        box = legend.get_window_extent().transformed(figure.transFigure.inverted())
        if box.width <= 1.0:
            break
        legend.remove()
    for handle, drawn, text in zip(handles, legend.legend_handles, legend.get_texts(), strict=True):
        for artist in (drawn, text):  # an entry is of its series, as the page switches it on and off by either
            if artist is not None and handle.get_gid():
                artist.set_gid(handle.get_gid())
    return float(box.y0) - 0.01


def save(figure: Figure, svg: Path, png: Path) -> None:
    """Write both formats, each whole or not at all; the same figure gives the same bytes."""
    number_marks(figure)
    with mpl.rc_context(RC):
        # what bbox_inches="tight" does, but once for both, and without the drawing before it
        whole = figure.get_tightbbox().padded(0.08)
        for path, kind in ((svg, "svg"), (png, "png")):
            buffer = io.BytesIO()
            # no date, creator or version, so that unchanged data leaves the file unchanged
            metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
            figure.savefig(buffer, format=kind, metadata=metadata, bbox_inches=whole)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            aside.write_bytes(buffer.getvalue())
            os.replace(aside, path)


def node_axis(ax: Axes, nodes: Iterable[int], label: str) -> None:
    """A logarithmic axis of node counts with exactly these ticks."""
    ticks = sorted({int(n) for n in nodes})
    ax.set_xscale("log", base=2)
    ax.set_xlim(ticks[0] / 1.35, ticks[-1] * 1.35)
    ax.xaxis.set_major_locator(FixedLocator([float(n) for n in ticks]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set_xlabel(label)


def log_axis(ax: Axes) -> None:
    """A logarithmic y axis labelled in plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def verdict_handles(verdicts: Iterable[str], repeats_drawn: bool = True) -> list[Line2D]:
    """Legend entries for the repeats' marks that occur."""
    found = set(verdicts)
    entries = []
    if repeats_drawn and "OK" in found:
        entries.append(mark("OK", "one repeat"))
    if "WARN" in found:
        entries.append(mark("WARN", "repeat with a warning"))
    if "INVALID" in found:
        entries.append(mark("INVALID", "invalid repeat, not counted"))
    return entries


def mark(verdict: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=label, **mark_style(verdict))


def mark_style(verdict: str) -> dict[str, object]:
    """How a repeat of this verdict is marked."""
    return {
        "OK": {"marker": "o", "markersize": 3.4, "color": INK, "markerfacecolor": "white", "markeredgewidth": 0.8},
        "WARN": {"marker": "^", "markersize": 4.4, "color": WARN, "markerfacecolor": "#FFD966", "markeredgewidth": 0.8},
        "INVALID": {"marker": "x", "markersize": 5.5, "color": INVALID, "markeredgewidth": 1.4},
    }[verdict]
