"""Handwritten digits laid over photographs, with a class for every pixel: a segmentation task of real images.

    bnn data prepare images --option name=cifar10-jpeg --option path=cifar10-jpeg.tar.gz
    python -m examples.scenes cifar10-jpeg scenes.npz
    bnn data prepare arrays --option name=scenes --option path=scenes.npz

Scene i of a split has its i-th photograph; digit, place, size and ink depend on split and i alone. Labels are of every
pixel: classes 0 to 9 where a digit is, 10 where the photograph is seen.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from bnn.atomic import atomic_file
from bnn.data import load_dataset
from bnn.data.base import Split

PHOTOGRAPH = 10  # the class of a pixel without ink
KEYS = {"train": 1, "test": 2}
SMALLEST, LARGEST = 14, 26  # pixels of a digit's sides
INK = 0.5  # share of ink from which a pixel is the digit's


def scene(photograph: np.ndarray, digit: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A photograph (3, H, W) under a digit (h, w) in one colour; and where it is, boolean (H, W)."""
    height, width = photograph.shape[1:]
    size = int(random.integers(SMALLEST, LARGEST + 1))
    ink = np.zeros((height, width))
    top, left = random.integers(0, height - size + 1), random.integers(0, width - size + 1)
    small = Image.fromarray(digit).resize((size, size), Image.Resampling.BILINEAR)
    ink[top : top + size, left : left + size] = np.asarray(small) / 255
    colour = random.integers(0, 256, size=(3, 1, 1))
    mixed = photograph * (1 - ink) + colour * ink
    return np.round(mixed).astype(np.uint8), ink >= INK


def scenes(photographs: Split, digits: Split, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene for `count` photographs, evenly spread over theirs: images (count, 3, H, W), labels (count, H, W)."""
    chosen = np.arange(count) * len(photographs) // count
    images = np.array(photographs.images[chosen])
    labels = np.full((count, *images.shape[2:]), PHOTOGRAPH, dtype=np.int64)
    for index in range(count):
        random = np.random.Generator(np.random.Philox(key=[KEYS[split], index]))
        digit = int(random.integers(len(digits)))
        images[index], there = scene(images[index], digits.images[digit, 0], random)
        labels[index][there] = digits.labels[digit]
    return images, labels


@click.command()
@click.argument("photographs")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--digits", default="mnist-sample", show_default=True, help="data set whose digits are laid over")
@click.option("--train", type=click.IntRange(1), default=10_000, show_default=True, help="training scenes")
@click.option("--test", type=click.IntRange(1), default=2_000, show_default=True, help="test scenes")
@click.option("--data-dir", type=click.Path(path_type=Path), help="folder of the data sets")
def main(photographs: str, out: Path, digits: str, train: int, test: int, data_dir: Path | None) -> None:
    """Write scenes of PHOTOGRAPHS, a prepared data set of kind images in colour, to the file OUT (.npz)."""
    source, over, arrays = load_dataset("images", data_dir, name=photographs), load_dataset(digits, data_dir), {}
    for split, below, above, count in (
        ("train", source.train, over.train, train),
        ("test", source.test, over.test, test),
    ):
        if count > len(below) or below.images.shape[1] != 3 or min(below.images.shape[2:]) < LARGEST:
            raise click.UsageError(f"{photographs}: not {count} {split} images in colour of {LARGEST} pixels or more")
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = scenes(below, above, split, count)
    with atomic_file(out) as aside, aside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    click.echo(f"{out}: {train:,} training and {test:,} test scenes")


if __name__ == "__main__":
    main()
