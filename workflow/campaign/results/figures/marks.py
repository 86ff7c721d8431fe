"""What a drawn thing is of, kept in its SVG for the page: its series, and the rows of a table behind its points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campaign.names.cell import IDENTITY

PREFIX, COUNTER = "mark:", "##"
KEYS = IDENTITY  # with the site: some figures are of several


@dataclass(frozen=True)
class Mark:
    """`series`: its words in the legend. `points`: identities (KEYS; without a repeat of points of several) in order.

    `table` has their rows, `value` names the column that is drawn; without a column they say only what the series is
    of. A mark without points is an entry of the legend or a line beside a series.
    """

    series: str
    table: str = ""
    value: str = ""
    points: tuple[tuple[Any, ...], ...] = ()

    def text(self) -> str:
        """As an id of SVG."""
        return PREFIX + json.dumps([self.series, self.table, self.value, self.points], separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Mark | None:
        """Inverse of `text` with the counter that `number_marks` adds; None for any other id."""
        if not text.startswith(PREFIX):
            return None
        try:
            series, table, value, points = json.loads(text.removeprefix(PREFIX).rpartition(COUNTER)[0])
            return cls(str(series), str(table), str(value), tuple(map(tuple, points)))
        except (ValueError, TypeError):
            return None


def mark(artist: Artist, series: str) -> None:
    """Say of what series an artist is."""
    artist.set_gid(Mark(series).text())


def entry(handle: Artist) -> Artist:
    """An entry of the legend, said to be of the series that it names."""
    mark(handle, str(handle.get_label()))
    return handle


def mark_points(artist: Artist, series: str, table: str, value: str, rows: pd.DataFrame) -> None:
    """Say of an artist with a point per row, in their order, of which rows of `table` and which column they are."""
    artist.set_gid(Mark(series, table, value, _identities(rows)).text())


@contextmanager
def marked(ax: Axes, series: str, rows: pd.DataFrame | None = None, table: str = "cells") -> Iterator[None]:
    """Within the block all that is drawn on `ax` is of this series, and of `rows`, of `table` by their identity."""
    before = set(ax.get_children())
    yield
    said = (Mark(series) if rows is None else Mark(series, table, "", _identities(rows))).text()
    for artist in ax.get_children():
        if artist not in before and not artist.get_gid():
            artist.set_gid(said)


def mark_bars(bars: Iterable[Artist], series: str, table: str, value: str, rows: pd.DataFrame) -> None:
    """As `mark_points`, of an artist per row."""
    for index, bar in enumerate(bars):
        mark_points(bar, series, table, value, rows.iloc[index : index + 1])


def _identities(rows: pd.DataFrame) -> tuple[tuple[Any, ...], ...]:
    keys = [key for key in KEYS if key in rows.columns]
    return tuple(tuple(map(_plain, row)) for row in rows[keys].itertuples(index=False, name=None))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def number_marks(figure: Figure) -> None:
    """Make the marks' ids unique within the figure, always the same."""
    for index, artist in enumerate(figure.findobj(lambda each: (each.get_gid() or "").startswith(PREFIX))):
        text = str(artist.get_gid())  # one that has no counter yet ends as a list of JSON does
        artist.set_gid(f"{text if text.endswith(']') else text.rpartition(COUNTER)[0]}{COUNTER}{index}")
