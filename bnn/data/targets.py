"""What arrays of targets mean, and whether they can be: labels of classes, a class of every pixel, or values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn.data.base import TaskName
from bnn.data.tensors import Array
from bnn.errors import UserError

MOST_CLASSES = 100_000


def task_of(targets: Array, images: tuple[int, int, int, int]) -> TaskName:
    """What there is to learn from targets of images (N, C, H, W). Raises UserError for a type or shape of none."""
    count, _, height, width = images
    shape = targets.shape
    if shape[0] != count:
        raise UserError(f"{targets.what}: {shape[0]:,} rows for {count:,} images")
    integers = targets.dtype.kind in "ui"
    if integers and len(shape) == 1:
        return "classification"
    if integers and shape[1:] == (height, width):
        return "segmentation"
    if not integers and len(shape) == 2:
        return "regression"
    raise UserError(
        f"{targets.what}: {targets.dtype} {shape}: neither whole numbers (N,) or (N, {height}, {width}), nor floats "
        "(N, D)"
    )


def checked(targets: Array, first: int, piece: NDArray[Any], classes: int) -> NDArray[Any]:
    """Rows as a split has them: int64 below `classes`, or finite float32. `first` is the first row's index.

    Raises UserError naming the row where one is out of range.
    """
    if piece.dtype.kind in "ui":
        wrong = (piece < 0) | (piece >= classes)
        if wrong.any():
            row, value = _first(wrong, first), piece[wrong].flat[0]
            raise UserError(f"{targets.what}: label {value} of row {row:,} is out of range: 0 to {classes - 1:,}")
        return piece.astype(np.int64)
    with np.errstate(over="ignore"):
        values = piece.astype(np.float32)
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise UserError(f"{targets.what}: row {_first(wrong, first):,} has NaN, infinity or more than float32 holds")
    return values


def _first(wrong: NDArray[np.bool_], first: int) -> int:
    return first + int(np.argmax(wrong.reshape(len(wrong), -1).any(1)))


@dataclass(frozen=True)
class Labels:
    """How often each class is there, of a classification or segmentation; `rows` (N,) are a classification's labels."""

    counts: NDArray[np.int64]
    rows: NDArray[np.int64] | None


def read_labels(targets: Array, classes: int = MOST_CLASSES) -> Labels:
    """Counts of labels below `classes`, as many as the largest asks for. Raises UserError as `checked`."""
    counts = np.zeros(0, np.int64)
    rows = []
    for first, piece in targets.pieces():
        labels = checked(targets, first, piece, classes)
        found = np.bincount(labels.reshape(-1))
        size = max(len(counts), len(found))
        counts = np.pad(counts, (0, size - len(counts))) + np.pad(found, (0, size - len(found)))
        rows.append(labels)
        if labels.ndim > 1:
            rows.clear()
    return Labels(counts, np.concatenate(rows) if rows else None)
