"""What a cell's steps took and came to, as small images for its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from markupsafe import Markup, escape

from bnn.metrics import STEADY, change_point, steady_of
from campaign.results.report.words import number

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 860, 220, 64, 14, 34  # pixels
RIGHT, FLOOR = WIDTH - 8, HEIGHT - BOTTOM
# The columns of table steps that are drawn, or say where.
CHARTED = (
    "attempt", "step", "phase", "seconds", "seconds_exchange", "loss", "nll", "accuracy", "accuracy_running",
)  # fmt: skip
MOST = 400  # of more steps than twice this, each so many neighbours are drawn by their least and greatest
PALE = ' opacity="0.45"'
Value = TypeVar("Value", float, np.ndarray)


@dataclass(frozen=True)
class Line:
    """A quantity step by step, NaN where there is none; `look` are further attributes of its stroke."""

    values: np.ndarray
    look: str = ""


def charts(steps: pd.DataFrame) -> list[dict[str, Any]]:
    """Of a cell's rows of table `steps`: step times, NLL, loss and accuracy, each with its words; none without rows.

    What has no value is left out, and so is the loss where it is the NLL.
    """
    if steps.empty:
        return []
    rows = steps.sort_values(["attempt", "step"])
    rows["phase"] = rows["phase"].astype("category")  # asked several times: of text that takes as long as the rest
    level = level_from(rows)
    made = [{"title": "Step times", "svg": step_chart(rows, *level), "note": step_words(rows, *level)}]
    for title, note, lines, differs in (
        ("NLL", "NLL of a step's images (nats), mean over ranks.", ("nll",), True),
        (
            "Loss", "Loss of a step (nats): NLL and the weighted KL term, mean over ranks.", ("loss",),
            not np.allclose(rows["loss"], rows["nll"], rtol=1e-6, atol=0, equal_nan=True),
        ),
        (
            "Training accuracy", "Mean since the first step (the paper's running accuracy); pale: of a step's images.",
            ("accuracy_running", "accuracy"), True,
        ),
    ):  # fmt: skip
        drawn = [Line(rows[name].to_numpy(dtype=float), look) for name, look in zip(lines, ("", PALE), strict=False)]
        if differs and any(np.isfinite(line.values).any() for line in drawn):
            image = _chart(rows, drawn, f"{title} of {len(rows)} steps", most=MOST // 4)
            made.append({"title": title, "svg": image, "note": note})
    return made


def step_chart(rows: pd.DataFrame, attempt: int, change: int) -> Markup:
    """Wall time of the slowest rank (s) over steps, of all attempts; the longest wait for gradients is pale.

    Warm-up is shaded, the steady median dashed, and a dotted line stands where step times level off (`bnn.metrics`).
    `rows`: as `charts`, sorted; `attempt` and `change` as `level_from`.
    """
    seconds = rows["seconds"].to_numpy(dtype=float)
    middles = [float(rows.loc[rows["phase"] == STEADY, "seconds"].median())] if (rows["phase"] == STEADY).any() else []
    lines = [Line(seconds), Line(rows["seconds_exchange"].to_numpy(dtype=float), PALE)]
    at = int(np.argmax(rows["attempt"].to_numpy() == attempt)) + change if change else None
    words = f"Wall time of {len(seconds)} steps in seconds, the longest {number(float(seconds.max()))}"
    return _chart(rows, lines, words, lowest=0.0, levels=middles, change=at)


def level_from(rows: pd.DataFrame) -> tuple[int, int]:
    """The attempt that the headline throughput is of (else the first), and after how many steps its times level off."""
    steady = steady_of(rows[["attempt", "phase"]])
    attempt = int((rows if steady.empty else steady)["attempt"].iloc[0])
    return attempt, change_point(rows.loc[rows["attempt"] == attempt, "seconds"].to_numpy(dtype=float))


def step_words(rows: pd.DataFrame, attempt: int, change: int) -> str:
    """What the image of step times shows, and whether the warm-up covers what the change point finds."""
    mine = rows[rows["attempt"] == attempt]
    warm = int((mine["phase"] != STEADY).sum())
    which = f" of attempt {attempt}" if rows["attempt"].nunique() > 1 else ""
    said = (
        "Wall time of a step on its slowest rank (s); pale: the longest wait of any rank for gradients; dashed: median "
        f"of the steady steps. Shaded: warm-up, the first {_steps(warm)} of an attempt (setting warmup_steps). "
    )
    if not change:
        return said + f"Step times{which} have no change point in their first half."
    covered = "which the warm-up covers" if change <= warm else "later than the warm-up ends"
    return said + f"Dotted: step times{which} have a change point after {_steps(change)}, {covered}."


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


def _chart(
    rows: pd.DataFrame, lines: Sequence[Line], words: str, *, lowest: float | None = None,
    levels: Sequence[float] = (), change: int | None = None, most: int = MOST,
) -> Markup:  # fmt: skip
    """Lines over the steps of `rows`, from `lowest` (their least value if None) to their greatest."""
    count = len(rows)
    finite = np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
    least = float(finite.min()) if lowest is None else lowest
    highest = float(finite.max())
    reach = highest - least or 1.0

    def across(index: np.ndarray) -> np.ndarray:
        return LEFT + (RIGHT - LEFT) * (index + 0.5) / count

    def up(value: Value) -> Value:
        return FLOOR - (FLOOR - TOP) * (value - least) / reach

    warm = np.flatnonzero((rows["phase"] != STEADY).to_numpy(dtype=bool))
    parts = [
        f'<rect x="{x:.1f}" y="{TOP}" width="{(RIGHT - LEFT) / count:.1f}" height="{FLOOR - TOP}" fill="currentColor" '
        'opacity="0.12"/>'
        for x in across(warm[:MOST] - 0.5)
    ]
    parts += [_line(LEFT, up(level), RIGHT, up(level), ' stroke-dasharray="5 4"') for level in levels]
    if change is not None:
        (x,) = across(np.array([change - 0.5]))
        parts.append(_line(x, TOP, x, FLOOR, ' stroke-dasharray="1 3"'))
    parts += [_line(LEFT, FLOOR, RIGHT, FLOOR), _line(LEFT, TOP, LEFT, FLOOR)]
    marks = [(least, number(least)), (highest, number(highest)), *((level, number(level)) for level in levels)]
    parts += [_text(LEFT - 6, up(value) + 4, said, "end") for value, said in spread(marks, up)]
    first, last = int(rows["step"].iloc[0]), int(rows["step"].iloc[-1])
    parts += [_text(LEFT, HEIGHT - 14, f"step {first}", "start"), _text(RIGHT, HEIGHT - 14, f"step {last}", "end")]
    for line in lines:
        known = np.flatnonzero(np.isfinite(line.values))
        kept = known[thinned(line.values[known], most)] if len(known) else known
        places = np.column_stack([across(kept), up(line.values[kept])])
        # (all in one: one by one takes twice as long)
        points = " ".join(["%.1f,%.1f"] * len(kept)) % tuple(places.ravel().tolist())
        parts.append(f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.3"{line.look}/>')
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(words)}" font-size="12">'
        f"{''.join(parts)}</svg>"
    )


def thinned(values: np.ndarray, most: int = MOST) -> np.ndarray:
    """Indices of all values, or of the least and greatest of each of `most` parts, in order: no peak is lost."""
    if len(values) <= 2 * most:
        return np.arange(len(values))
    starts = np.arange(most + 1) * len(values) // most
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
