"""How many training images each data set has: what a grid is checked against before anything runs."""

from __future__ import annotations

from typing import Any

from bnn.errors import UserError
from campaign.schema import did_you_mean

# Training images; the sizes that can be chosen are the defaults of the data set's option `size`.
TRAIN_SIZES = {
    "cifar10": 50_000,
    "mnist": 60_000,
    "mnist-sample": 4_000,
    "infinite-mnist": 100_000,
    "synthetic": 50_000,
}
SIZED = frozenset({"infinite-mnist", "synthetic"})


def train_size(dataset: str, options: dict[str, Any], origin: str) -> int:
    """Number of training images. Raises UserError for an unknown data set or a size that is not a count."""
    if dataset not in TRAIN_SIZES:
        raise UserError(f"{origin}.dataset: unknown data set {dataset!r}{did_you_mean(dataset, TRAIN_SIZES)}")
    size = options.get("size", TRAIN_SIZES[dataset]) if dataset in SIZED else TRAIN_SIZES[dataset]
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UserError(f"{origin}.dataset_options.size: expected a positive integer, not {size!r}")
    return size
