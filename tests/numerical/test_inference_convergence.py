"""From which S on the predictive distribution has settled: distances against scipy, their size against new draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from bnn.inference.convergence import GRID, SETTLED_TOLERANCE, convergence, distances, settled_draws
from bnn.records.columns import write_table
from bnn.records.inference import CONVERGENCE

VALUES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=30)


@given(VALUES, st.integers(1, 40), st.integers(0, 2**32))
def test_distances_are_those_of_scipy(values: list[float], size: int, seed: int) -> None:
    x, draws = np.array(values), len(values)
    counts = np.random.default_rng(seed).multinomial(size, np.full(draws, 1 / draws), size=3)
    expected = [wasserstein_distance(x, x, u_weights=row) for row in counts]
    np.testing.assert_allclose(distances(x, counts), expected, rtol=1e-9, atol=1e-12)


def test_distance_by_hand() -> None:
    """All: half at 0, half at 1. Three draws of four at 0 leave a quarter to be carried all the way."""
    assert distances(np.array([1.0, 0.0]), np.array([[1, 3], [2, 2], [0, 4]])).tolist() == [0.25, 0, 0.5]


@given(st.integers(0, 2**32), st.integers(11, 60), st.integers(1, 4))
def test_a_mean_is_never_further_off_than_the_distribution(seed: int, draws: int, images: int) -> None:
    of_truth = np.random.default_rng(seed).beta(0.5, 0.2, size=(draws, images))
    table = convergence(of_truth, seed=seed, subsets=20)
    assert table["draws"].tolist() == [size for size in GRID if size < draws]
    assert (table["error_mean"] <= table["distance"] + 1e-12).all()
    assert (table["distance_low"] <= table["distance_high"]).all()
    assert table["distance"].between(0, 1).all()
    again = convergence(of_truth[:, ::-1], seed=seed, subsets=20)
    pd.testing.assert_frame_equal(again, table, rtol=1e-9)


def test_distances_are_those_of_new_draws_from_the_posterior() -> None:
    """Subsets without replacement would be too close by sqrt(1 - S / draws): 32% at 600 of 800."""
    generator = np.random.default_rng(5)
    table = convergence(generator.beta(2, 1, size=(800, 20)), grid=(50, 600))
    posterior = generator.beta(2, 1, size=50_000)
    for row in table.itertuples():
        fresh = [wasserstein_distance(generator.beta(2, 1, size=row.draws), posterior) for _ in range(200)]
        errors = [abs(generator.beta(2, 1, size=row.draws).mean() - 2 / 3) for _ in range(2000)]
        assert row.distance == pytest.approx(np.mean(fresh), rel=0.1)
        assert row.error_mean == pytest.approx(np.mean(errors), rel=0.1)


def test_the_interval_is_that_of_the_mean_over_images_of_the_same_draws() -> None:
    """Images alike tell no more than one of them: the interval does not shrink."""
    one = np.random.default_rng(2).random((120, 1))
    single, many = convergence(one), convergence(np.repeat(one, 30, axis=1))
    pd.testing.assert_frame_equal(many, single, rtol=1e-9)
    assert (single["distance_low"] < 0.8 * single["distance"]).all()
    assert (single["distance_high"] > 1.2 * single["distance"]).all()


def test_a_row_depends_on_seed_and_size_alone() -> None:
    of_truth = np.random.default_rng(0).random((60, 2))
    whole, part = convergence(of_truth), convergence(of_truth, grid=[50])
    pd.testing.assert_frame_equal(part, whole.tail(1).reset_index(drop=True), check_exact=True)
    assert (convergence(of_truth, seed=1)["distance"] != whole["distance"]).all()


def test_draws_alike_settle_at_once() -> None:
    table = convergence(np.full((500, 3), 0.3, dtype=np.float32))
    assert (table["distance_high"] == 0).all()
    assert table["error_mean"].max() < 1e-12
    assert settled_draws(table) == 10


def test_a_wide_posterior_settles_where_theory_says() -> None:
    """Draws that are 0 or 1 with equal chance: the distance is |share of ones - 1/2|, its 97.5% quantile 2.24 sigma."""
    table = convergence((np.arange(4000) % 2)[:, None].astype(float), grid=GRID[2:], subsets=2000)
    expected = 2.2414 * 0.5 / np.sqrt(table["draws"])
    np.testing.assert_allclose(table["distance_high"], expected, rtol=0.15)
    assert settled_draws(table) is None
    assert settled_draws(table, 0.05) == 1000
    assert settled_draws(table, 0.1) == 200


def rows(high: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"draws": GRID[: len(high)], "distance_high": high})
    return frame.sample(frac=1, random_state=0)  # the order of rows is no part of the table


@pytest.mark.parametrize(
    ("high", "settled"),
    [
        ([0.03, 0.02, 0.009, 0.005], 50),
        ([0.009, 0.02, 0.009, 0.005], 50),  # below, above again: settled only from the last crossing on
        ([0.03, 0.005, 0.005, 0.02], None),
        ([0.03, SETTLED_TOLERANCE, 0.009], 50),  # at the tolerance is not below it
        ([0.005, np.nan, 0.005], 50),
        ([0.001, 0.001], 10),
        ([], None),
    ],
)
def test_settled_draws(high: list[float], settled: int | None) -> None:
    assert settled_draws(rows(high)) == settled


def test_the_table_fits_its_record_with_few_draws_too(tmp_path: Path) -> None:
    for draws, lines in ((1, 0), (10, 0), (11, 1), (51, 3)):
        table = convergence(np.random.default_rng(0).random((draws, 2)).astype(np.float32))
        assert len(table) == lines
        assert {name: str(kind) for name, kind in table.dtypes.items()} == {c.name: c.type for c in CONVERGENCE.columns}
        write_table(table, tmp_path / "convergence.parquet", CONVERGENCE)


@pytest.mark.parametrize("shape", [(5,), (0, 3), (20, 0)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        convergence(np.zeros(shape))
