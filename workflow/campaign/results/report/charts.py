"""Every step's time of one cell as a small image, for its page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from bnn.metrics import STEADY
from campaign.results.report.words import number

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 860, 220, 64, 14, 34  # pixels
CHARTED = ("attempt", "step", "phase", "seconds")  # the columns of table steps that it takes
MOST = 400  # of more steps than twice this, each so many neighbours are drawn by their fastest and slowest


def step_chart(steps: pd.DataFrame) -> Markup | None:
    """Wall time of the slowest rank (s) over steps, of all attempts; warm-up is shaded, the steady median dashed.

    `steps`: the cell's rows of table `steps`. None without any.
    """
    if steps.empty:
        return None
    rows = steps.sort_values(["attempt", "step"])
    seconds = rows["seconds"].to_numpy(dtype=float)
    steady = rows.loc[rows["phase"] == STEADY, "seconds"]
    highest = float(seconds.max())
    right = WIDTH - 8

    def across(index: np.ndarray) -> list[float]:
        return (LEFT + (right - LEFT) * (index + 0.5) / len(seconds)).tolist()

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / highest

    kept = thinned(seconds)
    points = zip(across(kept), seconds[kept].tolist(), strict=True)
    line = " ".join([f"{x:.1f},{up(y):.1f}" for x, y in points])
    warm = np.flatnonzero((rows["phase"] != STEADY).to_numpy(dtype=bool))
    parts = [
        f'<rect x="{x:.1f}" y="{TOP}" width="{(right - LEFT) / len(seconds):.1f}" '
        f'height="{HEIGHT - BOTTOM - TOP}" fill="currentColor" opacity="0.12"/>'
        for x in across(warm[:MOST] - 0.5)
    ]
    marks = [(0.0, "0"), (highest, number(highest))]
    if len(steady):
        middle = float(steady.median())
        marks.append((middle, number(middle)))
        parts.append(_line(LEFT, up(middle), right, up(middle), ' stroke-dasharray="5 4"'))
    parts += [_line(LEFT, up(0), right, up(0)), _line(LEFT, TOP, LEFT, up(0))]
    parts += [_text(LEFT - 6, up(value) + 4, words, "end") for value, words in spread(marks, up)]
    first, last = int(rows["step"].iloc[0]), int(rows["step"].iloc[-1])
    parts += [_text(LEFT, HEIGHT - 14, f"step {first}", "start"), _text(right, HEIGHT - 14, f"step {last}", "end")]
    parts.append(f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.3"/>')
    words = escape(f"Wall time of {len(seconds)} steps in seconds, the longest {number(highest)}")
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{words}" font-size="12">'
        f"{''.join(parts)}</svg>"
    )


def thinned(values: np.ndarray) -> np.ndarray:
    """Indices of all values, or of the least and greatest of each of MOST parts, in order: no peak is lost."""
    if len(values) <= 2 * MOST:
        return np.arange(len(values))
    starts = np.arange(MOST + 1) * len(values) // MOST
    place = starts[:-1, None] + np.arange(int(np.diff(starts).max()))
    parts = np.where(place < starts[1:, None], values[np.minimum(place, len(values) - 1)], np.nan)
    return np.unique(starts[:-1] + np.stack([np.nanargmin(parts, axis=1), np.nanargmax(parts, axis=1)]))


def spread(marks: list[tuple[float, str]], up: Callable[[float], float]) -> list[tuple[float, str]]:
    """Labels of an axis without those that would be written over an earlier one."""
    kept: list[tuple[float, str]] = []
    for value, words in marks:
        if all(abs(up(value) - up(other)) >= 13 for other, _ in kept):
            kept.append((value, words))
    return kept


def _line(x1: float, y1: float, x2: float, y2: float, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" opacity="0.6"{more}/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{escape(words)}</text>'
