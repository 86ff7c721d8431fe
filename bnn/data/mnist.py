"""MNIST (LeCun, Cortes, Burges): 60,000 training and 10,000 test images of handwritten digits, 28x28."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from bnn.data.base import Dataset, DatasetFacts, Split, not_found
from bnn.data.files import download, locked
from bnn.data.frame import FrameOptions, framed
from bnn.data.idx import read_idx
from bnn.data.recipe import Recipe
from bnn.errors import UserError

NAME = "mnist"
CLASSES = 10
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)


@dataclass(frozen=True)
class IdxFile:
    """One file of MNIST: `md5` of the gzip file as published, `sha256` of what is in it.

    Staged files are judged by their content alone, so that files compressed anew or not at all are welcome.
    """

    name: str
    shape: tuple[int, ...]
    md5: str
    sha256: str


FILES = {
    "train-images": IdxFile(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels": IdxFile(
        "train-labels-idx1-ubyte",
        (60_000,),
        "d53e105ee54ea40749a09fcbcd1e9432",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "test-images": IdxFile(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "9fb629c4189551a2d022fa330f9573f3",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "test-labels": IdxFile(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "ec29112dd5afa0611ce80d1b7f02629c",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


def find(folder: Path, file: IdxFile) -> Path | None:
    """The staged file, plain or compressed; None when neither is there."""
    for name in (file.name, f"{file.name}.gz"):
        if (folder / name).exists():
            return folder / name
    return None


def is_staged(data_dir: Path) -> bool:
    """Whether MNIST's files are there. Raises UserError when some are and some are not."""
    folder = data_dir / NAME
    missing = [file for file in FILES.values() if find(folder, file) is None]
    if missing and len(missing) < len(FILES):
        raise not_found(NAME, f"{missing[0].name}.gz", folder)
    return not missing


def _read(folder: Path, file: IdxFile) -> np.ndarray:
    path = find(folder, file)
    if path is None:
        raise not_found(NAME, f"{file.name}.gz", folder)
    values, content = read_idx(path, file.shape)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise UserError(f"{path}: not MNIST's {file.name}, or damaged (SHA-256 of its content differs)")
    return values


def load_split(data_dir: Path, part: Literal["train", "test"]) -> Split:
    """Read and verify one split. Raises UserError naming a file that is missing, truncated, damaged or another one."""
    folder = data_dir / NAME
    images = _read(folder, FILES[f"{part}-images"])
    labels = _read(folder, FILES[f"{part}-labels"])
    return Split(images[:, None], labels.astype(np.int64))


def checksum() -> str:
    """Identifies the training images: the SHA-256 of their uncompressed file."""
    return f"sha256:{FILES['train-images'].sha256}"


def source() -> str:
    """Where the training images come from."""
    return f"{NAME}: the {FILES['train-images'].shape[0]:,} training images of MNIST"


def _facts(_data_dir: Path, options: FrameOptions) -> DatasetFacts:
    return DatasetFacts(options.shape, CLASSES, FILES["train-images"].shape[0])


def _load(data_dir: Path, options: FrameOptions) -> Dataset:
    train, test = (framed(load_split(data_dir, part), options.shape) for part in ("train", "test"))
    return Dataset(NAME, train, test, CLASSES, source(), checksum())


def prepare(data_dir: Path, options: FrameOptions, console: Console) -> None:
    """Download the files that are not there, then read and verify all of them."""
    folder = data_dir / NAME
    if not all(find(folder, file) for file in FILES.values()):
        with locked(folder, console):
            for file in FILES.values():
                if find(folder, file) is None:
                    name = f"{file.name}.gz"
                    download(NAME, [mirror + name for mirror in MIRRORS], folder / name, file.md5, console)
    _load(data_dir, options)


RECIPE = Recipe("handwritten digits, downloaded or staged", FrameOptions, _facts, _load, prepare)
