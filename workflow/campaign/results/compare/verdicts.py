"""The verdict on each row: a stated test on its interval, corrected for how many rows there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from campaign.results.compare.metrics import HIGHER
from campaign.results.compare.ratios import MOST_WRONG, adjusted
from campaign.results.compare.schema import BETTER, SAME, UNDECIDED, WORSE

Row = dict[str, Any]


def judge(rows: list[Row]) -> None:
    """Put verdicts into rows, and adjust their chances for how many there are."""
    judged = [row for row in rows if not math.isnan(row["ratio_low"])]
    for row, value in zip(judged, adjusted([row["chance"] for row in judged]), strict=True):
        row["chance"] = value
    for row in rows:
        row["verdict"], reason = verdict(row)
        row["reason"] = row["reason"] or reason


def verdict(row: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict on a row with its adjusted chance, and why it is none."""
    low, high = row["ratio_low"], row["ratio_high"]
    if math.isnan(low):
        return UNDECIDED, ""
    if row["same_from"] <= low and high <= row["same_to"]:
        return SAME, ""
    if low <= row["same_to"] and high >= row["same_from"]:
        return UNDECIDED, "the interval holds an edge of the tolerance"
    if abs(math.log(row["ratio"])) <= math.log1p(row["noise_floor"]):
        return UNDECIDED, "beyond the tolerance, but not above the noise floor"
    if row["chance"] > MOST_WRONG:
        return UNDECIDED, "beyond the tolerance, but among so many rows one may be so by chance"
    is_higher = row["ratio"] > row["same_to"]
    return (BETTER if is_higher == (row["better"] == HIGHER) else WORSE), ""
