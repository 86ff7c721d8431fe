"""How often a verdict is wrong: 200 true and 200 false claims, planted over tables whose truth and noise are known.

The whole way is gone: rows of table `cells`, a ledger's expressions, verdicts. docs/claims.md prints the counts.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from campaign.results.claims.judge import AGREES, DIFFERS, UNDECIDED, allowed
from campaign.results.claims.ledger import Claim
from campaign.results.claims.rows import claim_rows
from tests.support.claims import cell, cells, claim, ledger

DOCS = Path(__file__).parents[2] / "docs" / "claims.md"
OF_EACH = 200
KINDS = ("value", "ratio", "ordering", "trend")
NOISE = (0.005, 0.02, 0.05)
NODES = (1, 2, 4, 8)
SPREAD = math.log(1.3)  # how far inside or outside of an open end a truth may lie
Row = dict[str, Any]


def planted(number: int, generator: np.random.Generator) -> Claim:
    """A claim on the point that is told by its batch size."""
    kind = KINDS[number % len(KINDS)]
    name, where = f"claim-{number}", {"batch_size": number}
    bnn, cnn = (
        {"table": "cells", "column": "throughput_steady", "where": {"kind": side, **where}} for side in ("bnn", "cnn")
    )
    relation = str(generator.choice(["at least", "at most"]))
    if kind == "value":
        expression: Row = {"function": "value", "of": bnn}
        given: Row = {"printed": {"value": f"{10 ** generator.uniform(1, 3):.1f}"}, "margin": 0.1}
    elif kind == "ratio":
        expression = {"function": "ratio", "of": bnn, "to": cnn}
        given = {"printed": {"value": f"{generator.uniform(0.3, 3):.2f}"}, "margin": 0.1}
    elif kind == "ordering":
        expression = {"function": "ratio", "of": bnn, "to": cnn}
        given = {"printed": None, "relation": relation, "margin": 0.0}
    else:
        expression = {"function": "slope", "of": bnn, "over": "nodes"}
        given = {"printed": None, "relation": relation, "bound": 1.5, "margin": 0.05}
    return claim(id=name, type=kind, expression=expression, **given)


def truth_of(one: Claim, true: bool, generator: np.random.Generator) -> float:
    """A number that the claim allows, or one that it does not; anywhere up to the edges, by logarithm."""
    low, high = allowed(one)
    if low > 0 and math.isfinite(high):
        width = math.log(high / low)
        if true:
            return low * math.exp(generator.uniform(0, width))
        away = math.exp(generator.uniform(0, width))
        return high * away if generator.random() < 0.5 else low / away
    away = math.exp(generator.uniform(0, SPREAD))
    inside = math.isfinite(high) == true  # whether it lies below the only edge
    edge = high if math.isfinite(high) else low
    return edge / away if inside else edge * away


def measured(number: int, one: Claim, truth: float, generator: np.random.Generator) -> list[Row]:
    """Rows of cells, of 2 to 8 repeats with lognormal noise."""
    sigma, repeats = float(generator.choice(NOISE)), int(generator.integers(2, 9))
    rows = []
    for repeat in range(1, repeats + 1):
        for nodes in NODES if one.type == "trend" else (1,):
            bnn = truth if one.type == "value" else 100 * truth ** (math.log2(nodes) if one.type == "trend" else 1)
            for kind, centre in (("bnn", bnn), ("cnn", 100.0)):
                value = centre * math.exp(sigma * generator.standard_normal())
                rows.append(cell(kind, repeat, value, batch_size=number, nodes=nodes))
    return rows


@functools.cache
def counts(seed: int = 1) -> dict[bool, dict[str, int]]:
    """Verdicts on the true claims and on the false ones."""
    generator = np.random.default_rng(seed)
    claims, truths, rows = [], {}, []
    for number in range(1, 2 * OF_EACH + 1):
        one = planted(number, generator)
        claims.append(one)
        truths[one.id] = number % 2 == 1 if number <= OF_EACH else number % 2 == 0
        rows += measured(number, one, truth_of(one, truths[one.id], generator), generator)
    found = {true: dict.fromkeys((AGREES, UNDECIDED, DIFFERS), 0) for true in (True, False)}
    hardware = {"big": {"name": "big", "sites": ["toy"]}}
    for row in claim_rows(ledger(claims=tuple(claims), hardware=hardware), cells(*rows)):
        found[truths[row["id"]]][row["verdict"]] += 1
    return found


def test_a_wrong_verdict_is_given_in_5_of_100_at_most():
    found = counts()
    assert [sum(of.values()) for of in found.values()] == [OF_EACH, OF_EACH]
    assert found[False][AGREES] <= 0.05 * OF_EACH
    assert found[True][DIFFERS] <= 0.05 * OF_EACH


def test_most_claims_are_decided():
    found = counts()
    assert found[True][AGREES] >= OF_EACH / 2
    assert found[False][DIFFERS] >= OF_EACH / 2


def test_the_docs_print_these_counts():
    for true, words in ((True, "true"), (False, "false")):
        found = counts()[true]
        line = f"| {OF_EACH} {words} claims | {found[AGREES]} | {found[UNDECIDED]} | {found[DIFFERS]} |"
        assert line in DOCS.read_text(), line
