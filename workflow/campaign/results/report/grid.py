"""A table of the page: headings with what they mean, cells of text with the exact values behind them.

The text is for reading. Exact values are for sorting and for CSV files, whose columns are called as those of the
Parquet table that the page was made from.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from campaign.results.report.facets import facets

Row = dict[str, Any]
NOT_CLASSES = {"verdict", "strong", "rests"}  # looks that are elements


@dataclass(frozen=True)
class Column:
    """A column of the page.

    `key`: of the row's texts. `of`: columns of its record, with spaces between them, that the text is made of (several
    ones of numbers only); empty where no table has it. `look`: classes of the style sheet, `strong`, `verdict` (a text
    on a coloured ground), and `rests` (its text is a list of names with anchors). `meaning`: what it means, where the
    heading does not say so. Keys of further texts: `beside`, which follows; `tip`, shown when it is pointed at; `href`,
    where it leads, `anchor` being a place of the page; it leads nowhere where that is empty.
    """

    label: str
    key: str
    of: str = ""
    look: str = ""
    meaning: str = ""
    beside: str = ""
    tip: str = ""
    href: str = ""


def grid(name: str, caption: str, columns: Sequence[Column], rows: Iterable[Row]) -> Row:
    """What the template shows: `name`, `caption`, `columns`, `rows`.

    Each row is a dictionary of texts by the columns' keys, which may have its `record` (a row of a Parquet table), the
    `records` that it rests on where they are several, `id`, `title`, `claim` and `index`, by which a script finds it.
    """
    made = [_row(columns, row) for row in rows]
    return {"name": name, "caption": caption, "columns": columns, "rows": made, "folded": 0}


def _row(columns: Sequence[Column], row: Row) -> Row:
    record = row.get("record", {})
    rests_on = row.get("records", [record])
    attributes = facets(rests_on, row.get("claim", ""))
    if "data-verdict" in attributes and "records" not in row and "verdict" in row:
        attributes["data-verdict"] = row["verdict"]  # of a job after training: the worse of its own and its cell's
    named = {key: row[key] for key in ("id", "title") if row.get(key)}
    if "index" in row:
        attributes["data-index"] = str(row["index"])
    return {"attributes": named | attributes, "cells": [_cell(column, row, record) for column in columns]}


def _cell(column: Column, row: Row, record: Mapping[str, Any]) -> Row:
    looks = set(column.look.split())
    rests_on = row[column.key] if "rests" in looks else []
    text = "" if "rests" in looks else str(row[column.key])
    classes = " ".join(sorted(looks - NOT_CLASSES - (set() if text else {"wide"})))
    attributes = {"class": classes} if classes else {}
    if column.tip and row[column.tip]:
        attributes["title"] = row[column.tip]
    if column.of and (value := " ".join(exact(record[name]) for name in column.of.split())) != text:
        attributes["data-v"] = value
    place = row[column.href] if column.href else ""
    return {
        "text": text, "attributes": attributes, "strong": "strong" in looks, "rests": rests_on,
        "verdict": row.get("look", text) if "verdict" in looks else "",
        "href": f"#{place}" if place and column.href == "anchor" else place,
        "beside": row[column.beside] if column.beside else "",
    }  # fmt: skip


def exact(value: Any) -> str:
    """A value of a table as a CSV file has it: every digit that it takes to read the same number; empty: none."""
    if pd.isna(value):
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return str(value)
