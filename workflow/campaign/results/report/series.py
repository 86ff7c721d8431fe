"""Series and points of a figure on the page: what each is of, so that it can be filtered, shown and run again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from campaign.names.cell import Cell
from campaign.results.figures.marks import KEYS, Mark
from campaign.results.report.cells import SUFFIX, anchor, page_address
from campaign.results.report.facets import facets
from campaign.results.report.words import DASH, number, span
from campaign.results.tables.schemas import IDENTITY_KEYS, TABLES

if TYPE_CHECKING:
    import pandas as pd

SVG = "http://www.w3.org/2000/svg"
GROUP, USE, TITLE = f"{{{SVG}}}g", f"{{{SVG}}}use", f"{{{SVG}}}title"
Record = Mapping[str, Any]
# A drawn column -> the ends of its interval, and how many repeats it is of.
BESIDE = {
    "throughput_steady": ("throughput_low", "throughput_high", "repeats"),
    "epoch_seconds": ("epoch_seconds_low", "epoch_seconds_high", "repeats"),
    "total_seconds": ("", "", "repeats"),
    "efficiency_steady": ("steady_low", "steady_high", "pairs"),
    "efficiency_total": ("total_low", "total_high", "pairs"),
}


class Points:
    """The rows of a campaign's tables by the identities that figures have of their points.

    `with_pages`: points lead to their cells' own pages, as the page has no row of each cell; else to these rows.
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame], *, with_pages: bool = False) -> None:
        self.tables, self._with_pages = tables, with_pages
        self._rows: dict[tuple[str, int], dict[tuple[Any, ...], Record]] = {}

    def record(self, table: str, point: tuple[Any, ...]) -> Record | None:
        """The row of a point; None where the table has none, as when a figure is older than its table."""
        place = (table, len(point))
        if place not in self._rows:
            frame = self.tables.get(table)
            rows = [] if frame is None else frame.to_dict("records")
            keys = KEYS[: len(point)]
            self._rows[place] = {tuple(row[key] for key in keys): row for row in rows if set(keys) <= row.keys()}
        return self._rows[place].get(point)

    @cached_property
    def repeats(self) -> dict[tuple[Any, ...], list[int]]:
        """The planned repeats of every point."""
        found: dict[tuple[Any, ...], list[int]] = {}
        for row in self.tables["cells"].to_dict("records"):
            found.setdefault(tuple(row[key] for key in KEYS[:-1]), []).append(int(row["repeat"]))
        return found

    def cells(self, point: tuple[Any, ...], row: Record) -> dict[str, str]:
        """Attributes of a point that say where each of its cells is: the address as far as the repeat, and repeats."""
        repeats = self.repeats_of(point, row)
        if not repeats:
            return {}
        first = {**row, "repeat": 1}
        page = page_address(first).removesuffix(f"1{SUFFIX}")
        place = page if self._with_pages else f"#{anchor(first).removesuffix('1')}"
        return {"data-cells": place, "data-repeats": " ".join(map(str, repeats))}

    def repeats_of(self, point: tuple[Any, ...], row: Record) -> list[int]:
        """The repeats that a point is of: its own, or all that are planned."""
        return [int(row["repeat"])] if "repeat" in row else sorted(self.repeats.get(point[: len(KEYS) - 1], []))

    def words(self, mark: Mark, point: tuple[Any, ...], row: Record) -> str:
        """A point in words: what it is, its value, interval, repeats and verdict; in a second line how to run it again.

        Values have six digits, as a reader compares them; the figure's CSV file has all.
        """
        low, high, count = BESIDE.get(mark.value, ("", "", ""))
        what = f"{row['model']}, {row['implementation']}, {row['dataset']}, batch {row['batch_size']}, {row['variant']}"
        parts = [f"{number(row[mark.value], 6)} {TABLES[mark.table].unit(mark.value)}".rstrip()]
        if low in row:
            interval = span(row[low], row[high], 6)
            parts.append("no interval" if interval == DASH else f"95% interval {interval}")
        if count in row:
            parts.append(f"{row[count]} {count if row[count] != 1 else count[:-1]}")
        if "repeat" in row:
            parts.append(f"repeat {row['repeat']}")
        nodes = f"{row['nodes']} node{'' if row['nodes'] == 1 else 's'}"
        told = f"{what}, {nodes}: {', '.join([*parts, row['verdict']])}"
        again = rerun(row, self.repeats_of(point, row))
        return f"{told}\n{again}" if again else told


def rerun(row: Record, repeats: list[int]) -> str:
    """The command that measures cells of a point anew: without their records Snakemake makes them again."""
    if not repeats:
        return ""
    identity = {key: row[key] for key in IDENTITY_KEYS if key != "repeat"}
    folder = f"results/{Cell(**identity, repeat=1).folder.parent.as_posix()}/repeat="
    these = str(repeats[0]) if len(repeats) == 1 else f"{{{','.join(map(str, repeats))}}}"
    return f"rm -r {folder}{these} && snakemake --profile profiles/{row['site']} {folder}{these}/summary.json"


def attach(root: ET.Element, points: Points) -> None:
    """Put what the marks of an image are of in place of their ids.

    A series' parts have `data-series`, an entry of the legend `data-entry`; both, and points, have the facets that
    they differ by. A point has its words as `<title>`: in a browser they show without any script. A point that has no
    row in the tables, or whose drawing cannot be told from others', is left without.
    """
    legend = {
        id(each) for group in root.iter(GROUP) if group.get("id", "").startswith("legend") for each in group.iter()
    }
    marked = [(element, mark) for element in root.iter() if (mark := Mark.read(element.get("id", "")))]
    records: dict[str, list[Record]] = {}
    for _, mark in marked:
        records.setdefault(mark.series, []).extend(_known(mark, points))
    of_series = {series: facets(rows) for series, rows in records.items()}
    for element, mark in marked:
        del element.attrib["id"]
        element.set("data-entry" if id(element) in legend else "data-series", mark.series)
        own = facets(_known(mark, points)) or of_series[mark.series]
        element.attrib |= own
        _attach_points(element, mark, points, own)


def _known(mark: Mark, points: Points) -> Iterable[Record]:
    return filter(None, (points.record(mark.table, point) for point in mark.points))


def _attach_points(element: ET.Element, mark: Mark, points: Points, series: Mapping[str, str]) -> None:
    uses = list(element.iter(USE))
    drawn = uses if uses else [element] if len(mark.points) == 1 else []
    if len(drawn) != len(mark.points):
        return
    for shape, point in zip(drawn, mark.points, strict=True):
        row = points.record(mark.table, point)
        if row is None or not _is_number(row.get(mark.value)):
            continue
        shape.set("data-point", "")
        shape.attrib |= points.cells(point, row)
        shape.attrib |= {name: value for name, value in facets([row]).items() if value != series.get(name)}
        ET.SubElement(shape, TITLE).text = points.words(mark, point, row)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
