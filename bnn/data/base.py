"""What every data set is made of, where its files lie, and how its options are read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from bnn.errors import UserError
from bnn.given import Given

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Targets = NDArray[Any]
TaskName = Literal["classification", "segmentation", "regression"]

DATA_DIR_VARIABLE = "BNN_DATA_DIR"
DEFAULT_DATA_DIR = Path("results/data")


@dataclass(frozen=True)
class Split:
    """Images and their targets, in a fixed order.

    `images`: uint8, shape (N, C, H, W), values 0..255; a memory map or a read-only view where that saves memory.
    `labels`: the targets. Classes 0..classes-1 as int64, of shape (N,), or (N, H, W) for a class of every pixel; or the
    values of a regression as float32, (N, D).
    """

    images: Images
    labels: Targets

    @property
    def task(self) -> TaskName:
        """What there is to learn, as the targets' type and shape tell."""
        if self.labels.dtype == np.float32:
            return "regression"
        return "classification" if self.labels.ndim == 1 else "segmentation"

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), not {self.images.dtype} {self.images.shape}")
        n, _, height, width = self.images.shape
        labels = self.labels
        classes = labels.dtype == np.int64 and labels.shape in ((n,), (n, height, width))
        values = labels.dtype == np.float32 and labels.ndim == 2 and len(labels) == n
        if not (classes or values):
            kinds = f"int64 ({n},) or ({n}, {height}, {width}), or float32 ({n}, D)"
            raise ValueError(f"labels must be {kinds}, not {labels.dtype} {labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)


def evenly_spread(split: Sized, asked: int | None, option: str, dataset: str, name: str) -> NDArray[np.int64]:
    """Indices of as many images as are asked for, all of them if None; a split may be sorted by class.

    Raises UserError, naming the option or the data set, for more than there are, and for a split without images.
    """
    count = len(split) if asked is None else asked
    if count > len(split):
        raise UserError(f"{option}: {count} asked for, {dataset} has {len(split)} {name} images")
    if count == 0:
        raise UserError(f"{dataset}: no {name} images")
    return np.asarray(np.arange(count, dtype=np.int64) * len(split) // count, np.int64)


@dataclass(frozen=True)
class Dataset:
    """A loaded data set.

    `source` says where the images came from, in words for a report; `checksum` ("md5:..." or "sha256:...") identifies
    the training images and labels; `classes` is the number of classes, or of a regression's values;
    `synthetic` marks data without meaning, fit to measure throughput only.
    """

    name: str
    train: Split
    test: Split
    classes: int
    source: str
    checksum: str | None
    synthetic: bool = False

    @property
    def task(self) -> TaskName:
        """What there is to learn."""
        return self.train.task

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image: (C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class DatasetFacts:
    """What a model and a plan must know of a data set before anything is loaded.

    Shape (C, H, W) and classes are None of a data set of one's own that is not prepared, but whose size was stated.
    """

    input_shape: tuple[int, int, int] | None
    classes: int | None
    train_size: int


def listed(value: Any) -> Any:
    """A list as a command line gives it, 3,32,32; any other value is left as it is. No boolean is a number."""
    if isinstance(value, str):
        return value.split(",")
    if isinstance(value, list | tuple) and any(isinstance(each, bool) for each in value):
        raise ValueError("true and false are no numbers")
    return value


class Options(Given):
    """Options of a data set; one that takes none uses this class itself."""

    @property
    def own_name(self) -> str | None:
        """What a data set of one's own is called; None for one that is called as its recipe."""
        return None


AnyOptions = TypeVar("AnyOptions", bound=Options)


def parse_options(dataset: str, model: type[AnyOptions], options: dict[str, Any]) -> AnyOptions:
    """Validate a data set's options. Raises UserError naming the data set, the option and what is wrong with it."""
    try:
        return model.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise UserError(f"{dataset}: {said}") from None
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) or "none"
            raise UserError(f"{dataset}: unknown option {key!r} (options: {known})") from None
        raise UserError(f"{dataset}: option {key}={options.get(key)!r}: {said}") from None


def resolve_data_dir(path: Path | str | None = None) -> Path:
    """Folder of the data sets: the one given, else environment variable BNN_DATA_DIR, else results/data."""
    if path is not None:
        return Path(path)
    return Path(os.environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR)


def prepare_command(dataset: str, data_dir: Path, options: dict[str, Any] | None = None) -> str:
    """The shell command that makes a data set's files, to be named in errors."""
    words = ["bnn", "data", "prepare", dataset, "--data-dir", str(data_dir)]
    for key, value in (options or {}).items():
        words += ["--option", f"{key}={value}"]
    return shlex.join(words)


def not_found(dataset: str, name: str, folder: Path) -> UserError:
    """The error for a file that must be downloaded or staged; loading never downloads."""
    command = prepare_command(dataset, folder.parent)
    return UserError(
        f"{dataset}: {name} not found in {folder}: run '{command}' where there is a network, or copy the file there"
    )
