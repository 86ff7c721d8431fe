"""Samples per second of GPUs, and of GPUs beside CPUs: the paper's Fig. 7(a, b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bnn.metrics import FEW_REPEATS
from campaign.results.figures.context import Context
from campaign.results.figures.gpu_data import Compared, compared
from campaign.results.figures.marks import entry
from campaign.results.figures.select import Series, Tables
from campaign.results.figures.sites import CPU, GPU
from campaign.results.figures.style import (
    INK,
    KIND_NAMES,
    MUTED,
    RC,
    TINTS,
    WIDTH,
    finish,
    log_axis,
    new_figure,
    verdict_handles,
)
from campaign.results.figures.throughput import MOST_BARS, rate_panel
from campaign.results.tables.schemas import THROUGHPUT

COLUMN = "throughput_steady"
MOST_LINEAR = 20.0  # highest over lowest bar that a linear axis still shows


@dataclass(frozen=True)
class DeviceSeries(Series):
    """A series of a panel in which bars differ by device instead of by kind: GPUs are filled, CPUs are not."""

    gpu: bool

    @property
    def face(self) -> str:
        return (self.colour if self.rank == 0 and self.kind == "bnn" else TINTS[self.kind]) if self.gpu else "white"


def gpu_throughput_figure(tables: Tables, context: Context) -> Figure:
    """Grouped bars of every site with GPUs. Raises NothingToDrawError where there is no value."""
    data = compared(tables, context, "throughput", COLUMN, {GPU}, (GPU,))
    crowded = data.bars > MOST_BARS // 2
    figure, axes = new_figure(width=WIDTH if crowded else 0.75 * WIDTH)
    with mpl.rc_context(RC):
        rate_panel(axes[0], data.points, data.cells, data.series)
        _lift(axes[0])
        axes[0].set_xlabel(data.axis)
        axes[0].set_ylabel(_unit())
    title = f"Throughput of {data.model} on GPUs ({data.sites}), batch {data.batch} per rank"
    return _finish(figure, title, data, data.series, axes)


def throughputs_figure(tables: Tables, context: Context) -> Figure:
    """A panel of bars per kind of network: GPUs beside as many CPU nodes. Raises NothingToDrawError likewise."""
    data = compared(tables, context, "throughput", COLUMN, {GPU, CPU})
    gpus = set(data.points.loc[data.points["device"] == GPU, "variant"])
    series = [DeviceSeries(s.kind, s.variant, s.label, s.rank, s.variant in gpus) for s in data.series]
    kinds = [kind for kind in KIND_NAMES if any(s.kind == kind for s in series)]
    crowded = data.bars > MOST_BARS
    columns = 1 if crowded else len(kinds)
    rows = len(kinds) if crowded else 1
    figure, axes = new_figure(columns, rows, height=2.3 if rows > 1 else 2.9)
    with mpl.rc_context(RC):
        for ax, kind in zip(axes, kinds, strict=True):
            points = data.points[data.points["kind"] == kind]
            rate_panel(ax, points, data.cells[data.cells["kind"] == kind], [s for s in series if s.kind == kind])
            for text in list(ax.texts):
                text.remove()  # half a figure has no room for the bars' values
            if ax.get_yscale() == "linear" and points[COLUMN].max() > MOST_LINEAR * points[COLUMN].min():
                log_axis(ax)
                ax.set_ylim(bottom=0.5 * points[COLUMN].min())
            ax.set_title(KIND_NAMES[kind], loc="left")
            ax.set_xlabel(data.axis)
        for ax in axes[::columns]:
            ax.set_ylabel(_unit())
        _alike(axes)
    title = f"Throughput of {data.model} on GPUs and CPUs ({data.sites}), batch {data.batch} per rank"
    return _finish(figure, title, data, series, axes, _ratios(data))


def _unit() -> str:
    return f"steady throughput ({THROUGHPUT.unit(COLUMN)})"


def _lift(ax: Axes) -> None:
    """The value of a bar that is too low for it goes above the bar."""
    for text in ax.texts:
        value = float(text.get_text().replace(",", ""))
        if value < 0.09 * ax.get_ylim()[1]:
            text.xy = (text.xy[0], value)
            text.set(position=(0, 5), color=INK)


def _alike(axes: list[Axes]) -> None:
    """One scale for all panels, where all are of one kind."""
    if len({ax.get_yscale() for ax in axes}) == 1:
        ends = [ax.get_ylim() for ax in axes]
        for ax in axes:
            ax.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))


def _ratios(data: Compared) -> str:
    """Throughput of GPUs over that of as many CPU nodes, at the largest number that both have."""
    known = data.points[data.points[COLUMN].notna()]
    parts = []
    for gpu, gpus in known[known["device"] == GPU].groupby("variant", sort=True):
        for cpu, cpus in known[known["device"] == CPU].groupby("variant", sort=True):
            both = gpus.merge(cpus, on=["kind", "nodes"], suffixes=("", "_cpu"))
            if len(both):
                most = both[both["nodes"] == both["nodes"].max()].sort_values("kind")
                ratios = [f"{KIND_NAMES[r['kind']]} {r[COLUMN] / r[f'{COLUMN}_cpu']:.3g}" for _, r in most.iterrows()]
                number = int(most["nodes"].iloc[0])
                parts.append(f"{data.short(gpu)} / {data.short(cpu)} {', '.join(ratios)} (N = {number})")
    return f"GPUs over as many CPU nodes, centre over centre: {'; '.join(parts)}." if parts else ""


def _finish(
    figure: Figure, title: str, data: Compared, series: Sequence[Series], axes: list[Axes], more: str = ""
) -> Figure:
    few = data.points["repeats"] < FEW_REPEATS
    notes = [
        "Bars: centre of the repeats. Error bars: standard deviation over steady steps"
        + ("." if few.all() else f"; thick line: 95% interval over repeats, from {FEW_REPEATS} on.")
        + f" Ideal: throughput on the fewest {data.axis} times N."
        + (" Logarithmic axis." if axes[0].get_yscale() == "log" else ""),
        more,
        *data.notes,
    ]
    handles = [
        Patch(facecolor=s.face, edgecolor=s.colour, linewidth=1.3, linestyle=s.line, label=s.label) for s in series
    ]
    for handle in handles:
        entry(handle)
    handles.append(Line2D([], [], color=MUTED, linestyle=(0, (3, 2)), linewidth=1, label="ideal"))
    verdicts = list(data.cells.loc[data.cells[COLUMN].notna(), "verdict"])
    return finish(figure, title, [*handles, *verdict_handles(verdicts, bool(few.any()))], notes)
