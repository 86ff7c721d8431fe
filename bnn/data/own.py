"""Data sets of one's own: files that are prepared once, under a name of their own, into arrays that runs map.

They lie in `<data-dir>/<name>/prepared/`: images and targets of both splits, and facts that say what they are and what
they were made from. A run reads nothing else. A prepared data set is never replaced: another content or other options
take another name, so that what was measured under one name was measured on one data set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from rich.console import Console

from bnn.data.base import Dataset, DatasetFacts, Options, Split, TaskName, prepare_command
from bnn.data.files import locked, write_folder
from bnn.data.mapped import content_checksum, open_mapped
from bnn.errors import UserError
from bnn.regular import open_regular

VERSION = 1  # of the folder
PREPARED, FACTS = "prepared", "facts.json"
PARTS: tuple[Literal["train", "test"], ...] = ("train", "test")
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip", ".npz", ".safetensors")
# Options that say which data set is meant, and not how it is made.
MEANT = frozenset({"name", "path", "test_path", "train_size", "checksum"})
TARGETS: dict[TaskName, type[np.generic]] = {
    "classification": np.int64, "segmentation": np.int64, "regression": np.float32,
}  # fmt: skip


class OwnOptions(Options):
    """`name` is the data set's in paths, tables and captions (default: the name of `path` without its ending).

    `path` is what it is prepared from; who reads what is prepared may leave it out. `test_share` of the examples become
    the test split where the files have none, chosen by `split_seed`. `train_size` and `checksum` state what is meant:
    anything else is refused. With `train_size` a campaign can be planned before the data set is prepared.
    """

    name: str | None = None
    path: Path | None = None
    test_share: float | None = Field(None, gt=0, lt=1)
    split_seed: int = Field(0, ge=0)
    train_size: int | None = Field(None, gt=0)
    checksum: str | None = Field(None, pattern=r"^sha256:[0-9a-f]{64}$")

    @field_validator("name")
    @classmethod
    def _is_slug(cls, value: str | None) -> str | None:
        if value is not None and not SLUG.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits, dots, dashes and underscores, the first no sign")
        return value

    @field_validator("path")
    @classmethod
    def _is_text(cls, value: Path | None) -> Path | None:
        if value is not None and not str(value).isprintable():
            raise ValueError("must be a path of characters that can be printed")
        return value

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if self.name is None and self.path is None:
            raise ValueError("option name is missing (or option path, to prepare it)")
        if not SLUG.fullmatch(self.own_name):
            raise ValueError(f"option name is missing, and {self.own_name!r} of its path is no name")
        return self

    @property
    def own_name(self) -> str:
        if self.name is not None:
            return self.name
        last = (self.path or Path()).absolute().name
        return next((last[: -len(end)] for end in ENDINGS if last.lower().endswith(end)), last)

    def making(self, *, given: bool) -> dict[str, Any]:
        """The options by which it is made, or only those of them that were given."""
        return self.model_dump(mode="json", exclude=set(MEANT), exclude_unset=given)


class Origin(BaseModel):
    """What a data set was made from: the absolute path, and what tells whether it has changed since."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    signature: str


class Facts(BaseModel):
    """What is noted beside the arrays. `classes` is the number of a regression's values, which have no names.

    `counts` are training and test images by class, `said` what the preparation had to say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    kind: str
    name: str
    task: TaskName
    input_shape: tuple[int, int, int]
    classes: int = Field(gt=0)
    class_names: tuple[str, ...]
    train_size: int = Field(gt=0)
    test_size: int = Field(gt=0)
    counts: tuple[tuple[int, ...], tuple[int, ...]]
    checksum: str
    options: dict[str, Any]
    origin: Origin
    said: tuple[str, ...]

    def size(self, part: Literal["train", "test"]) -> int:
        return self.train_size if part == "train" else self.test_size

    def targets_shape(self, part: Literal["train", "test"]) -> tuple[int, ...]:
        """Shape of a split's targets."""
        shapes = {"classification": (), "segmentation": self.input_shape[1:], "regression": (self.classes,)}
        return (self.size(part), *shapes[self.task])


def images_file(part: str) -> str:
    return f"{part}-images.npy"


def targets_file(part: str) -> str:
    return f"{part}-targets.npy"


NAMES = frozenset({FACTS, *map(images_file, PARTS), *map(targets_file, PARTS)})  # all that a prepared folder has


def command(kind: str, data_dir: Path, options: OwnOptions) -> str:
    """The command that prepares it, with a word in place of a path that was not said."""
    given = options.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return prepare_command(kind, data_dir, {"name": options.own_name, "path": "PATH"} | given)


def read_facts(kind: str, data_dir: Path, options: OwnOptions) -> Facts:
    """The facts of a prepared data set, checked against what is asked for.

    Raises UserError where it is not prepared, where the facts are damaged, and where it is another one than is meant.
    """
    path = data_dir / options.own_name / PREPARED / FACTS
    try:
        with open_regular(path) as stream:
            facts = Facts.model_validate_json(stream.read())
    except FileNotFoundError:
        run = command(kind, data_dir, options)
        raise UserError(f"{kind}: {options.own_name} is not prepared in {data_dir}: run '{run}'") from None
    except (ValidationError, OSError):
        raise UserError(f"{path}: unreadable or damaged: remove {path.parent} to prepare it again") from None
    if problem := unmeant(facts, kind, options):
        raise UserError(f"{path.parent}: {problem}: give the other data set another name, or remove this folder")
    return facts


def unmeant(facts: Facts, kind: str, options: OwnOptions) -> str:
    """Why a data set is not the one that the options mean, naming the option; empty where it is."""
    if facts.version != VERSION:
        return f"prepared by another version ({facts.version}, not {VERSION})"
    if facts.kind != kind:
        return f"prepared as {facts.kind}, not as {kind}"
    for key, value in options.making(given=True).items():
        if facts.options.get(key) != value:
            return f"prepared with {key}={facts.options.get(key)}, not {value}"
    if options.train_size not in (None, facts.train_size):
        return f"{facts.train_size:,} training images, not train_size={options.train_size:,}"
    if options.checksum not in (None, facts.checksum):
        return f"its content is {facts.checksum}, not {options.checksum}"
    if options.path is not None and options.checksum is None and os.path.realpath(options.path) != facts.origin.path:
        return f"prepared from {facts.origin.path}, not from {options.path}"
    return ""


def facts_of(kind: str, data_dir: Path, options: OwnOptions) -> DatasetFacts:
    """What is known before a run: of a prepared data set all, of another one the size that is stated, if it is."""
    if options.train_size is not None and not (data_dir / options.own_name / PREPARED).exists():
        return DatasetFacts(None, None, options.train_size)
    facts = read_facts(kind, data_dir, options)
    return DatasetFacts(facts.input_shape, facts.classes, facts.train_size)


def load(kind: str, data_dir: Path, options: OwnOptions) -> Dataset:
    """The prepared data set, its images mapped. Raises UserError as `read_facts`, and naming a damaged file."""
    facts = read_facts(kind, data_dir, options)
    folder = data_dir / options.own_name / PREPARED
    train, test = (_read_split(folder, facts, part) for part in PARTS)
    source = f"{facts.name}: {facts.train_size:,} training images from {Path(facts.origin.path).name}"
    return Dataset(facts.name, train, test, facts.classes, source, facts.checksum)


def _read_split(folder: Path, facts: Facts, part: Literal["train", "test"]) -> Split:
    images = open_mapped(folder / images_file(part), (facts.size(part), *facts.input_shape), np.uint8)
    targets = open_mapped(folder / targets_file(part), facts.targets_shape(part), TARGETS[facts.task])
    if facts.task == "classification":
        targets = np.array(targets)
        if targets.min() < 0 or targets.max() >= facts.classes:
            raise UserError(f"{folder / targets_file(part)}: damaged: labels outside 0..{facts.classes - 1}")
    return Split(images, targets)


def checksum_of(folder: Path, facts: Facts) -> str:
    """`sha256:...` of a prepared folder's arrays: images and targets, training and test split."""
    splits = [_read_split(folder, facts, part) for part in PARTS]
    return content_checksum(*(array for split in splits for array in (split.images, split.labels)))


def prepare(
    kind: str,
    data_dir: Path,
    options: OwnOptions,
    console: Console,
    make: Callable[[Path, Path], Facts],
    signature: Callable[[Path], str],
) -> None:
    """Prepare it unless it is there and whole; `make(path, folder)` writes the arrays and gives the facts, of which
    the checksum is filled in here. `signature` of a path changes when its content does.

    Raises UserError where another data set has its name, where its files have changed since, and as `make`.
    """

    def is_there() -> bool:
        folder = data_dir / options.own_name / PREPARED
        if not (folder / FACTS).exists():
            return False
        facts = read_facts(kind, data_dir, options)
        path = None if options.checksum else options.path  # a content that is stated is known without its files
        if path is not None and path.exists() and signature(path) != facts.origin.signature:
            raise UserError(
                f"{options.path}: has changed since {folder} was made from it: give it another name, or remove that "
                "folder to prepare it again"
            )
        try:
            return checksum_of(folder, facts) == facts.checksum
        except UserError:
            return False

    def fill(aside: Path) -> None:
        assert options.path is not None
        made = make(options.path, aside)
        origin = Origin(path=os.path.realpath(options.path), signature=signature(options.path))
        facts = made.model_copy(update={"checksum": checksum_of(aside, made), "origin": origin})
        if problem := unmeant(facts, kind, options):
            raise UserError(f"{options.path}: {problem}")
        (aside / FACTS).write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for line in facts.said:
            console.print(f"{facts.name}: {line}", markup=False, highlight=False, soft_wrap=True)

    if is_there():
        return
    if options.path is None:
        raise UserError(
            f"{kind}: {options.own_name} is not prepared in {data_dir}: say what from by option path, as in "
            f"'{command(kind, data_dir, options)}'"
        )
    if not options.path.exists():
        raise UserError(f"{options.path}: does not exist")
    with locked(data_dir / options.own_name, console):
        if not is_there():
            write_folder(data_dir / options.own_name / PREPARED, NAMES, fill)
