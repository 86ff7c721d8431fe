"""What is said of a comparison as a whole: totals, how many verdicts may be wrong, exit code; and all of it as JSON."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from bnn.errors import UserError
from campaign.results.compare.ratios import MOST_WRONG
from campaign.results.compare.rows import Comparison
from campaign.results.compare.schema import BETTER, COMPARISON, VERDICTS, WORSE

FINE, SOMETHING_WORSE, REFUSED = 0, 1, 2
LOST = "Lost: valid in A, without a valid repeat in B"


def exit_code(found: Comparison) -> int:
    """0: nothing is worse; 1: something is, or was lost; 2: cells were refused, or nothing could be judged."""
    if found.refused or not (estimable(found) or found.lost):
        return REFUSED
    return SOMETHING_WORSE if found.lost or any(row["verdict"] == WORSE for row in found.rows) else FINE


def estimable(found: Comparison) -> int:
    """Rows that have an interval."""
    return sum(not math.isnan(row["ratio_low"]) for row in found.rows)


def totals(found: Comparison) -> list[str]:
    """Lines on how many rows have each verdict, and on how many of these may be wrong."""
    count = Counter(row["verdict"] for row in found.rows)
    said = ", ".join(f"{count[name]} {name}" for name in VERDICTS)
    lines = [f"B against A, {len(found.rows)} rows: {said}" + (f"; {len(found.lost)} lost" if found.lost else "")]
    if decided := count[WORSE] + count[BETTER]:
        lines.append(
            f"Of the {decided} that are worse or better, {MOST_WRONG:.0%} are wrong in the mean at most (Benjamini and "
            f"Hochberg over {estimable(found)} rows); same: its 95% interval is within the tolerance"
        )
    without = len(found.rows) - estimable(found)
    if without:
        lines.append(f"{without} rows have no interval: they are undecided, whatever their ratio is")
    return lines


def without_row(found: Comparison) -> list[tuple[str, list[str]]]:
    """Cells that one side alone has, with what is said of them; only lists that have some."""
    lists = ((LOST, found.lost), *((f"Only in {name}", cells) for name, cells in found.only.items()))
    return [(title, cells) for title, cells in lists if cells]


def refusal(found: Comparison) -> str:
    """The line on cells that were refused; empty without any."""
    if not found.refused:
        return ""
    first, keys = found.refused[0], sorted({key for each in found.refused for key in each["keys"]})
    more = f", and {len(found.refused) - 1} more" if len(found.refused) > 1 else ""
    accept = " ".join(f"--accept {key}" for key in keys)
    return (
        f"not the same was measured in {first['cell']}: {first['difference']}{more} (to compare all the same: {accept})"
    )


def check_judged(found: Comparison) -> None:
    """Raise UserError where there is nothing to compare, or where nothing could be judged."""
    names = f"{found.a['folder']} and {found.b['folder']}"
    if not found.rows and not found.refused and not found.lost:
        raise UserError(f"{names}: no cell has a value of these metrics in both")
    if found.rows and not estimable(found) and not found.refused and not found.lost:
        raise UserError(f"{names}: nothing can be judged: it takes two repeats of a cell on both sides")


def as_json(found: Comparison) -> dict[str, Any]:
    """All of it, for programs; what is not there is null."""
    return {
        "schema": COMPARISON.name, "schema_version": COMPARISON.version, "a": found.a, "b": found.b,
        "rows": [
            {key: None if isinstance(row[key], float) and not math.isfinite(row[key]) else row[key]
             for key in COMPARISON.names}
            for row in found.rows
        ],
        "refused": found.refused, "accepted": found.accepted, "only_in_a": found.only["A"],
        "only_in_b": found.only["B"], "lost": found.lost, "environment": found.environment, "notes": found.notes,
        "totals": totals(found), "exit_code": exit_code(found),
    }  # fmt: skip
