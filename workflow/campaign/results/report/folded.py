"""Tables of too many rows for the page: there by group, and each group's rows on a page of their own beside it."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from typing import Any

from campaign.results.report.facets import VERDICTS
from campaign.results.report.grid import Column

Row = dict[str, Any]
MOST = 300  # rows of a table on the page: 1,000 take it 0.8 MB, and a browser a tenth of a second
GROUPED = ("data-dataset", "data-model", "data-kind", "data-variant")  # a group's rows are alike in these
FOLDER = "report/rows"  # from the page
UP = "../" * (FOLDER.count("/") + 1)  # from there to the report's page
PLACE = re.compile(rf'href="({re.escape(UP)}report\.html)?#(cell-[^"]+)"')


class Folded:
    """Folds tables, and keeps their rows by the name of the page that shows them."""

    def __init__(self) -> None:
        self.pages: dict[str, Row] = {}
        self.cells: dict[str, str] = {}  # where rows of cells are folded: their own pages by the rows' anchors

    def fold(self, table: Row) -> Row:
        """The table itself, or, of more than MOST rows, one with a row per group, which leads to the group's page."""
        if len(table["rows"]) <= MOST:
            return table
        rows = []
        for number, group in enumerate(_groups(table["rows"]), 1):
            file = f"{table['name']}-{number}.html"
            caption = f"{table['caption']}: {', '.join(_alike(group))}"
            self.pages[file] = table | {"caption": caption, "rows": [_moved(row) for row in group]}
            rows.append(_of_group(table["columns"], group, f"{FOLDER}/{file}"))
        first = Column("rows", "rows", look="n", meaning="They lead to the rows of this group, on a page beside this.")
        columns = [first, *(Column(c.label, c.key, look=_look(c), meaning=c.meaning) for c in table["columns"])]
        return table | {"columns": columns, "rows": rows, "folded": len(table["rows"])}

    def redirected(self, text: str) -> str:
        """A page's text with links to rows of cells that are not on the report's page led to the cells' own pages."""

        def link(found: re.Match[str]) -> str:
            place = self.cells.get(html.unescape(found[2]))
            return f'href="{UP if found[1] else ""}{html.escape(place)}"' if place else found[0]

        return PLACE.sub(link, text)


def _look(column: Column) -> str:
    return " ".join(word for word in column.look.split() if word != "rests")


def _groups(rows: list[Row]) -> list[list[Row]]:
    """Rows that are alike in as many of GROUPED as leave no more than MOST groups, in order of appearance."""
    for count in range(len(GROUPED), -1, -1):
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(tuple(row["attributes"].get(name, "") for name in GROUPED[:count]), []).append(row)
        if len(groups) <= MOST:
            break
    return list(groups.values())


def _alike(group: list[Row]) -> list[str]:
    values = [{row["attributes"].get(name, "") for row in group} for name in GROUPED]
    return [next(iter(found)) for found in values if len(found) == 1 and "" not in found]


def _of_group(columns: list[Column], group: list[Row], page: str) -> Row:
    """The row that stands for a group: what all rows share, of numbers the least and the greatest, of verdicts each."""
    facets: dict[str, dict[str, None]] = {}
    for row in group:
        for name, value in row["attributes"].items():
            if name.startswith("data-") and name != "data-index":
                facets.setdefault(name, {}).update(dict.fromkeys(value.split()))
    # what is of all choices in one row has no attribute, and so the group has none
    shared = {
        name: " ".join(found) for name, found in facets.items() if all(name in row["attributes"] for row in group)
    }
    cells = [_plain(f"{len(group):,}", "n", page)]
    cells += [_summary(column, [row["cells"][at] for row in group]) for at, column in enumerate(columns)]
    return {"attributes": shared | {"data-rows": str(len(group))}, "cells": cells}


def _summary(column: Column, cells: list[Row]) -> Row:
    looks = column.look.split()
    classes = cells[0]["attributes"].get("class", "")
    if "verdict" in looks:
        counts = {name: sum(cell["text"] == name for cell in cells) for name in VERDICTS}
        found = {name: count for name, count in counts.items() if count}
        worst = [name for name in VERDICTS if name in found][-1:]
        if worst:
            beside = ", ".join(f"{count:,} {name}" for name, count in found.items())
            return _plain(worst[0], classes) | {"verdict": worst[0], "beside": beside}
    texts = list(dict.fromkeys(cell["text"] for cell in cells))
    if len(texts) == 1:
        return _plain(texts[0], classes)
    known = [(value, cell["text"]) for cell in cells if (value := _value(cell)) is not None] if "n" in looks else []
    if known:
        least, greatest = (text.partition(" ± ")[0] for _, text in (min(known), max(known)))
        return _plain(least if least == greatest else f"{least} … {greatest}", classes)
    return _plain(f"{len(texts):,} different", classes)


def _plain(text: str, classes: str, href: str = "") -> Row:
    attributes = {"class": classes} if classes else {}
    return {
        "text": text, "attributes": attributes, "strong": False, "rests": [], "verdict": "", "href": href, "beside": "",
    }  # fmt: skip


def _value(cell: Row) -> float | None:
    """The number of a cell: the first of its exact values, or what is written; None where there is none."""
    words = cell["attributes"].get("data-v", cell["text"]).replace(",", "").split()
    try:
        value = float(words[0])
    except (ValueError, IndexError):
        return None
    return None if math.isnan(value) else value


def _moved(row: Row) -> Row:
    """A row whose links start from a page in FOLDER; for tables without names that a row rests on."""

    def moved(href: str) -> str:
        return f"{UP}report.html{href}" if href.startswith("#") else f"{UP}{href}" if href else ""

    cells = [
        cell | {"href": moved(cell["href"]), "rests": [(name, "") for name, _ in cell["rests"]]}
        for cell in row["cells"]
    ]
    return row | {"cells": cells}


def page_by_anchor(rows: Iterable[Row]) -> dict[str, str]:
    """Of `campaign.results.report.cells.cell_rows`."""
    return {row["anchor"]: row["page"] for row in rows if row["page"]}
