"""How often a verdict of `campaign compare` is wrong: comparisons whose truth is known. docs/compare.md prints more."""

from __future__ import annotations

import functools
from collections import Counter

import pytest

from tests.support.comparisons import NOISES, TRUTHS, simulated

COMPARISONS = 60
REPEATS = (2, 3, 8)
counted = functools.cache(functools.partial(simulated, comparisons=COMPARISONS, seed=7))


def at_most(share: float, count: int) -> float:
    """A number that a true share of `share` exceeds once in a thousand times."""
    from scipy import stats

    return float(stats.binom.ppf(0.999, count, share))


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("truth", TRUTHS[:2])
def test_where_nothing_is_beyond_the_tolerance_a_false_alarm_is_rare(truth: str, noise: str):
    for repeats in REPEATS:
        found: Counter[str] = counted(truth, noise, repeats)
        assert found["alarms"] <= at_most(0.05, COMPARISONS), (truth, noise, repeats)


@pytest.mark.parametrize("noise", NOISES)
def test_of_the_verdicts_better_and_worse_few_are_wrong(noise: str):
    for repeats in REPEATS:
        found = counted(TRUTHS[2], noise, repeats)
        assert found["shares"] / COMPARISONS <= 0.05, (noise, repeats)


@pytest.mark.parametrize("noise", NOISES)
def test_few_cells_beyond_the_tolerance_are_called_the_same(noise: str):
    for repeats in REPEATS:
        found = counted(TRUTHS[2], noise, repeats)
        assert found["wrong same"] <= at_most(0.05, found["apart"]), (noise, repeats)


def test_most_cells_that_differ_are_found_where_noise_is_small():
    found = counted(TRUTHS[2], NOISES[0], 3)
    assert found["decided"] >= 0.6 * found["apart"]
    assert counted(TRUTHS[0], NOISES[0], 3)["same"] >= 0.8 * found["rows"]
