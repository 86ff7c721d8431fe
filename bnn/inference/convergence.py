"""From which number of draws S on has the predictive distribution settled? Tests the paper's "400" for a posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bnn.records.inference import CONVERGENCE

GRID = (10, 20, 50, 100, 200, 400, 1000, 2000, 4000, 10_000, 20_000, 40_000)
SUBSETS = 100
# One point of probability: less than can be seen in a density plot, or could turn any but the closest decision.
SETTLED_TOLERANCE = 0.01


def distances(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """1-Wasserstein distance of each subset of `values` to all of them: the area between the two step functions.

    `values`: float (draws,); `counts`: integers (subsets, draws), how often each draw is in each subset; every subset
    of one size. Returns (subsets,), as scipy.stats.wasserstein_distance would for one subset after another.
    """
    order = np.argsort(values)
    size, draws = counts[0].sum(), len(values)
    # Between the k-th and the next smallest value the distribution functions are constant.
    of_subset = np.cumsum(counts[:, order[:-1]], axis=1) / size
    of_all = np.arange(1, draws) / draws
    return np.abs(of_subset - of_all) @ np.diff(values[order])


def convergence(
    of_truth: np.ndarray, *, seed: int = 0, grid: Sequence[int] = GRID, subsets: int = SUBSETS
) -> pd.DataFrame:
    """The table CONVERGENCE: one row per S of `grid` below the number of draws; empty where that is 10 or less.

    `of_truth`: the true class's softmax values, (draws, images). Subsets are drawn with replacement (a bootstrap): the
    distances are those of S new draws from the distribution that all the draws stand for, whereas subsets without
    replacement would come closer and closer to the whole just because they become the whole.
    A subset is of the same draws for all images, since a draw of the weights is one for all of them. A row depends on
    `seed` and S, not on the rest of the grid. Memory goes with subsets x draws, time with that x images x rows: some
    hundred images are enough.

    Raises ValueError when `of_truth` is not two-dimensional or is empty.
    """
    if of_truth.ndim != 2 or not of_truth.size:
        raise ValueError(f"softmax values {of_truth.shape}, expected (draws, images)")
    values = of_truth.astype(np.float64)
    draws, images = values.shape
    rows = []
    for size in grid:
        if size >= draws:
            continue
        generator = np.random.default_rng((seed, size))
        counts = generator.multinomial(size, np.full(draws, 1 / draws), size=subsets)
        of_subset = sum(distances(values[:, image], counts) for image in range(images)) / images
        error = np.abs(counts @ values / size - values.mean(axis=0)).mean()
        low, high = np.quantile(of_subset, (0.025, 0.975))
        rows.append((size, of_subset.mean(), low, high, error))
    types = {column.name: column.type for column in CONVERGENCE.columns}
    return pd.DataFrame(rows, columns=CONVERGENCE.names).astype(types)


def settled_draws(table: pd.DataFrame, tolerance: float = SETTLED_TOLERANCE) -> int | None:
    """Smallest S of a table CONVERGENCE from which on `distance_high` stays below `tolerance`; None: none does."""
    settled = None
    for row in table.sort_values("draws", ascending=False).itertuples():
        if not row.distance_high < tolerance:
            break
        settled = int(row.draws)
    return settled
