"""MPI routines of the largest runs as a table: the paper's Fig. 2(d), with control apart from data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campaign.results.figures.context import Context
from campaign.results.figures.marks import marked
from campaign.results.figures.select import NothingToDrawError, Tables, data_note, main_variant, model_name, rows_of
from campaign.results.figures.style import INK, KIND_NAMES, MUTED, RC, finish, new_figure
from campaign.results.tables.schemas import IDENTITY_KEYS

CARRIES = ("data", "control", "local")
LINE_HEIGHT = 0.185  # inches
# Right edges of the columns of numbers, as fractions of the width: rank 0's, then the mean over ranks.
COLUMNS = ((0.40, 0.53, 0.655), (0.765, 0.90, 1.0))
HEAD, TITLE, BLOCK = 2.0, 1.25, 2.65  # in lines: the table's head, a block's title, a block without its routines
HEADS = ("calls", "average bytes", "seconds")


@dataclass(frozen=True)
class Line:
    """A routine's line: calls, average bytes (None: not measured) and seconds on rank 0 and on the mean of ranks."""

    routine: str
    carries: str
    rank0: tuple[float, float | None, float]
    mean: tuple[float, float | None, float]


@dataclass(frozen=True)
class Block:
    """The lines of one run, its heading and its sums in words."""

    title: str
    detail: str
    lines: tuple[Line, ...]
    sums: str
    run: pd.DataFrame


def mpi_figure(tables: Tables, context: Context, role: str) -> Figure:
    """A block per network and kind, of its first counted repeat on the most nodes with the largest batch.

    Raises NothingToDrawError when no cell of the role has a profile, with the cells' reasons.
    """
    chosen = _chosen(tables, role)
    blocks = [_block(tables, run) for run in chosen]
    lines = sum(len(block.lines) + BLOCK for block in blocks) + HEAD
    figure, (ax,) = new_figure(height=lines * LINE_HEIGHT)
    with mpl.rc_context(RC):
        _draw(ax, blocks, lines)
    cells = tables["cells"].merge(pd.DataFrame(chosen)[list(IDENTITY_KEYS)], on=list(IDENTITY_KEYS))
    notes = [
        "Data: gradients, parameters, metrics. Control: what ranks say to agree on what to exchange. Local: asks for "
        "rank or size, sends nothing. Seconds are wall time inside MPI summed over threads: Horovod's own thread waits "
        "there while others compute, so that they are not time lost.",
        f"Control told from data by {_rule(chosen)}. The mean is over all ranks that left a profile.",
        data_note(cells).split(" 1 repeat")[0],
    ]
    return finish(figure, f"MPI routines at the largest N on {context.site}", [], notes)


def _chosen(tables: Tables, role: str) -> list[pd.Series]:
    """Rank 0's row of mpi_ranks of every run to show: VGG before ResNet, BNN before CNN."""
    try:
        rows = rows_of(tables["mpi_ranks"], role)
    except NothingToDrawError:
        states = sorted(set(rows_of(tables["cells"], role)["mpi"]))
        raise NothingToDrawError(f"no cell has an MPI profile: {'; '.join(states)}") from None
    rows = rows[rows["counted"] & (rows["rank"] == 0)]
    if rows.empty:
        raise NothingToDrawError("no cell with an MPI profile of rank 0 counts; the table of cells says why")
    rows = rows[(rows["variant"] == main_variant(rows))]
    rows = rows[rows["nodes"] == rows["nodes"].max()]
    found = []
    for _, runs in rows.sort_values(["model", "kind"], ascending=[False, True]).groupby(["model", "kind"], sort=False):
        largest = runs[runs["batch_size"] == runs["batch_size"].max()]
        found.append(largest.sort_values(["dataset", "repeat"]).iloc[0])
    return found


def _rule(chosen: list[pd.Series]) -> str:
    words = {"operator": "operator and type", "size": "size, for want of operators"}
    return "; elsewhere by ".join(words[rule] for rule in sorted({str(run["rule"]) for run in chosen}))


def _of(table: pd.DataFrame, run: pd.Series) -> pd.DataFrame:
    """The rows of the same cell."""
    for key in IDENTITY_KEYS:
        table = table[table[key] == run[key]]
    return table


def _block(tables: Tables, run: pd.Series) -> Block:
    calls = _of(tables["mpi"], run)
    ranks = _of(tables["mpi_ranks"], run)
    count, size = len(ranks), int(run["ranks"])
    who = f"{size} ranks" if count == size else f"{count} of {size} ranks profiled"
    repeat = f"batch {run['batch_size']} per rank, {run['steps']} steps, repeat {run['repeat']}"
    return Block(
        title=f"{model_name(run['model'])} {KIND_NAMES[run['kind']]} ({run['implementation']})",
        detail=f"N = {run['nodes']}, {who}, {repeat}",
        lines=tuple(_lines(calls, count)),
        sums=_sums(run),
        run=pd.DataFrame([run]),
    )


def _sums(run: pd.Series) -> str:
    """Rank 0's totals and the two fractions of the elapsed time."""
    if pd.isna(run["elapsed_seconds"]):
        return f"rank 0: in MPI {run['mpi_seconds']:,.2f} s; elapsed time not measured"
    data = "not measurable" if pd.isna(run["data_fraction"]) else f"{run['data_fraction']:.3f}"
    return (
        f"rank 0: in MPI {run['mpi_seconds']:,.2f} s / elapsed {run['elapsed_seconds']:,.2f} s = "
        f"{run['mpi_fraction']:.3f} "
        f'(the paper\'s "communication efficiency"); data alone {data}'
    )


def _lines(calls: pd.DataFrame, ranks: int) -> Iterator[Line]:
    """By what they carry, most seconds first."""
    for carries in CARRIES:
        part = calls[calls["carries"] == carries]
        seconds = part.groupby("routine")["seconds"].sum().sort_values(ascending=False, kind="stable")
        for routine in seconds.index:
            rows = part[part["routine"] == routine]
            yield Line(str(routine), carries, _numbers(rows[rows["rank"] == 0], 1), _numbers(rows, ranks))


def _numbers(rows: pd.DataFrame, ranks: int) -> tuple[float, float | None, float]:
    """Calls and seconds per rank, and bytes per call."""
    calls = float(rows["calls"].sum())
    average = None if rows["bytes"].isna().any() else float(rows["bytes"].sum()) / calls if calls else 0.0
    return calls / ranks, average, float(rows["seconds"].sum()) / ranks


def _draw(ax: Axes, blocks: list[Block], lines: float) -> None:
    """All text in units of a line, downwards."""
    ax.set_xlim(0, 1)
    ax.set_ylim(lines, 0)
    ax.axis("off")
    for edges, who in zip(COLUMNS, ("rank 0", "mean over ranks"), strict=True):
        ax.text(edges[2], 0.5, who, ha="right", va="center", fontweight="bold", fontsize=8.5)
        ax.plot([edges[0] - 0.075, edges[2]], [1.0, 1.0], color=INK, linewidth=0.6)
        for edge, head in zip(edges, HEADS, strict=True):
            ax.text(edge, 1.5, head, ha="right", va="center", fontsize=8.5)
    ax.text(0, 1.5, "routine", va="center", fontsize=8.5)
    ax.text(0.195, 1.5, "carries", va="center", fontsize=8.5)
    y = HEAD
    for block in blocks:
        with marked(ax, block.title, block.run):
            _draw_block(ax, y, block)
        y += len(block.lines) + BLOCK


def _draw_block(ax: Axes, y: float, block: Block) -> None:
    ax.plot([0, 1], [y + 0.1, y + 0.1], color=INK, linewidth=0.9)
    ax.text(0, y + 0.75, block.title, va="center", fontweight="bold", fontsize=8.5)
    ax.text(1, y + 0.75, block.detail, va="center", ha="right", fontsize=7.5, color=MUTED)
    y += TITLE
    for line in block.lines:
        _draw_line(ax, y + 0.5, line)
        y += 1
    ax.text(0, y + 0.55, block.sums, va="center", fontsize=7.5, color=MUTED)


def _draw_line(ax: Axes, y: float, line: Line) -> None:
    colour = MUTED if line.carries == "local" else INK
    style = {"va": "center", "fontsize": 8.2, "color": colour}
    ax.text(0, y, line.routine, **style)
    ax.text(0.195, y, line.carries, fontweight="bold" if line.carries == "data" else "normal", **style)
    for edges, (calls, average, seconds) in zip(COLUMNS, (line.rank0, line.mean), strict=True):
        whole = f"{calls:,.0f}" if calls == int(calls) else f"{calls:,.1f}"
        words = (whole, "not measured" if average is None else f"{average:,.1f}", f"{seconds:,.3f}")
        for edge, word in zip(edges, words, strict=True):
            ax.text(edge, y, word, ha="right", **style)
