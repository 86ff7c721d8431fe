"""Arrays of one's own, in .npz or .safetensors files: checked and written once, by `bnn data prepare`, as bytes."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console

from bnn.data import own
from bnn.data.base import Dataset, DatasetFacts, TaskName
from bnn.data.containers import signature
from bnn.data.files import check_room, progress_bar
from bnn.data.mapped import array_file
from bnn.data.own import PARTS, Facts, Origin, OwnOptions
from bnn.data.recipe import Recipe
from bnn.data.targets import MOST_CLASSES, Labels, checked, read_labels, task_of
from bnn.data.tensors import Array, arrays_of
from bnn.data.tree import chosen_for_test
from bnn.errors import UserError

KIND = "arrays"
Layout = Literal["auto", "NCHW", "NHWC"]
CHANNELS = (1, 3)  # by which `auto` knows the axis of channels
# What the arrays are called: both splits in one file, or one split in each.
NAMES = (("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test"))
ONE_SPLIT = ("images", "labels")
WANTED = frozenset((*NAMES[0], *NAMES[1], *ONE_SPLIT))


class ArraysOptions(OwnOptions):
    """`path` has train_images, train_labels, test_images and test_labels (or x_train, ...); or it has images and
    labels, and so has `test_path`, or `test_share` says what is for testing.

    Other arrays are left alone. Images are (N, C, H, W), (N, H, W, C) or (N, H, W): `layout` says which of the first
    two, `auto` takes the axis that has 1 or 3 for that of channels. They are uint8, or floats in [0, 1], which become
    256 steps. Labels are whole numbers (N,) or (N, H, W), below `classes` (default: one more than the largest for
    training), or floats (N, D).
    """

    test_path: Path | None = None
    layout: Layout = "auto"
    classes: int | None = Field(None, ge=2, le=MOST_CLASSES)


@dataclass(frozen=True)
class Part:
    """Images and targets of a file. `rows` (N,) says of each whether it is for testing, where one file has both."""

    images: Array
    targets: Array
    layout: Literal["NCHW", "NHWC", "NHW"]
    rows: NDArray[np.bool_] | None = field(default=None)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of its images: (N, C, H, W)."""
        sizes = dict(zip(self.layout, self.images.shape, strict=True))
        return sizes["N"], sizes.get("C", 1), sizes["H"], sizes["W"]

    def pixels(self, piece: NDArray[Any]) -> NDArray[Any]:
        """Rows of the file as (N, C, H, W)."""
        if self.layout == "NHW":
            return piece[:, None]
        return piece if self.layout == "NCHW" else piece.transpose(0, 3, 1, 2)


def find_parts(path: Path, options: ArraysOptions) -> dict[str, Part]:
    """The arrays by split; `all` where a share of them is for testing. Raises UserError for a name that is missing."""
    found = arrays_of(path, WANTED)
    begun = [names[0] for names in (*NAMES, ONE_SPLIT) if names[0] in found]
    if len(begun) > 1:
        raise UserError(f"{path}: has {' and '.join(begun)}: which are meant cannot be known; leave the others out")
    if options.test_path is not None and os.path.realpath(options.test_path) == os.path.realpath(path):
        raise UserError(f"{path}: is for training and, by test_path, for testing: test_share divides a file")
    for names in NAMES:
        if names[0] in found:
            if options.test_path is not None or options.test_share is not None:
                raise UserError(f"{path}: has {names[2]}; test_path and test_share are for files without")
            train, test = (part_of(path, found, names[at : at + 2], options.layout) for at in (0, 2))
            return {"train": train, "test": test}
    if (options.test_path is None) == (options.test_share is None):
        raise UserError(f"{path}: no array {NAMES[0][0]}: say what is for testing by test_path, or by test_share")
    one = part_of(path, found, ONE_SPLIT, options.layout)
    if options.test_path is None:
        return {"all": one}
    return {
        "train": one,
        "test": part_of(options.test_path, arrays_of(options.test_path, WANTED), ONE_SPLIT, options.layout),
    }


def part_of(path: Path, found: dict[str, Array], names: tuple[str, ...], layout: Layout) -> Part:
    """Images and targets by their names. Raises UserError naming an array that is missing or none of images."""
    for name in names:
        if name not in found:
            has = f" (only {', '.join(sorted(found))})" if found else ""
            raise UserError(f"{path}: no array {name}{has}")
    images = found[names[0]]
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise UserError(f"{images.what}: {images.dtype}: images are uint8, or floats in [0, 1]")
    if len(images.shape) == 3:
        return Part(images, found[names[1]], "NHW")
    if len(images.shape) != 4:
        raise UserError(f"{images.what}: of shape {images.shape}: images are (N, C, H, W), (N, H, W, C) or (N, H, W)")
    if layout != "auto":
        return Part(images, found[names[1]], layout)
    fits = [images.shape[axis] in CHANNELS for axis in (1, 3)]
    if fits[0] == fits[1]:
        raise UserError(f"{images.what}: of shape {images.shape}: option layout must say whether it is NCHW or NHWC")
    return Part(images, found[names[1]], "NCHW" if fits[0] else "NHWC")


def make(path: Path, folder: Path, options: ArraysOptions, console: Console) -> Facts:
    """Check the arrays and write them into `folder`."""
    parts = find_parts(path, options)
    shapes = {part.shape[1:] for part in parts.values()}
    tasks = {task_of(part.targets, part.shape) for part in parts.values()}
    if len(shapes) > 1 or len(tasks) > 1:
        one, two = parts["train"].images, parts["test"].images
        raise UserError(f"{one.what} {one.shape} and {two.what} {two.shape} (or their targets) are not alike")
    (shape,), (task,) = shapes, tasks
    check_room(path, folder, sum(part.shape[0] for part in parts.values()) * math.prod(shape))
    classes, found = read_classes(parts, task, options.classes)
    if "all" in parts:
        whole = parts["all"]
        rows = divide(whole, found["all"].rows if found else None, options)
        parts = {name: Part(whole.images, whole.targets, whole.layout, rows) for name in PARTS}
    sizes = {
        name: part.shape[0] if part.rows is None else int(np.sum(selected(part, name))) for name, part in parts.items()
    }
    counts = count_labels(parts, found, classes) if task == "classification" else ((), ())
    said = set()
    total = sum(part.shape[0] for part in parts.values())
    with progress_bar(console, options.own_name, total, in_bytes=False) as (progress, task_id):
        for name in PARTS:
            advance = partial(progress.advance, task_id)
            said |= write_part(parts[name], name, folder, sizes[name], shape, classes, task, advance)
    return Facts(
        version=own.VERSION, kind=KIND, name=options.own_name, task=task, input_shape=shape, classes=classes,
        class_names=tuple(map(str, range(classes))) if found else (), train_size=sizes["train"],
        test_size=sizes["test"], counts=counts, checksum="", options=options.making(given=False),
        origin=Origin(path="", signature=""), said=tuple(sorted(said)),
    )  # fmt: skip


def read_classes(parts: dict[str, Part], task: TaskName, stated: int | None) -> tuple[int, dict[str, Labels]]:
    """Number of classes, or of a regression's values, and the labels by split (none of a regression).

    Raises UserError for one class alone, a label out of range, and splits with other numbers of values.
    """
    if task == "regression":
        values = sorted({part.targets.shape[1] for part in parts.values()})
        if len(values) > 1:
            raise UserError(f"{parts['test'].targets.what}: other numbers of values than for training: {values}")
        return values[0], {}
    classes, found = stated, {}
    for name, part in parts.items():
        found[name] = read_labels(part.targets, classes or MOST_CLASSES)
        classes = classes or len(found[name].counts)
        if classes < 2:
            raise UserError(f"{part.targets.what}: one class alone")
    assert classes is not None
    return classes, found


def divide(part: Part, labels: NDArray[np.int64] | None, options: ArraysOptions) -> NDArray[np.bool_]:
    """Whether each row is for testing: the share of each class where there are labels (N,), else of all rows."""
    groups = [np.arange(part.shape[0])] if labels is None else [np.flatnonzero(labels == n) for n in np.unique(labels)]
    rows = np.zeros(part.shape[0], dtype=bool)
    for members in groups:
        assert options.test_share is not None
        chosen = sorted(chosen_for_test([str(at) for at in members], options.test_share, options.split_seed))
        if not 0 < len(chosen) < len(members):
            which = "" if labels is None else f" of class {labels[members[0]]}"
            raise UserError(
                f"{part.targets.what}: test_share={options.test_share:g} of {len(members)} rows{which} leaves a split "
                "without any"
            )
        rows[members[chosen]] = True
    return rows


def selected(part: Part, name: str) -> NDArray[np.bool_]:
    """Which rows of a part that has both splits are of this one."""
    assert part.rows is not None
    return part.rows if name == "test" else ~part.rows


def count_labels(
    parts: dict[str, Part], found: dict[str, Labels], classes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Training and test images by class. Raises UserError for a class that a split has no image of."""
    counts = []
    for name in PARTS:
        labels = found.get(name, found.get("all"))
        assert labels is not None
        assert labels.rows is not None
        rows = labels.rows if parts[name].rows is None else labels.rows[selected(parts[name], name)]
        counts.append(np.bincount(rows, minlength=classes))
    train, test = counts
    for split, mine, other in (("train", train, test), ("test", test, train)):
        if (missing := np.flatnonzero(mine == 0)).size:
            also = "; the other split has some" if other[missing[0]] else ""
            raise UserError(f"{parts[split].targets.what}: class {missing[0]} has no images for {split}{also}")
    return tuple(map(int, train)), tuple(map(int, test))


def write_part(
    part: Part,
    name: Literal["train", "test"],
    folder: Path,
    size: int,
    shape: tuple[int, int, int],
    classes: int,
    task: TaskName,
    advance: Any,
) -> set[str]:
    """Write a split's images and targets; returns what is to be said of them."""
    targets_shape = (size, *part.targets.shape[1:])
    keep = None if part.rows is None else selected(part, name)
    worst = 0.0
    with ExitStack() as stack:
        images = stack.enter_context(array_file(folder / own.images_file(name), (size, *shape), np.uint8))
        targets = stack.enter_context(array_file(folder / own.targets_file(name), targets_shape, own.TARGETS[task]))
        at = 0
        for first, piece in part.targets.pieces():
            rows = checked(part.targets, first, piece, classes)
            rows = rows if keep is None else rows[keep[first : first + len(piece)]]
            targets.put(at, rows)
            at += len(rows)
        at = 0
        for first, piece in part.images.pieces():
            pixels, change = as_bytes(part.images, first, part.pixels(piece))
            pixels = pixels if keep is None else pixels[keep[first : first + len(piece)]]
            images.put(at, pixels)
            at, worst = at + len(pixels), max(worst, change)
            advance(len(pixels))
    return {f"{part.images.name}: floats became 256 steps; the largest change is {worst:.2g}"} if worst else set()


def as_bytes(images: Array, first: int, pixels: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
    """Pixels as bytes, and by how much the largest change among them moved one in [0, 1].

    Raises UserError naming the image, counted from `first`, that has NaN, infinity, or values outside of [0, 1].
    """
    if pixels.dtype == np.uint8:
        return pixels, 0.0
    fine = (pixels >= 0) & (pixels <= 1)  # false of NaN
    if not fine.all():
        row = int(np.argmin(fine.reshape(len(fine), -1).all(1)))
        value = pixels[row][~fine[row]].flat[0]
        raise UserError(f"{images.what}: image {first + row:,} has {value}, which is not in [0, 1]")
    scaled = pixels.astype(np.float64) * 255
    steps = np.rint(scaled)
    return steps.astype(np.uint8), float(np.abs(steps - scaled).max()) / 255


def _signature(path: Path, options: ArraysOptions) -> str:
    other = options.test_path
    return signature(path) + (f"+{signature(other)}" if other is not None and other.exists() else "")


def _facts(data_dir: Path, options: ArraysOptions) -> DatasetFacts:
    return own.facts_of(KIND, data_dir, options)


def _load(data_dir: Path, options: ArraysOptions) -> Dataset:
    return own.load(KIND, data_dir, options)


def _prepare(data_dir: Path, options: ArraysOptions, console: Console) -> None:
    write = partial(make, options=options, console=console)
    own.prepare(KIND, data_dir, options, console, write, partial(_signature, options=options))


RECIPE = Recipe("arrays of your own, in .npz or .safetensors files", ArraysOptions, _facts, _load, _prepare, own=True)
