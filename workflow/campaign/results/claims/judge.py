"""The verdict on a claim: a stated test on the 95% interval of what was measured. docs/claims.md says it in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bnn.metrics import Interval
from campaign.results.claims.expressions import Estimate
from campaign.results.claims.ledger import BOUNDED, Claim
from campaign.results.claims.numbers import SCALES, changed, printed

AGREES, DIFFERS, UNDECIDED = "agrees", "differs", "undecided"
HOLDS_HERE, FAILS_HERE = "holds here", "does not hold here"
NOT_COMPARABLE, NOT_TESTED = "not comparable", "not tested"
CONFIRMING, REFUTING = (AGREES, HOLDS_HERE), (DIFFERS, FAILS_HERE)
VERDICTS = (AGREES, DIFFERS, UNDECIDED, HOLDS_HERE, FAILS_HERE, NOT_COMPARABLE, NOT_TESTED)
MOST_REPEATS = 1000
SAME_HARDWARE = "same hardware"


@dataclass(frozen=True)
class Verdict:
    """One of VERDICTS, and why, in words."""

    verdict: str
    reason: str


def allowed(claim: Claim) -> tuple[float, float]:
    """What a claim allows, as measured, its margin included: from, to (infinite where it has no such end)."""
    wider = 1 + claim.margin
    if claim.type in BOUNDED:
        return (claim.bound / wider, math.inf) if claim.relation == "at least" else (0.0, claim.bound * wider)
    said = changed(printed(claim.printed), SCALES[claim.scale][1])
    return said.low / wider, said.high * wider


def judge(claim: Claim, found: Estimate, same_hardware: bool) -> Verdict:
    """Judge by where the interval lies: within what is allowed, beyond it, or neither.

    Both ends of a 95% interval within the margin is two one-sided tests at 2.5% each; so is an ordering's one end.
    Arithmetic on printed numbers can disprove a claim, but it never makes one agree: it needs cells for that.
    """
    if found.missing:
        return Verdict(NOT_TESTED, f"{found.missing}; what it would take: {claim.command}")
    if found.unlike:
        return Verdict(NOT_COMPARABLE, found.unlike)
    if claim.scope == SAME_HARDWARE and not same_hardware:
        where = ", ".join(found.sites) or "this site"
        return Verdict(NOT_COMPARABLE, f"a number of {claim.hardware}, measured on {where}")
    here = claim.scope != "anywhere" and not same_hardware
    low, high = allowed(claim)
    at = found.interval
    if math.isnan(at.low) or math.isnan(at.high):
        return Verdict(UNDECIDED, "one repeat has no interval: at least 2 would have one")
    if claim.type == "count" and claim.margin == 0:
        low, high = _whole_numbers(low, high)
    if low <= at.low and at.high <= high:
        if found.exact and not found.cells:
            return Verdict(NOT_TESTED, f"arithmetic comes to {_words(claim)}, but no cell was measured for it")
        return Verdict(HOLDS_HERE if here else AGREES, f"all of the interval is {_words(claim)}")
    if at.high < low or at.low > high:
        known = f"; known of it: {claim.why}" if claim.why else ""
        return Verdict(FAILS_HERE if here else DIFFERS, _by_how_much(at, low, high) + known)
    return Verdict(UNDECIDED, _what_would_decide(found, low, high))


def repeats_needed(at: Interval, repeats: int, low: float, high: float) -> int | None:
    """Least number of repeats whose t-interval, with the scatter seen, would lie on one side of the margin's edges.

    None: more than MOST_REPEATS, or the value lies on an edge.
    """
    from scipy import special

    edges = [math.log(edge) for edge in (low, high) if 0 < edge < math.inf]
    if repeats < 2 or not edges or at.low <= 0:
        return None
    room = min(abs(math.log(at.value) - edge) for edge in edges)
    half = (math.log(at.high) - math.log(at.low)) / 2
    scatter = half * math.sqrt(repeats) / special.stdtrit(repeats - 1, 0.975)
    counts = np.arange(repeats + 1, MOST_REPEATS + 1)
    enough = scatter * special.stdtrit(counts - 1, 0.975) / np.sqrt(counts) <= room
    return int(counts[enough.argmax()]) if enough.any() else None


def _whole_numbers(low: float, high: float) -> tuple[float, float]:
    """A printed count is exact: the whole number within its rounding, nothing beside it."""
    return math.ceil(low), math.floor(high)


def _words(claim: Claim) -> str:
    margin = f"{100 * claim.margin:g}%"
    if claim.type in BOUNDED:
        return f"{claim.relation} {claim.bound:g}, margin {margin}"
    return f"within {margin} of what is printed and its rounding"


def _by_how_much(at: Interval, low: float, high: float) -> str:
    below = at.high < low
    edge = low if below else high
    if not below and edge and at.value >= 2 * edge:
        return f"above what is allowed: {at.value / edge:,.3g} times its edge"
    share = 100 * abs(at.value / edge - 1) if edge else math.inf
    return f"{'below' if below else 'above'} what is allowed by {share:.3g}% of its edge"


def _what_would_decide(found: Estimate, low: float, high: float) -> str:
    at = found.interval
    if found.exact and found.cells:
        return f"its rows do not agree: from {at.low:.10g} to {at.high:.10g}"
    if found.exact:
        return "the numbers' rounding does not decide it"
    needed = repeats_needed(at, found.repeats, low, high)
    if needed is None:
        return f"the interval holds an edge of the margin, and {MOST_REPEATS} repeats would not decide it"
    return f"the interval holds an edge of the margin: about {needed} repeats would decide it, not {found.repeats}"
