"""The 95% intervals hold the median in 95% of the cases: a small version of the table in docs/intervals.md."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bnn import metrics
from bnn.metrics import log_intervals, ratio_interval, repeats_interval, variance_inflation
from tests.support.coverage import ALL_PAIRS, CORRELATED, INDEPENDENT, coverage, held_at_once, percentile_bootstrap

POSITIVE = st.floats(1e-6, 1e6)


@pytest.mark.parametrize("noise", INDEPENDENT.values())
@pytest.mark.parametrize("count", [2, 3, 5, 6, 7, 10, 20, 30])
def test_of_independent_values_95_in_100_hold_the_median(noise: str, count: int) -> None:
    assert 0.93 <= coverage(noise, count, 6000, seed=3) <= 0.985


@pytest.mark.parametrize(("noise", "least"), list(zip(CORRELATED.values(), (0.91, 0.86), strict=True)))
def test_autocorrelation_is_corrected_where_there_are_values_enough(noise: str, least: float) -> None:
    assert coverage(noise, 20, 6000) >= least


@pytest.mark.parametrize(("noise", "least"), zip(ALL_PAIRS.values(), (0.93, 0.93, 0.93, 0.88), strict=True))
def test_intervals_of_all_pairs_hold_at_once(noise: str, least: float) -> None:
    assert held_at_once(noise, settings=4, repeats=3, studies=1000) >= least


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_an_interval_of_a_mean_holds_it_in_95_of_100_cases(count: int) -> None:
    random = np.random.default_rng(count)
    for draw, mean, least, most in (
        (lambda: random.normal(-1, 0.1, count), -1.0, 0.93, 0.97),
        (lambda: random.exponential(1.0, count), 1.0, 0.85, 0.95),
    ):
        found = [metrics.mean_interval(draw().tolist()) for _ in range(3000)]
        assert least <= np.mean([each.low <= mean <= each.high for each in found]) <= most


def test_the_percentile_bootstrap_would_not_do() -> None:
    assert percentile_bootstrap(7) == 1 - 2 * 8 / 128


def test_order_statistics_by_hand() -> None:
    """Seven values alternating about their median: ranks 1 and 2 cover 98.4% and 87.5%."""
    values = [3.0, 5.0, 2.0, 6.0, 1.0, 7.0, 4.0]
    assert variance_inflation(np.log(values)[None]).tolist() == [1.0]
    found = repeats_interval(values)
    share = (126 / 128 - 0.95) / (126 / 128 - 112 / 128)
    weight = 6 * share / (1 + 5 * share)
    low, high = 2**weight, 7 ** (1 - weight) * 6**weight
    assert (found.value, found.low, found.high) == pytest.approx((4.0, low, high))
    assert found.method == "order statistics of the median"


def test_a_trend_widens_the_interval() -> None:
    random = np.random.default_rng(0).permutation(20) + 10.0
    drifting, shuffled = repeats_interval(np.sort(random).tolist()), repeats_interval(random.tolist())
    assert drifting.high / drifting.low > 1.3 * shuffled.high / shuffled.low


@given(st.lists(POSITIVE, min_size=2, max_size=30))
def test_the_value_lies_within_and_a_ratio_turned_round_is_its_reciprocal(values: list[float]) -> None:
    found, turned = repeats_interval(values), repeats_interval([1 / value for value in values])
    assert found.low <= found.value <= found.high
    assert (turned.value, turned.low, turned.high) == pytest.approx((1 / found.value, 1 / found.high, 1 / found.low))
    assert min(values) * (1 - 1e-9) <= found.value <= max(values) * (1 + 1e-9)


@given(st.integers(2, 30), POSITIVE, POSITIVE)
def test_equal_values_have_a_point_for_an_interval(count: int, value: float, factor: float) -> None:
    found = ratio_interval([value * factor] * count, [value] * count)
    assert (found.low, found.high) == pytest.approx((found.value, found.value))


@given(st.lists(POSITIVE, min_size=6, max_size=30))
def test_many_samples_at_once_are_as_one_by_one(values: list[float]) -> None:
    logs = np.log([values, values[::-1]])
    one = np.concatenate([log_intervals(logs[:1]), log_intervals(logs[1:])], axis=1)
    assert np.allclose(log_intervals(logs), one)


def test_few_values_have_students_interval() -> None:
    found = repeats_interval([1.0, 2.0, 4.0, 8.0, 16.0])
    half = stats.t.ppf(0.975, 4) * math.log(2) * math.sqrt(2.5 / 5)
    assert math.log(found.high / found.value) == pytest.approx(half)
    assert found.method == metrics.T_ON_LOG
