"""The networks as block diagrams, from their description: the paper's Fig. 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch, Rectangle

from bnn.models.describe import Description, Row, describe
from campaign.results.figures.context import Context
from campaign.results.figures.select import Tables, model_name
from campaign.results.figures.style import INK, MUTED, RC, finish, new_figure

NETWORKS = ("vgg16", "resnet18")
FACES = {
    "convolution": "#C3D5E8",
    "1x1 shortcut": "#E4D3EC",
    "pooling": "#F4E3B5",
    "dense": "#CBE3CB",
    "input": "white",
}
STRIP = "#4A6B8A"  # batch normalisation + ReLU
GAP, STRIP_WIDTH, BOX_WIDTH, STAGE_GAP = 0.20, 0.13, 0.62, 0.14


@dataclass
class _Pen:
    """Where drawing has got to, and where the output of every layer leaves its glyph: (x, half height)."""

    x: float = 0.0
    ends: dict[str, tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        self.ends = {}


def architecture_figure(tables: Tables, context: Context) -> Figure:
    """Both of the paper's image networks at 32x32x3 and 10 classes. Needs no measurements."""
    figure, axes = new_figure(rows=len(NETWORKS), height=1.75, width=9.0, ratios=(1.95, 2.55))
    notes = []
    for ax, model in zip(axes, NETWORKS, strict=True):
        bnn, cnn = describe(model, "bnn"), describe(model, "cnn")
        with mpl.rc_context(RC):
            _network(ax, bnn)
            ax.set_title(model_name(model), loc="left")
        notes.append(
            f"{model_name(model)}: {bnn.parameters:,} parameters as BNN ({bnn.trainable:,} trainable), "
            f"{cnn.parameters:,} as CNN "
            f"({cnn.trainable:,}); {cnn.macs / 1e6:,.0f} M multiply-adds per image as CNN, twice that with Flipout."
        )
    shades = [Patch(facecolor=face, edgecolor=INK, linewidth=0.7, label=name) for name, face in FACES.items()]
    shades.insert(2, Patch(facecolor=STRIP, edgecolor=STRIP, label="batch norm. + ReLU"))
    notes.append(
        "In boxes: kernel and channels; below: height x width. In a BNN every convolution and dense layer is Flipout."
    )
    return finish(figure, "Network architectures", shades, notes)


def _network(ax: Axes, model: Description) -> None:
    pen = _Pen()
    sizes: dict[str, int] = {row.name: _spatial(row) for row in model.rows}
    channels: dict[str, int] = {row.name: row.output_shape[-1] or 0 for row in model.rows}
    consumers = {name for row in model.rows if row.type == "Add" for name in row.connected_to[1:]}
    previous = None
    for row in model.rows:
        if previous is not None and sizes[row.name] != previous and row.type not in ("Flatten", "Add"):
            pen.x += STAGE_GAP
        if row.name in consumers:
            _shortcut(ax, pen, row, channels)
            continue
        _glyph(ax, pen, row, channels)
        previous = sizes[row.name]
    ax.set_xlim(-0.15, pen.x + 0.05)
    ax.set_ylim(-1.05, 1.5 if consumers else 0.9)
    ax.axis("off")


def _glyph(ax: Axes, pen: _Pen, row: Row, channels: dict[str, int]) -> None:
    """Draw one layer on the main line and move on; flattening and the ReLU of a strip have no glyph of their own."""
    assert pen.ends is not None
    source = row.connected_to[0] if row.connected_to else ""
    half = _half(_spatial(row))
    if row.type in ("Flatten", "Activation"):
        pen.ends[row.name] = pen.ends[source]
        return
    start = pen.ends.get(source)
    strip = row.type.startswith("BatchNorm")
    adjoining = strip and start is not None and not source.startswith("add")
    x = pen.x + (0.02 if adjoining else GAP if start else 0.0)
    if start and not adjoining:
        _arrow(ax, (start[0], 0), (x, 0))
    if strip:
        ax.add_patch(Rectangle((x, -half), STRIP_WIDTH, 2 * half, facecolor=STRIP, edgecolor="none"))
        pen.x = x + STRIP_WIDTH
    elif row.type == "Add":
        ax.add_patch(Circle((x + 0.14, 0), 0.14, facecolor="white", edgecolor=INK, linewidth=0.9))
        ax.text(x + 0.14, 0, "+", ha="center", va="center_baseline", fontsize=9)
        _arrow(ax, (x + 0.14, _lift(half)), (x + 0.14, 0.14), source=pen.ends[row.connected_to[1]])
        pen.x = x + 0.28
    else:
        words, face = _words(row, channels.get(source, 0))
        _box(ax, x, 0.0, half, words, face)
        ax.text(x + BOX_WIDTH / 2, -half - 0.07, _size_words(row), ha="center", va="top", fontsize=6.8, color=MUTED)
        pen.x = x + BOX_WIDTH
    pen.ends[row.name] = (pen.x, half)


def _shortcut(ax: Axes, pen: _Pen, row: Row, channels: dict[str, int]) -> None:
    """A 1x1 projection above the main line, from where its input leaves the line."""
    assert pen.ends is not None
    start, half = pen.ends[row.connected_to[0]]
    level = _lift(half)
    middle = (start + pen.x) / 2 - BOX_WIDTH / 2
    words, _ = _words(row, channels[row.connected_to[0]])
    ax.plot([start + 0.09, start + 0.09], [0, level], color=INK, linewidth=0.8)
    _arrow(ax, (start + 0.09, level), (middle, level))
    _box(ax, middle, level, 0.16, words.replace("\n", ", "), FACES["1x1 shortcut"], width=BOX_WIDTH * 1.25)
    pen.ends[row.name] = (middle + BOX_WIDTH * 1.25, level)


def _box(ax: Axes, x: float, y: float, half: float, words: str, face: str, width: float = BOX_WIDTH) -> None:
    shape = f"round,pad=0,rounding_size={min(0.06, half / 2)}"
    ax.add_patch(
        FancyBboxPatch((x, y - half), width, 2 * half, boxstyle=shape, facecolor=face, edgecolor=INK, linewidth=0.8)
    )
    ax.text(x + width / 2, y, words, ha="center", va="center", fontsize=6.8, linespacing=1.15)


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], source: tuple[float, float] | None = None
) -> None:
    if source is not None:  # the corner of a shortcut: along its level first, then down
        ax.plot([source[0], start[0]], [source[1], source[1]], color=INK, linewidth=0.8)
        start = (start[0], source[1])
    style = {"arrowstyle": "-|>", "mutation_scale": 6, "color": INK, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, **style))


def _words(row: Row, inputs: int) -> tuple[str, str]:
    outputs = row.output_shape[-1] or 1
    if row.type == "InputLayer":
        return f"input\n{outputs}", FACES["input"]
    if row.type.startswith("Conv"):
        kernel = math.isqrt(row.kernel_weights // (inputs * outputs))
        face = FACES["1x1 shortcut"] if kernel == 1 else FACES["convolution"]
        return f"{kernel}x{kernel}\n{outputs}", face
    if row.type.startswith("Dense"):
        return f"dense\n{outputs}", FACES["dense"]
    return ("max\npool" if row.type.startswith("Max") else "avg.\npool"), FACES["pooling"]


def _spatial(row: Row) -> int:
    return row.output_shape[1] or 1 if len(row.output_shape) == 4 else 1


def _size_words(row: Row) -> str:
    if len(row.output_shape) != 4:
        return ""
    return f"{row.output_shape[1]}x{row.output_shape[2]}"


def _half(size: int) -> float:
    """Half the height of a glyph: grows with the logarithm of the image's side."""
    return 0.28 + 0.1 * math.log2(size)


def _lift(half: float) -> float:
    """Height of a shortcut above the main line."""
    return half + 0.34
