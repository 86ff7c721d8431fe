"""What `campaign project` does: reads measurements, writes the table of projected times, says what was left out."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import pandas as pd

from bnn.errors import UserError
from bnn.records.columns import write_table
from campaign.io.files import os_errors_named
from campaign.results.projection.allreduce import ALLREDUCE_PROJECTION, not_askable, projection_rows
from campaign.results.projection.curves import Curve
from campaign.results.projection.read import read_curves
from campaign.results.projection.verdicts import INSIDE, boundaries

MOST_RANKS = 2**31 - 1  # MPI counts ranks in an int


def project_allreduce(measured: Path, ranks: str, out: Path) -> list[str]:
    """Write ALLREDUCE_PROJECTION to `out`; returns what there is to say: rank counts left out, jumps, and a sum.

    `ranks`: rank counts with commas between them. Raises UserError where they are no such list, or where one of them
    can be asked of no curve (measured already, fewer than measured, nodes not full), and as `read_curves` does.
    """
    counts = rank_counts(ranks)
    curves = read_curves(measured)
    with os_errors_named(out):
        if out.exists() and out.samefile(measured):
            raise UserError(f"{out}: --out is the file of measurements itself")
    left_out = [line for count in counts for line in _left_out(measured, curves, count)]
    frame = pd.DataFrame(projection_rows(curves, counts), columns=ALLREDUCE_PROJECTION.names)
    with os_errors_named(out):
        digest = hashlib.sha256(measured.read_bytes()).hexdigest()
        write_table(frame, out, ALLREDUCE_PROJECTION)
    inside = int((frame["verdict"] == INSIDE).sum())
    total = f"{len(frame)} points of {len(curves)} curves, {inside} of them {INSIDE}"
    jumps = [f"{measured}: {each.node} {each.library}: {line}" for each in curves for line in boundaries(each)]
    return [*left_out, *jumps, f"{out}: {total}; measurements: sha256 {digest[:12]}"]


def rank_counts(text: str) -> list[int]:
    """Rank counts of an option, ascending. Raises UserError for what is no list of different whole numbers."""
    return whole_numbers(text, "--ranks", "rank count")


def whole_numbers(text: str, option: str, what: str) -> list[int]:
    """Numbers of an option, ascending. Raises UserError for what is no list of different whole numbers."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) <= 10 and 0 < int(part) <= MOST_RANKS):
            raise UserError(f"{option}: {part!r} is no {what} (whole numbers from 1 on, with commas between them)")
    found = sorted(map(int, parts))
    for count, following in pairwise(found):
        if count == following:
            raise UserError(f"{option}: {count} is there twice")
    return found


def _left_out(path: Path, curves: list[Curve], ranks: int) -> list[str]:
    """A line per kind of node that has no answer. Raises UserError where none has one."""
    reasons = {(curve.node, curve.library): not_askable(curve, ranks) for curve in curves}
    if all(reasons.values()):
        (node, library), why = next(iter(reasons.items()))
        raise UserError(f"--ranks: {ranks}: no curve of {path} can be projected there; {node} {library}: {why}")
    said = dict.fromkeys((node, why) for (node, _), why in reasons.items() if why)
    return [f"{path}: {node}: {ranks} ranks left out: {why}" for node, why in said]
