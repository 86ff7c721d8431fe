"""The slowest of many ranks: against distributions whose expected maximum is known, and what has to hold of any."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign.results.projection.stragglers import FEWEST, Spread, between_ranks

samples = st.lists(st.floats(-1, 1), min_size=FEWEST, max_size=80).map(np.array)


def exponential(count: int, seed: int) -> Spread:
    return Spread(np.random.default_rng(seed).standard_exponential(count), apart=True)


@pytest.mark.parametrize("ranks", [2, 64, 4096, 131072])
def test_of_an_exponential_the_expected_maximum_comes_back(ranks: int) -> None:
    truth = math.fsum(1 / j for j in range(1, ranks + 1)) - 1  # beyond the mean
    estimates = [exponential(500, seed).excess(ranks) for seed in range(40)]
    assert np.mean([each.seconds for each in estimates]) == pytest.approx(truth, rel=0.05)
    held = np.mean([each.low <= truth <= each.high for each in estimates])
    assert ranks == 2 or held >= 0.8  # of two ranks nearly nothing is tail, which the interval is of


def test_of_a_uniform_distribution_few_ranks_are_as_late_as_the_formula_says() -> None:
    uniform = Spread(np.linspace(0, 1, 1001), apart=True)
    for ranks in (2, 4, 8):
        assert uniform.excess(ranks).seconds == pytest.approx(ranks / (ranks + 1) - 0.5, rel=0.03)


@given(samples, st.integers(1, 10**5), st.integers(1, 10))
def test_more_ranks_are_never_less_late(values: np.ndarray, ranks: int, more: int) -> None:
    spread = Spread(values, apart=True)
    few, many = spread.excess(ranks), spread.excess(ranks * more)
    assert 0 <= few.seconds <= many.seconds + 1e-9
    assert few.low <= few.seconds + 1e-12
    assert few.seconds <= few.high + 1e-12


@given(samples, st.integers(2, 1000))
def test_what_may_be_common_to_all_ranks_may_make_none_late(values: np.ndarray, ranks: int) -> None:
    alone, apart = Spread(values, apart=False).excess(ranks), Spread(values, apart=True).excess(ranks)
    assert alone.low == 0
    assert (alone.seconds, alone.high) == (apart.seconds, apart.high)


def test_what_all_ranks_have_in_common_is_no_straggling() -> None:
    common = np.random.default_rng(1).standard_exponential((200, 1))
    assert np.abs(between_ranks(np.repeat(common, 4, axis=1))).max() < 1e-12
    own = np.random.default_rng(2).standard_normal((20000, 2))
    assert between_ranks(own + 5 * common.mean()).std() == pytest.approx(1, rel=0.02)


def test_too_few_steps_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match=f"{FEWEST - 1} values, {FEWEST} needed"):
        Spread(np.arange(FEWEST - 1.0), apart=True)


def test_equal_steps_make_no_rank_late() -> None:
    assert Spread(np.ones(100), apart=True).excess(1024) == (0, 0, 0)
