"""Random pixels of any shape: for measuring throughput only, and named as synthetic wherever they are used.

Every image is a window into one short tape of random bytes, image i starting at byte i * STEP: images differ, take no
memory of their own and need no time to make. Windows overlap, which a measurement of throughput cannot tell.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from bnn.data.base import Dataset, DatasetFacts, Options, Split, TaskName, listed
from bnn.data.recipe import Recipe

NAME = "synthetic"
STEP = 16
TRAIN_KEY, TEST_KEY = 1, 2

Positive = Annotated[int, Field(gt=0)]


class SyntheticOptions(Options):
    """`shape` is (C, H, W); `size` counts training images, as many as CIFAR-10's unless told otherwise.

    `task`: classification, segmentation (a class per pixel) or regression (`classes` values per image).
    """

    shape: Annotated[tuple[Positive, Positive, Positive], BeforeValidator(listed)] = (3, 32, 32)
    task: TaskName = "classification"  # before `classes`, which it bounds
    classes: int = Field(10, ge=1)
    size: int = Field(50_000, gt=0)
    test_size: int = Field(1_000, gt=0)

    @field_validator("classes")
    @classmethod
    def _enough(cls, value: int, known: ValidationInfo) -> int:
        if value < 2 and known.data.get("task") != "regression":
            raise ValueError("must be at least 2, but for a regression")
        return value


def make_split(
    size: int, shape: tuple[int, int, int], classes: int, key: int, task: TaskName = "classification"
) -> Split:
    """`size` images and targets, the same for the same arguments; the images are a read-only view."""
    random = np.random.Generator(np.random.Philox(key=key))
    pixels = math.prod(shape)
    tape = random.integers(0, 256, size=(size - 1) * STEP + pixels, dtype=np.uint8)
    images = np.lib.stride_tricks.sliding_window_view(tape, pixels)[::STEP].reshape(size, *shape)
    if task == "regression":
        return Split(images, random.standard_normal((size, classes), dtype=np.float32))
    labels = size if task == "classification" else (size, *shape[1:])
    return Split(images, random.integers(0, classes, size=labels, dtype=np.int64))


def _facts(_data_dir: Path, options: SyntheticOptions) -> DatasetFacts:
    return DatasetFacts(options.shape, options.classes, options.size)


def _load(_data_dir: Path, options: SyntheticOptions) -> Dataset:
    train = make_split(options.size, options.shape, options.classes, TRAIN_KEY, options.task)
    test = make_split(options.test_size, options.shape, options.classes, TEST_KEY, options.task)
    shape = "x".join(map(str, options.shape))
    source = f"{NAME}: {options.size:,} images of random pixels, {shape}, for throughput only"
    return Dataset(NAME, train, test, options.classes, source, checksum=None, synthetic=True)


RECIPE = Recipe("random pixels of any shape, for throughput only", SyntheticOptions, _facts, _load)
