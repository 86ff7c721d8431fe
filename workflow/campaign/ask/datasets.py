"""What a grid is checked against before anything runs: that its data sets exist, with these options, and their size."""

from __future__ import annotations

from typing import Any

from bnn.data import DATASETS, dataset_facts
from bnn.errors import UserError
from campaign.io.schema import did_you_mean


def train_size(dataset: str, options: dict[str, Any], origin: str) -> int:
    """Number of training images; reads no file. Raises UserError for an unknown data set or a wrong option."""
    if dataset not in DATASETS:
        raise UserError(f"{origin}.dataset: unknown data set {dataset!r}{did_you_mean(dataset, DATASETS)}")
    try:
        return dataset_facts(dataset, options).train_size
    except UserError as error:
        raise UserError(f"{origin}.dataset_options: {error}") from None
