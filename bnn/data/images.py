"""Images in folders, one for each class, of a folder or an archive: decoded once, by `bnn data prepare`."""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from bnn.data import own
from bnn.data.base import Dataset, DatasetFacts
from bnn.data.containers import open_container, read_members, signature
from bnn.data.decode import Convert, Form, decode, decoding
from bnn.data.files import check_room, progress_bar
from bnn.data.mapped import ArrayFile, array_file
from bnn.data.members import list_members
from bnn.data.own import Facts, Origin, OwnOptions
from bnn.data.recipe import Recipe
from bnn.data.tree import Tree, sort_out

KIND = "images"
SHOWN = 1_000  # images between two looks at the progress bar


class ImagesOptions(OwnOptions):
    """`path` has train/<class>/*.png, *.jpg or *.jpeg and test/<class>/..., or <class>/... with `test_share`.

    `convert`: RGB or L makes every image that; without it only RGB and grey images are taken, not both.
    """

    convert: Convert = "none"


def make(path: Path, folder: Path, options: ImagesOptions, console: Console) -> Facts:
    """Decode all images of `path` into `folder`."""
    container = open_container(path)
    tree = sort_out(str(path), list_members(container), options.test_share, options.split_seed)
    parts = {"train": tree.train, "test": tree.test}
    places = {name: (part, at) for part, images in parts.items() for at, (name, _) in enumerate(images)}
    for part, images in parts.items():
        with array_file(folder / own.targets_file(part), (len(images),), np.int64) as targets:
            targets.put(0, np.array([label for _, label in images]))
    first: tuple[str, Form] | None = None
    with ExitStack() as stack, decoding():
        progress, task = stack.enter_context(progress_bar(console, options.own_name, len(places), in_bytes=False))
        files: dict[str, ArrayFile] = {}
        for done, (name, content) in enumerate(read_members(container, places), start=1):
            form, pixels = decode(str(path), name, content, options.convert, first)
            if first is None:
                first = name, form
                check_room(path, folder, len(places) * math.prod(form.shape))
                for part, images in parts.items():
                    file = array_file(folder / own.images_file(part), (len(images), *form.shape), np.uint8)
                    files[part] = stack.enter_context(file)
            part, at = places[name]
            files[part].put(at, pixels[None])
            if done % SHOWN == 0 or done == len(places):
                progress.update(task, completed=done)
    assert first is not None
    return facts_of(tree, first[1], options)


def facts_of(tree: Tree, form: Form, options: ImagesOptions) -> Facts:
    """The facts, but for the origin and the checksum."""
    said = []
    if tree.left_out:
        shown = ", ".join(tree.left_out[:3]) + (", ..." if len(tree.left_out) > 3 else "")
        said.append(f"{len(tree.left_out)} files outside of classes' folders are left out ({shown})")
    if options.convert != "none":
        said.append(f"images of other modes were converted to {options.convert}")
    return Facts(
        version=own.VERSION, kind=KIND, name=options.own_name, task="classification", input_shape=form.shape,
        classes=len(tree.classes), class_names=tree.classes, train_size=len(tree.train), test_size=len(tree.test),
        counts=tree.counts, checksum="", options=options.making(given=False), origin=Origin(path="", signature=""),
        said=tuple(said),
    )  # fmt: skip


def _facts(data_dir: Path, options: ImagesOptions) -> DatasetFacts:
    return own.facts_of(KIND, data_dir, options)


def _load(data_dir: Path, options: ImagesOptions) -> Dataset:
    return own.load(KIND, data_dir, options)


def _prepare(data_dir: Path, options: ImagesOptions, console: Console) -> None:
    own.prepare(KIND, data_dir, options, console, partial(make, options=options, console=console), signature)


RECIPE = Recipe("photographs of your own, in a folder per class", ImagesOptions, _facts, _load, _prepare, own=True)
