"""Reads a CSV file of allreduce times, and refuses what a curve cannot be made of, by file and row."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bnn.digits import decimal
from bnn.errors import UserError
from bnn.regular import open_regular
from campaign.results.projection.curves import Curve

COLUMNS = ("node", "library", "nodes", "ranks", "bytes", "microseconds")
COMPUTING = "computing"  # a column that may be there
LEAST, MOST = 1e-3, 1e12  # microseconds that a measurement can come to: a nanosecond, eleven days
Key = tuple[str, str]  # node kind, library


class Row(NamedTuple):
    """A measurement, and the line of the file that it ends on (the header's is 1)."""

    line: int
    key: Key
    nodes: int
    ranks: int
    size: int
    microseconds: float
    computing: float | None  # None: the file has no such column, or nothing in it


def read_curves(path: Path) -> list[Curve]:
    """The curves of a file, in its order: node kind, library, nodes, ranks of all nodes, bytes, microseconds.

    Rows of a curve ascend in ranks, and in bytes within a rank count; curves may alternate. Column `computing` may be
    there: what is left of the speed of computing beside an allreduce. Other columns are not read.
    Raises UserError naming file and row where a column is missing, a number is none, not whole, not positive or not
    finite, ranks do not divide among the nodes, a row is repeated or out of order, a rank count lies on two numbers of
    nodes, or a curve has one scale only.
    """
    curves: dict[Key, list[Row]] = defaultdict(list)
    for row in _rows(path):
        before = curves[row.key]
        if before:
            _check_order(path, before[-1], row)
        before.append(row)
    if not curves:
        raise UserError(f"{path}: no measurements below the header")
    return [_curve(path, key, rows) for key, rows in curves.items()]


def _rows(path: Path) -> list[Row]:
    try:
        with TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            missing = [name for name in COLUMNS if header.count(name) != 1]
            if missing:
                raise UserError(f"{path}: row 1: needs the column {missing[0]} once (columns: {','.join(COLUMNS)})")
            if header.count(COMPUTING) > 1:
                raise UserError(f"{path}: row 1: has the column {COMPUTING} more than once")
            places = [header.index(name) for name in COLUMNS]
            beside = header.index(COMPUTING) if COMPUTING in header else None
            found = []
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise UserError(
                        f"{path}: row {reader.line_num}: {len(fields)} fields, the header has {len(header)}"
                    )
                row = [fields[place].strip() for place in places]
                found.append(_row(path, reader.line_num, row, "" if beside is None else fields[beside].strip()))
            return found
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: row {reader.line_num}: not CSV ({error})") from None


def _row(path: Path, line: int, fields: list[str], computing: str) -> Row:
    place = f"{path}: row {line}"
    for name, text in zip(COLUMNS[:2], fields, strict=False):
        if not (text and text.isprintable()):
            raise UserError(f"{place}: {name} {text!r} is no name")
    nodes, ranks, size = (_whole(place, name, text) for name, text in zip(COLUMNS[2:5], fields[2:5], strict=True))
    if ranks % nodes:
        raise UserError(f"{place}: {ranks} ranks cannot be spread evenly over {nodes} nodes")
    try:
        microseconds = decimal(fields[5])
    except ValueError:
        raise UserError(f"{place}: microseconds {fields[5]!r} is no number") from None
    if not (math.isfinite(microseconds) and microseconds > 0):
        raise UserError(f"{place}: microseconds {fields[5]} is no positive, finite time")
    if not LEAST <= microseconds <= MOST:
        raise UserError(f"{place}: microseconds {fields[5]} is no time of an allreduce ({LEAST:g} to {MOST:g})")
    return Row(line, (fields[0], fields[1]), nodes, ranks, size, microseconds, _share(place, computing))


def _share(place: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = decimal(text)
    except ValueError:
        raise UserError(f"{place}: {COMPUTING} {text!r} is no number") from None
    if not 0 <= value <= 1:
        raise UserError(f"{place}: {COMPUTING} {text} is no share: 0 to 1")
    return value


def _whole(place: str, name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) > 0):
        raise UserError(f"{place}: {name} {text!r} is no positive whole number")
    return int(text)


def _check_order(path: Path, before: Row, row: Row) -> None:
    place = f"{path}: row {row.line}"
    what = f"{' '.join(row.key)}, {row.ranks} ranks, {row.size} bytes"
    if row.ranks == before.ranks and row.nodes != before.nodes:
        raise UserError(f"{place}: {what}: on {row.nodes} nodes here, on {before.nodes} in row {before.line}")
    if (row.ranks, row.size) == (before.ranks, before.size):
        raise UserError(f"{place}: {what}: measured in row {before.line} already")
    if (row.ranks, row.size) < (before.ranks, before.size):
        raise UserError(
            f"{place}: {what}: out of order after row {before.line}; sort by ranks, then bytes, and leave no row twice"
        )
    if row.nodes < before.nodes:
        raise UserError(f"{place}: {what}: on {row.nodes} nodes, {before.ranks} ranks on {before.nodes}")


def _curve(path: Path, key: Key, rows: list[Row]) -> Curve:
    scales = {row.ranks: row.nodes for row in rows}
    place = f"{path}: row {rows[0].line}: {' '.join(key)}"
    if len(scales) == 1:
        raise UserError(f"{place}: measured at one scale only ({rows[0].ranks} ranks); a curve needs more")
    times = {(row.ranks, row.size): row.microseconds for row in rows}
    sizes = sorted({row.size for row in rows})
    whole = tuple(size for size in sizes if all((ranks, size) in times for ranks in scales))
    if not whole:
        raise UserError(f"{place}: no number of bytes was measured at all of its rank counts")
    table = np.array([[times[ranks, size] for size in whole] for ranks in scales])
    partial = tuple(size for size in sizes if size not in whole)
    shares = {(row.ranks, row.size): row.computing for row in rows}
    left = np.array([[shares[ranks, size] for size in whole] for ranks in scales], dtype=float)
    computing = None if np.isnan(left).any() else left  # of all sizes and scales, or of none
    return Curve(*key, tuple(scales), tuple(scales.values()), whole, table, partial, computing)
