"""Rows of the table `claims`: every claim of a ledger, judged by a campaign's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bnn.metrics import Interval
from campaign.results.claims.expressions import Estimate, estimate
from campaign.results.claims.judge import CONFIRMING, REFUTING, Verdict, judge
from campaign.results.claims.ledger import BOUNDED, Claim, Ledger
from campaign.results.claims.measures import Side, names_sites, selections
from campaign.results.claims.numbers import SCALES, changed, printed
from campaign.results.statistics import NO_INTERVAL
from campaign.results.tables.schemas import TABLES as SCHEMAS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
JUDGED, BESIDE = "judged", "beside"


def claim_rows(
    ledger: Ledger, tables: Mapping[str, pd.DataFrame], others: Sequence[Mapping[str, pd.DataFrame]] = ()
) -> list[Row]:
    """One row per claim in the ledger's order. `tables` by name; one that is not given has no rows.

    `others` are the tables of the sites beside this one: claims count them whose selections name sites.
    """
    together = _together([tables, *others]) if others else tables
    return [_row(claim, ledger, together if _of_sites(claim) else tables) for claim in ledger.claims]


def _together(sites: Sequence[Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    names = dict.fromkeys(name for tables in sites for name in tables)
    found = {name: [tables[name] for tables in sites if name in tables and len(tables[name])] for name in names}
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items() if parts}


def _of_sites(claim: Claim) -> bool:
    return any(names_sites(selection) for _, selection in selections(claim.expression))


def side_of(ledger: Ledger, name: str) -> Side:
    """What the ledger says of the side `judged` or `beside`."""
    given = ledger.sides[name]
    return Side(ledger.everywhere, given["variant"], {kind: given[kind] for kind in ("bnn", "cnn")})


def _row(claim: Claim, ledger: Ledger, tables: Mapping[str, pd.DataFrame]) -> Row:
    found = estimate(claim.expression, tables, side_of(ledger, JUDGED))
    beside = estimate(claim.expression, tables, side_of(ledger, BESIDE)) if _has_sides(claim) else Estimate()
    like = ledger.known if _of_sites(claim) else partial(ledger.measured_on, claim)  # what names sites takes no others
    same = bool(found.sites) and all(map(like, found.sites))
    verdict = _with_implementation(judge(claim, found, same), judge(claim, beside, same), ledger)
    said, ours, other = printed(claim.printed), _shown(claim, found), _shown(claim, beside)
    bounded = claim.type in BOUNDED
    least = claim.bound if claim.relation == "at least" else math.nan
    most = claim.bound if claim.relation == "at most" else math.nan
    return {
        "id": claim.id,
        "section": claim.section,
        "place": claim.at,
        "statement": claim.statement,
        "type": claim.type,
        "scope": claim.scope,
        "scale": claim.scale,
        "unit": unit_of(claim),
        "definition": claim.definition,
        "paper": said.value,
        "implied": bool((claim.printed or {}).get("implied")),
        "paper_low": least if bounded else said.low,
        "paper_high": most if bounded else said.high,
        "ours": ours.value,
        "low": ours.low,
        "high": ours.high,
        "repeats": found.repeats,
        "beside": other.value,
        "beside_low": other.low,
        "beside_high": other.high,
        "margin": claim.margin,
        "margin_reason": claim.margin_reason,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "cells": "; ".join(found.cells),
        "ledger": ledger.name,
        "ledger_sha256": ledger.sha256,
    }


def _with_implementation(verdict: Verdict, beside: Verdict, ledger: Ledger) -> Verdict:
    """A verdict that refutes a claim says so where the side beside is within it: then the implementation decides."""
    if verdict.verdict not in REFUTING or beside.verdict not in CONFIRMING:
        return verdict
    names = " and ".join(" or ".join(ledger.sides[BESIDE][kind]) for kind in ("bnn", "cnn"))
    return Verdict(verdict.verdict, f"{verdict.reason}; the implementation decides: {names}, beside, are within it")


def unit_of(claim: Claim) -> str:
    """The unit of a claim's numbers on the scale on which they are printed: that of a column, where they are of one."""
    if claim.scale.startswith("percent") or claim.scale == "minutes":
        return claim.scale
    of = claim.expression.get("of", {}) if claim.expression["function"] in ("value", "same") else {}
    unit = SCHEMAS[of["table"]].unit(of["column"]) if of and "per" not in of else ""
    return " ".join(word for word in (claim.scale, unit) if word not in ("plain", "fraction", ""))


def _shown(claim: Claim, found: Estimate) -> Interval:
    """On the scale on which it is printed."""
    if math.isnan(found.interval.value):
        return NO_INTERVAL
    return changed(found.interval, SCALES[claim.scale][0])


def _has_sides(claim: Claim) -> bool:
    """Whether a selection leaves the variant open: only then are there two sides to it."""
    given = [selection for _, selection in selections(claim.expression)]
    return claim.expression["function"] != "best" and any("variant" not in one.get("where", {}) for one in given)
