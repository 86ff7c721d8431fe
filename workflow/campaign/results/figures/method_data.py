"""What the figures of methods share: which rows they draw, colours, labels beside the points, limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import BboxBase

from campaign.results.figures.select import NothingToDrawError, model_name
from campaign.results.figures.style import lay_out
from campaign.results.tables.schemas import POINT_KEYS as POINT

POINT_KEYS = [key for key in POINT if key not in ("kind", "variant")]
LABEL_SIZE, BESIDE = 7.5, 7.0  # points: of a name, and from a mark to its name
MARK, TEXT = 3.0, 4.5  # least contrast with white (WCAG 2.2, 1.4.11 and 1.4.3)
ROOM = 0.12  # room beside the outermost points, as a share of their range


Colour = tuple[float, float, float]  # red, green, blue, of 1


@dataclass(frozen=True)
class Method:
    """A series: a method, with its variant where others of the name are beside it."""

    name: str
    colour: Colour


def require(table: pd.DataFrame, columns: Sequence[str], what: str) -> pd.DataFrame:
    """Rows that count and have a value in each of `columns`, with column `series`.

    Raises NothingToDrawError that says why there are none.
    """
    if table.empty:
        raise NothingToDrawError("no method has predicted so far; where a study is of target methods, that makes them")
    found = table[(table["repeats"] > 0)].dropna(subset=list(columns))
    if found.empty:
        reasons = sorted({reason for reason in table["reason"] if reason})
        why = f" ({'; '.join(reasons)})" if reasons else ""
        raise NothingToDrawError(f"{what}: none of the {len(table)} rows has a value{why}")
    return named(found)


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of points that have two methods or more, images as they are. Raises NothingToDrawError without any."""
    series = clean(rows).groupby(POINT_KEYS)["series"].nunique()
    found = rows[[count > 1 for count in series.reindex(pd.MultiIndex.from_frame(rows[POINT_KEYS]), fill_value=0)]]
    if found.empty:
        raise NothingToDrawError("no point has two methods that have predicted: there is nothing to compare")
    return found


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """With column `series`: the method, and its variant where several variants of a point are of one method."""
    variants = rows.groupby([*POINT_KEYS, "method"])["variant"].transform("nunique")
    series = rows["method"].where(variants == 1, rows["method"] + " (" + rows["variant"] + ")")
    return rows.assign(series=series)


def with_series(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of table `method_draws` with the series that `rows` of table `methods` have."""
    keys = [*POINT, "method"]
    return table.merge(rows[[*keys, "series"]].drop_duplicates(keys), on=keys)


def clean(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["shift"] == ""]


def hardest_shifts(rows: pd.DataFrame) -> list[str]:
    """Of each kind of shift the greatest severity that was measured."""
    hardest: dict[str, int] = {}
    for shift in set(rows["shift"]) - {""}:
        kind, _, severity = shift.partition(":")
        hardest[kind] = max(hardest.get(kind, 0), int(severity))
    return [f"{kind}:{severity}" for kind, severity in sorted(hardest.items())]


def methods_of(rows: pd.DataFrame) -> dict[str, Method]:
    """Series by name, each with its colour."""
    import seaborn as sns  # the report names methods without it

    names = sorted(set(rows["series"]))
    palette = sns.color_palette("colorblind", len(names))
    return {name: Method(name, legible(colour, MARK)) for name, colour in zip(names, palette, strict=True)}


def legible(colour: Colour, contrast: float) -> Colour:
    """The colour, as much darker as it takes for this contrast with white (WCAG 2.2: relative luminance)."""
    from seaborn.utils import relative_luminance

    while 1.05 / (relative_luminance(colour) + 0.05) < contrast:
        red, green, blue = colour
        colour = (0.97 * red, 0.97 * green, 0.97 * blue)
    return colour


def point_title(row: pd.Series) -> str:
    width = "" if row["width"] == 1 else f", width {row['width']:g}"
    threads = f", {row['threads']} threads per rank" if row["threads"] > 1 else ""
    place = f"N = {row['nodes']}, batch {row['batch_size']}{threads}"
    return f"{model_name(row['model'])}{width} on {row['dataset']}, {place}"


def warning_words(rows: pd.DataFrame) -> str:
    """Which methods have a repeat with a warning."""
    warned = sorted(set(rows.loc[rows["verdict"] == "WARN", "series"]))
    return f"With a warning in some repeat (table methods): {'; '.join(warned)}." if warned else ""


def limits(ax: Axes, rows: pd.DataFrame, x: str, y: str, right: float = 0.12) -> None:
    """Axes that show all points, and their intervals as far as these do not dwarf the points.

    `right` is the room on that side as a share of the range.
    """
    for column, scale, setter in ((x, ax.get_xscale(), ax.set_xlim), (y, ax.get_yscale(), ax.set_ylim)):
        turn, back = (math.log, math.exp) if scale == "log" else (float, float)
        values = [turn(value) for value in rows[column]]
        low, high = min(values), max(values)
        span = max(high - low, 0.1 * abs(high), 1e-3)
        ends = rows[[f"{column}_low", f"{column}_high"]].dropna()
        lower = [turn(value) for value in ends[f"{column}_low"] if value > 0]
        bottom = max(min([low, *lower]), low - span) - ROOM * span
        top = (
            min(max([high, *map(turn, ends[f"{column}_high"])]), high + span) + (right if column == x else ROOM) * span
        )
        if scale != "log":
            bottom = max(bottom, -ROOM * 0.3 * span)  # nothing here is negative
        setter(back(bottom), back(top))


def label_points(ax: Axes, labels: Sequence[tuple[float, float, Method]]) -> None:
    """A name beside each point (x, y, method): as near as it covers no mark, no level bar and no other name.

    Where it covers some everywhere, it stands where it covers least. What stands in brackets has its own line. A
    line leads to the point where the name is not right beside it. Places are taken in points of the figure as it is
    laid out now; axes must have their limits, and all their marks.
    """
    figure = ax.get_figure()
    assert figure is not None
    lay_out(figure)
    scale = 72 / figure.get_dpi()
    panel = ax.get_window_extent()
    marks = [
        ax.transData.transform(point) * scale
        for line in ax.lines
        if line.get_marker() not in ("None", "", None)
        for point in line.get_xydata()
    ]
    taken = [(float(x) - 3.5, float(x) + 3.5, float(y) - 3.5, float(y) + 3.5) for x, y in marks]
    for line in ax.lines:
        ends = ax.transData.transform(line.get_xydata()) * scale
        if line.get_marker() in ("None", "", None) and len(ends) == 2 and abs(ends[0][1] - ends[1][1]) < 1:
            left, right = sorted(float(x) for x, _ in ends)
            taken.append((left, right, float(ends[0][1]) - 1.5, float(ends[0][1]) + 1.5))
    for x, y, method in sorted(labels, key=lambda each: (each[1], each[0])):
        at = ax.transData.transform((x, y)) * scale
        lines = method.name.replace(" (", "\n(", 1).split("\n")
        steps = [sign * step * 0.65 * LABEL_SIZE for step in range(16) for sign in (1, -1)]
        boxes = {(side, up): _box(at, lines, side, up) for up in steps for side in (1, -1)}
        inside = [place for place, box in boxes.items() if _inside(box, panel, scale)]
        side, up = min(inside or boxes, key=lambda place: sum(_covered(boxes[place], other) for other in taken))
        taken.append(boxes[side, up])
        line = {"arrowstyle": "-", "color": method.colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            "\n".join(lines), (x, y), xytext=(side * BESIDE, up), textcoords="offset points", fontsize=LABEL_SIZE,
            color=legible(method.colour, TEXT), va="center", ha="left" if side > 0 else "right",
            arrowprops=line if up else None, zorder=8, linespacing=1.05,
        )  # fmt: skip


Box = tuple[float, float, float, float]  # left, right, bottom, top, in points


def _box(at: Sequence[float], lines: Sequence[str], side: int, up: float) -> Box:
    width, half = 0.55 * LABEL_SIZE * max(map(len, lines)), 0.6 * LABEL_SIZE * len(lines)
    left = at[0] + BESIDE if side > 0 else at[0] - BESIDE - width
    return left, left + width, at[1] + up - half, at[1] + up + half


def _inside(box: Box, panel: BboxBase, scale: float) -> bool:
    across = panel.x0 * scale < box[0] and box[1] < panel.x1 * scale
    return across and panel.y0 * scale < box[2] and box[3] < panel.y1 * scale


def _covered(one: Box, other: Box) -> float:
    """How much of both is the same, in square points."""
    across, along = min(one[1], other[1]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[2], other[2])
    return max(0.0, across) * max(0.0, along)
