"""What a grid is checked against before anything runs: that its data sets exist, with these options, and their size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bnn.data import DATASETS, dataset_facts, dataset_name
from bnn.errors import UserError
from campaign.io.schema import did_you_mean


def train_size(dataset: str, options: dict[str, Any], origin: str, data_dir: Path | None = None) -> int:
    """Number of training images; reads no image, of a data set of one's own what its preparation has noted.

    Raises UserError for an unknown data set or a wrong option, and naming the command for one that is not prepared in
    `data_dir` (default: BNN_DATA_DIR, else results/data) and whose options do not state its size.
    """
    with _named(dataset, origin):
        return dataset_facts(dataset, options, data_dir).train_size


def called(dataset: str, options: dict[str, Any], origin: str) -> str:
    """What cells call the data set in paths, tables and captions. Raises UserError as `train_size`; reads no file."""
    with _named(dataset, origin):
        return dataset_name(dataset, options)


def is_prepared(dataset: str, options: dict[str, Any], origin: str, data_dir: Path | None = None) -> bool:
    """Whether it can be read as it is meant. What is not one's own is made where it is not there: always.

    Raises UserError as `train_size`: also for one that is not prepared and whose options do not state its size.
    """
    return image_shape(dataset, options, origin, data_dir) is not None


def image_shape(
    dataset: str, options: dict[str, Any], origin: str, data_dir: Path | None = None
) -> tuple[int, int, int] | None:
    """Shape (C, H, W) of an image; None where that is not known before it is prepared.

    Raises UserError as `train_size`.
    """
    with _named(dataset, origin):
        return dataset_facts(dataset, options, data_dir).input_shape


@contextmanager
def _named(dataset: str, origin: str) -> Iterator[None]:
    if dataset not in DATASETS:
        raise UserError(f"{origin}.dataset: unknown data set {dataset!r}{did_you_mean(dataset, DATASETS)}")
    try:
        yield
    except UserError as error:
        raise UserError(f"{origin}.dataset_options: {error}") from None
