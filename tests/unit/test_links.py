"""A link that was cut is found in the part of a step that it belongs to; what moved elsewhere or too little is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.metrics import STEADY
from bnn.records.parts import PARTS
from tests.support.injections import FINE, NOISY, ROWS, WRONG
from tests.support.links import MARGIN, TOGETHER, judge

COST, STEPS = 0.3, 60
Link = dict[str, float]


def run(random: np.random.Generator, noise: float, moved: Link) -> pd.DataFrame:
    """Steps of two ranks whose parts take 5 ms, and those of `moved` so much more."""
    columns = [*(PARTS[name].column for name in (*ROWS, "late")), "seconds_hidden"]
    values = 0.005 + noise * random.standard_normal((2 * STEPS, len(columns)))
    rows = pd.DataFrame(values, columns=columns)
    for column, more in moved.items():
        rows[column] += more
    return rows.assign(step=np.repeat(np.arange(STEPS), 2), rank=np.tile([0, 1], STEPS), phase=STEADY)


def verdicts(random: np.random.Generator, slow: Link, lands: str, noise: float = 1e-4) -> dict[tuple[str, int], str]:
    """Of three runs over each link, in turn."""
    runs = [(run(random, noise, {}), run(random, noise, slow)) for _ in range(3)]
    rows = judge([fast for fast, _ in runs], [late for _, late in runs], COST, lands)
    assert len({(row["part"], row["rank"]) for row in rows}) == len(rows)
    return {(row["part"], row["rank"]): row["verdict"] for row in rows}


def of(found: dict[tuple[str, int], str], part: str) -> set[str]:
    return {verdict for (name, _), verdict in found.items() if name == part}


numbers = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=5)
@given(numbers)
def test_a_cut_comes_back_in_the_transfer(random: np.random.Generator) -> None:
    found = verdicts(random, {"seconds_transfer": COST}, "transfer")
    assert of(found, "transfer") == {FINE}
    assert not of(found, TOGETHER)
    assert of(found, "hidden") | of(found, "late")
    less = verdicts(random, {"seconds_transfer": COST * (1 - 2 * MARGIN)}, "transfer")
    assert of(less, "transfer") == {WRONG}


@settings(max_examples=5)
@given(numbers, st.floats(0, 1))
def test_what_hides_of_it_counts_where_blocks_leave_early(random: np.random.Generator, share: float) -> None:
    split = {"seconds_transfer": COST * share, "seconds_hidden": COST * (1 - share)}
    found = verdicts(random, split, TOGETHER)
    assert of(found, TOGETHER) == {FINE}
    assert not of(found, "transfer") | of(found, "hidden")


@settings(max_examples=5)
@given(numbers, st.sampled_from(["backward", "negotiation", "late", "between"]))
def test_what_moves_beside_it_is_told(random: np.random.Generator, part: str) -> None:
    moved = {"seconds_transfer": COST, PARTS[part].column: 0.002}
    assert of(verdicts(random, moved, "transfer"), part) == {WRONG}


def test_what_is_as_loud_as_the_cut_is_too_noisy() -> None:
    random = np.random.default_rng(0)
    found = verdicts(random, {"seconds_transfer": COST}, "transfer", noise=COST)
    assert of(found, "transfer") <= {NOISY, WRONG}


def test_steps_that_one_run_lacks_are_left_out() -> None:
    random = np.random.default_rng(1)
    runs = [(run(random, 1e-4, {}), run(random, 1e-4, {"seconds_transfer": COST})) for _ in range(2)]
    short = runs[0][1]
    rows = judge([fast for fast, _ in runs], [short[short["step"] < 40], runs[1][1]], COST, "transfer")
    assert {row["verdict"] for row in rows if row["part"] == "transfer"} == {FINE}
    assert all(row["moved"] == pytest.approx(0, abs=1e-3) for row in rows if row["part"] == "input")
