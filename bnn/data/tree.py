"""Which file is an image of which class and split: by the folders that it lies in, and by nothing else."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bnn.data.members import Listing
from bnn.errors import UserError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
SPLITS = ("train", "test")
# What systems leave behind. Names that begin with a dot are left out, too.
LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"})


@dataclass(frozen=True)
class Tree:
    """The images of both splits as (name, class), by class and then by name, and other files that were left out."""

    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...]

    @property
    def counts(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Images by class, of training and test split."""
        train, test = (Counter(label for _, label in part) for part in (self.train, self.test))
        numbers = range(len(self.classes))
        return tuple(train[label] for label in numbers), tuple(test[label] for label in numbers)


def is_litter(name: str) -> bool:
    """Whether a file, or a folder that it lies in, is hidden or what a system has left behind."""
    return any(part.startswith(".") or part in LITTER for part in name.split("/"))


def sort_out(where: str, listing: Listing, test_share: float | None, seed: int) -> Tree:
    """The tree of `train/<class>/*` and `test/<class>/*`, or of `<class>/*`, of which `test_share` of each class is for
    testing. One folder around all of that, as archives have it, is nothing to it.

    Classes are numbered in the order of their names. Hidden files and what systems leave (LITTER) is left out without a
    word, other files outside of classes' folders are left out and named. Raises UserError, beginning with `where`,
    for everything else that fits neither form.
    """
    files = [name for name in listing.files if not is_litter(name)]
    images = sorted(name for name in files if name.lower().endswith(IMAGE_ENDINGS))
    if not images:
        raise UserError(f"{where}: no images ({', '.join(IMAGE_ENDINGS)})")
    around, depth = _shape(where, images, test_share)
    class_depth = depth - 1  # of the folders that are classes
    folders = {name for name in listing.folders if not is_litter(name) and name.startswith(around)}
    classes = {name for name in folders if name.count("/") + 1 == class_depth}
    filled = {name.rpartition("/")[0] for name in images}
    if empty := classes - filled:
        raise UserError(f"{where}: {min(empty)!r}: a class without images")
    left_out = sorted(set(files) - set(images))
    for name in left_out:
        if any(name.startswith(f"{folder}/") for folder in classes):
            raise UserError(f"{where}: {name!r}: no image ({', '.join(IMAGE_ENDINGS)}) in a class's folder")
    if test_share is None:
        train, test = (_by_class(images, f"{around}{part}/") for part in SPLITS)
        if odd := train.keys() ^ test.keys():
            part, other = SPLITS if min(odd) in train else SPLITS[::-1]
            raise UserError(f"{where}: class {min(odd)!r} is in {part} and not in {other}")
    else:
        train, test = _divided(where, _by_class(images, around), test_share, seed)
    names = tuple(sorted(train))
    if len(names) < 2:
        raise UserError(f"{where}: one class alone ({names[0]!r})")
    return Tree(names, _numbered(train, names), _numbered(test, names), tuple(left_out))


def _shape(where: str, images: list[str], test_share: float | None) -> tuple[str, int]:
    """The folder around everything ("" or with a slash at its end), and of how many parts images' names are."""
    parts = [name.split("/") for name in images]
    around = ""
    depth = 2 if test_share is not None else 3
    if len({some[0] for some in parts}) == 1 and all(len(some) == depth + 1 for some in parts):
        around = f"{parts[0][0]}/"
        parts = [some[1:] for some in parts]
    form = "<class>/" if test_share is not None else "train/<class>/ and test/<class>/"
    for name, some in zip(images, parts, strict=True):
        if len(some) == depth and (test_share is not None or some[0] in SPLITS):
            continue
        if test_share is None and all(len(other) in (2, 3) and other[0] not in SPLITS for other in parts):
            raise UserError(f"{where}: no folders train and test: option test_share says how much is for testing")
        if test_share is not None and {other[0] for other in parts if len(other) == 3} == set(SPLITS):
            raise UserError(f"{where}: has folders train and test; test_share is for images without")
        raise UserError(f"{where}: {name!r}: an image outside of {form}")
    if test_share is None and (missing := set(SPLITS) - {some[0] for some in parts}):
        raise UserError(f"{where}: no images in {min(missing)}/")
    return around, depth + around.count("/")


def _by_class(images: Iterable[str], folder: str) -> dict[str, list[str]]:
    """The images below a folder (with a slash at its end) by class."""
    found: dict[str, list[str]] = {}
    for name in images:
        if name.startswith(folder):
            found.setdefault(name[len(folder) :].split("/")[0], []).append(name)
    return found


def _divided(
    where: str, images: dict[str, list[str]], share: float, seed: int
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The share of each class that is for testing, and what remains for training."""
    train, test = {}, {}
    for name, members in images.items():
        chosen = chosen_for_test([f"{name}/{member.rpartition('/')[2]}" for member in members], share, seed)
        if not 0 < len(chosen) < len(members):
            raise UserError(
                f"{where}: class {name!r} has {len(members)} images: test_share={share:g} leaves a split without any"
            )
        test[name] = [member for at, member in enumerate(members) if at in chosen]
        train[name] = [member for at, member in enumerate(members) if at not in chosen]
    return train, test


def chosen_for_test(names: list[str], share: float, seed: int) -> set[int]:
    """Positions of `share` of the names, rounded, chosen by their hashes with the seed: in no order of theirs, and by
    no generator that another version of a library may change."""
    order = sorted(range(len(names)), key=lambda at: hashlib.sha256(f"{seed}/{names[at]}".encode()).digest())
    return set(order[: round(share * len(names))])


def _numbered(images: dict[str, list[str]], classes: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((name, number) for number, title in enumerate(classes) for name in sorted(images[title]))
