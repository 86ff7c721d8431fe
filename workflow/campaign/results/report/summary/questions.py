"""The questions that a reader comes with, and the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from campaign.results.figures.catalogue import not_measured
from campaign.results.figures.sites import OtherSite
from campaign.results.report.summary.asked import asked
from campaign.results.report.summary.found import found
from campaign.results.report.summary.limits import limits
from campaign.results.report.summary.missing import missing
from campaign.results.report.summary.statement import Statement, Tables
from campaign.results.report.summary.trust import trust

# Names for machines, and the headings.
QUESTIONS = {
    "asked": "What was asked",
    "found": "What was found",
    "limits": "What limits it",
    "trust": "How far to trust it",
    "missing": "What was not measured",
}


def summary(
    plan: dict[str, Any],
    tables: Tables,
    absent: Mapping[str, str] | None = None,
    *,
    others: Sequence[OtherSite] = (),
) -> dict[str, list[Statement]]:
    """Each question of QUESTIONS with one sentence or more.

    `tables` may lack any of campaign.results.tables.schemas.OF_REPORT, and each may be empty: a sentence says so.
    `absent`: figures that are not drawn, with the reason; by default those that the plan has no data for, with the
    sites beside this one.
    """
    return {
        "asked": asked(plan, tables),
        "found": found(tables),
        "limits": limits(tables),
        "trust": trust(tables),
        "missing": missing(tables, not_measured(plan, others) if absent is None else absent),
    }
