"""The data set infinite-mnist: the paper's "MNIST transformed 0.1 million", written once and then mapped into memory.

Training example j is infinite MNIST's image 10000 + j (see bnn.data.deform), made from the training images of the full
MNIST when it is staged, else of the MNIST sample; the data set's source says which. Its test images are the base's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.lib.format import open_memmap
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from bnn.data import mnist, mnist_sample
from bnn.data.base import Dataset, DatasetFacts, Options, Split, prepare_command
from bnn.data.files import locked, progress_bar, write_folder
from bnn.data.frame import SIDE, FrameOptions
from bnn.data.mapped import content_checksum, open_mapped
from bnn.data.recipe import Recipe
from bnn.errors import UserError
from bnn.regular import open_regular

NAME = "infinite-mnist"
CLASSES = 10
SHAPE = (1, SIDE, SIDE)
VERSION = 1  # of the files: raised when the same options give other images
IMAGES, LABELS, SIDECAR = NAMES = "images.npy", "labels.npy", "facts.json"
WRITE_CHUNK = 10_000

# The largest of 0.25, 0.5, 1, 2 at which four deformed copies teach a nearest-neighbour classifier as much about clean
# test digits as the clean images do (0.937 against 0.934 on the MNIST sample; 0.917 at 2): a test holds it there.
DEFAULT_ALPHA = 1.0


class InfiniteMnistOptions(Options):
    """`size` counts training images; `alpha` is the deformations' strength; `verify` checks the whole file's hash."""

    size: int = Field(100_000, gt=0)
    alpha: float = Field(DEFAULT_ALPHA, ge=0)
    base: Literal["auto", "mnist", "mnist-sample"] = "auto"
    verify: bool = False


class Sidecar(BaseModel):
    """What is written beside the images, and must be found there when they are loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    base: str
    base_checksum: str
    size: int
    alpha: float
    checksum: str


@dataclass(frozen=True)
class Prepared:
    """The folder of one data set made from one base, and how it was asked for."""

    data_dir: Path
    base: str
    options: InfiniteMnistOptions

    @property
    def folder(self) -> Path:
        key = f"{self.base}-size{self.options.size}-alpha{self.options.alpha}"
        return self.data_dir / NAME / key

    @property
    def command(self) -> str:
        """The command that prepares it."""
        given = self.options.model_dump(exclude_defaults=True, exclude={"verify"})
        return prepare_command(NAME, self.data_dir, given)

    def sidecar(self, checksum: str) -> Sidecar:
        """The sidecar that belongs beside the images."""
        base_checksum = _base_module(self.base).checksum()
        return Sidecar(
            version=VERSION, base=self.base, base_checksum=base_checksum, size=self.options.size,
            alpha=self.options.alpha, checksum=checksum,
        )  # fmt: skip


def locate(data_dir: Path, options: InfiniteMnistOptions) -> Prepared:
    """Choose the base; `auto` is the full MNIST when it is staged, else the sample."""
    base: str = options.base
    if base == "auto":
        base = mnist.NAME if mnist.is_staged(data_dir) else mnist_sample.NAME
    return Prepared(data_dir, base, options)


def _base_module(base: str) -> ModuleType:
    return mnist if base == mnist.NAME else mnist_sample


def _base_split(prepared: Prepared, part: Literal["train", "test"]) -> Split:
    if prepared.base == mnist.NAME:
        return mnist.load_split(prepared.data_dir, part)
    train, test = mnist_sample.load_sample()
    return train if part == "train" else test


def read(prepared: Prepared, *, verify: bool) -> tuple[Split, Sidecar]:
    """The prepared training split. Checks the sidecar, sizes, types and labels, and with `verify` every byte.

    Raises UserError naming what is missing, truncated, damaged or made otherwise.
    """
    size = prepared.options.size
    path = prepared.folder / SIDECAR
    try:
        with open_regular(path) as stream:
            sidecar = Sidecar.model_validate_json(stream.read())
    except FileNotFoundError:
        raise UserError(f"{NAME}: {prepared.folder} not found: run '{prepared.command}'") from None
    except (ValidationError, OSError):
        raise UserError(f"{path}: unreadable or damaged: run '{prepared.command}'") from None
    if sidecar != prepared.sidecar(sidecar.checksum):
        raise UserError(f"{path}: made by another version or from other images: run '{prepared.command}'")
    images = open_mapped(prepared.folder / IMAGES, (size, *SHAPE), np.uint8)
    labels = np.array(open_mapped(prepared.folder / LABELS, (size,), np.int64))
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise UserError(f"{prepared.folder / LABELS}: damaged: labels outside 0..{CLASSES - 1}")
    if verify and content_checksum(images, labels) != sidecar.checksum:
        raise UserError(f"{prepared.folder}: damaged (SHA-256 differs): run '{prepared.command}'")
    return Split(images, labels), sidecar


def _facts(_data_dir: Path, options: InfiniteMnistOptions) -> DatasetFacts:
    return DatasetFacts(SHAPE, CLASSES, options.size)


def _load(data_dir: Path, options: InfiniteMnistOptions) -> Dataset:
    prepared = locate(data_dir, options)
    train, sidecar = read(prepared, verify=options.verify)
    made_from = _base_module(prepared.base).source()
    source = f"{NAME}: {options.size:,} images deformed with alpha {options.alpha:g}, made from {made_from}"
    return Dataset(NAME, train, _base_split(prepared, "test"), CLASSES, source, sidecar.checksum)


def _prepare(data_dir: Path, options: InfiniteMnistOptions, console: Console) -> None:
    """Write the images unless they are there and whole; `base=mnist` asks for MNIST's files first."""
    if options.base == mnist.NAME:
        mnist.prepare(data_dir, FrameOptions(), console)
    prepared = locate(data_dir, options)
    if _is_whole(prepared):
        return
    with locked(data_dir / NAME, console):
        if not _is_whole(prepared):  # another process may have written it while this one waited
            write_folder(prepared.folder, NAMES, lambda aside: _write(aside, prepared, console))


def _is_whole(prepared: Prepared) -> bool:
    try:
        read(prepared, verify=True)
    except UserError:
        return False
    return True


def _write(folder: Path, prepared: Prepared, console: Console) -> None:
    from bnn.data.deform import FIRST_INDEX, InfiniteMNIST

    size = prepared.options.size
    generator = InfiniteMNIST(_base_split(prepared, "train"), prepared.options.alpha)
    images = open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=(size, *SHAPE))
    labels = np.empty(size, dtype=np.int64)
    with progress_bar(console, f"{NAME} from {prepared.base}", size, in_bytes=False) as (progress, task):
        for start in range(0, size, WRITE_CHUNK):
            end = min(start + WRITE_CHUNK, size)
            images[start:end], labels[start:end] = generator.generate(np.arange(start, end) + FIRST_INDEX)
            progress.advance(task, end - start)
    images.flush()
    np.save(folder / LABELS, labels)
    sidecar = prepared.sidecar(content_checksum(images, labels))
    (folder / SIDECAR).write_text(sidecar.model_dump_json(indent=2) + "\n")


RECIPE = Recipe(
    "MNIST deformed and shifted, generated by `bnn data prepare`", InfiniteMnistOptions, _facts, _load, _prepare
)
