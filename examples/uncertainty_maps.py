"""Draws what a segmentation's posterior knows of scenes (examples/scenes.py), and how sure it is, pixel by pixel.

    python -m examples.uncertainty_maps POSTERIOR SCENES.npz MAPS.png

POSTERIOR is a folder that `bnn train --task segmentation` left. The last columns are scenes turned by 90 degrees, as no
training scene was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

import bnn
from bnn.atomic import atomic_file

CLASSES = ListedColormap([*mpl.colormaps["tab10"].colors, (0.93, 0.93, 0.93)])
Maps = tuple[np.ndarray, np.ndarray, np.ndarray]
ROWS = ("scene", "truth", "predicted", "expected\nentropy", "mutual\ninformation")


def maps(images: np.ndarray, labels: np.ndarray, upright: Sequence[np.ndarray], turned: Sequence[np.ndarray]) -> Figure:
    """A column per scene (N, 3, H, W) with its labels (N, H, W), first those that stand upright.

    `upright` and `turned`: predicted classes, expected entropy and mutual information of each, (N, H, W).
    """
    count, straight = len(images), len(upright[0])
    predicted, entropy, information = (np.concatenate(both) for both in zip(upright, turned, strict=True))
    figure = Figure(figsize=(0.95 * count + 1.6, 5.6), layout="constrained")
    axes = figure.subplots(len(ROWS), count, squeeze=False)
    entropies = {"cmap": "magma", "vmin": 0, "vmax": max(0.1, float(entropy.max()))}
    disagreement = {"cmap": "magma", "vmin": 0, "vmax": max(0.1, float(information.max()))}
    classes = {"cmap": CLASSES, "vmin": -0.5, "vmax": 10.5, "interpolation": "nearest"}
    for column in range(count):
        axes[0, column].imshow(images[column].transpose(1, 2, 0))
        shown = axes[1, column].imshow(labels[column], **classes)
        axes[2, column].imshow(predicted[column], **classes)
        expected = axes[3, column].imshow(entropy[column], **entropies)
        mutual = axes[4, column].imshow(information[column], **disagreement)
        axes[0, column].set_title("as trained" if column < straight else "turned", fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for row, name in enumerate(ROWS):
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    legend = figure.colorbar(shown, ax=axes[1:3], ticks=range(11), aspect=14)
    legend.ax.set_yticklabels([*map(str, range(10)), "photo"], fontsize=7)
    for row, image in ((3, expected), (4, mutual)):
        bar = figure.colorbar(image, ax=axes[row], label="nats", aspect=7)
        bar.ax.tick_params(labelsize=7)
    return figure


@click.command()
@click.argument("posterior", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("scenes", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--upright", type=click.IntRange(1), default=6, show_default=True, help="scenes drawn as in training")
@click.option(
    "--turned", type=click.IntRange(1), default=4, show_default=True, help="scenes drawn turned by 90 degrees"
)
@click.option("--judged", type=click.IntRange(1), default=200, show_default=True, help="scenes of either kind")
@click.option("--draws", type=click.IntRange(2), default=50, show_default=True)
def main(posterior: Path, scenes: Path, out: Path, upright: int, turned: int, judged: int, draws: int) -> None:
    """Draw maps of test scenes in SCENES to OUT; print the mean uncertainties of all that were judged."""
    with np.load(scenes, allow_pickle=False) as archive:
        images, labels = archive["test_images"], archive["test_labels"]
    if judged < upright + turned or judged > len(images):
        raise click.UsageError(f"--judged: from {upright + turned} scenes, which are drawn, to {len(images)}")
    chosen = np.arange(judged) * len(images) // judged
    images, labels = images[chosen], labels[chosen]
    straight = judge("as trained", posterior, images, labels, draws)
    lying_images, lying_labels = np.rot90(images, axes=(2, 3)).copy(), np.rot90(labels, axes=(1, 2)).copy()
    lying = judge("turned", posterior, lying_images, lying_labels, draws)
    shown = slice(0, upright), slice(upright, upright + turned)
    figure = maps(
        np.concatenate([images[shown[0]], lying_images[shown[1]]]),
        np.concatenate([labels[shown[0]], lying_labels[shown[1]]]),
        [part[shown[0]] for part in straight],
        [part[shown[1]] for part in lying],
    )
    with atomic_file(out) as aside:
        figure.savefig(aside, format="png", dpi=130)


def judge(name: str, posterior: Path, images: np.ndarray, labels: np.ndarray, draws: int) -> Maps:
    """Predicted classes, expected entropy and mutual information of scenes; prints their means under `name`."""
    found = bnn.predict(posterior, torch.from_numpy(images).float() / 255, draws=draws)
    made = found.label.numpy(), found.expected_entropy.numpy(), found.mutual_information.numpy()
    digit = labels < 10
    right, expected, mutual = ((made[0] == labels)[digit].mean(), *(values[digit].mean() for values in made[1:]))
    click.echo(
        f"{name}: {right:.1%} of the digits' pixels right, with {expected:.3f} nats of expected entropy and "
        f"{mutual:.3f} nats of mutual information"
    )
    return made


if __name__ == "__main__":
    main()
