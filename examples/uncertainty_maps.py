"""Draws what a segmentation's posterior knows of scenes (examples/scenes.py), and how sure it is, pixel by pixel.

    python -m examples.uncertainty_maps POSTERIOR SCENES.npz MAPS.png

POSTERIOR is a folder that `bnn train --task segmentation` left. The last columns are other scenes turned by 90 degrees,
as no training scene was.
"""

from __future__ import annotations

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
ROWS = ("scene", "truth", "predicted", "expected\nentropy", "mutual\ninformation")


def maps(images: np.ndarray, labels: np.ndarray, found: bnn.Prediction, straight: int) -> Figure:
    """A column per scene (N, 3, H, W) with its labels (N, H, W) and prediction; the first `straight` stand upright."""
    count = len(images)
    figure = Figure(figsize=(0.95 * count + 1.6, 5.6), layout="constrained")
    axes = figure.subplots(len(ROWS), count, squeeze=False)
    entropies = {"cmap": "magma", "vmin": 0, "vmax": max(0.1, float(found.expected_entropy.max()))}
    disagreement = {"cmap": "magma", "vmin": 0, "vmax": max(0.1, float(found.mutual_information.max()))}
    classes = {"cmap": CLASSES, "vmin": -0.5, "vmax": 10.5, "interpolation": "nearest"}
    for column in range(count):
        axes[0, column].imshow(images[column].transpose(1, 2, 0))
        shown = axes[1, column].imshow(labels[column], **classes)
        axes[2, column].imshow(found.label[column].numpy(), **classes)
        expected = axes[3, column].imshow(found.expected_entropy[column].numpy(), **entropies)
        mutual = axes[4, column].imshow(found.mutual_information[column].numpy(), **disagreement)
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
@click.option("--upright", type=click.IntRange(1), default=6, show_default=True, help="scenes as in training")
@click.option("--turned", type=click.IntRange(0), default=4, show_default=True, help="scenes turned by 90 degrees")
@click.option("--draws", type=click.IntRange(2), default=50, show_default=True)
def main(posterior: Path, scenes: Path, out: Path, upright: int, turned: int, draws: int) -> None:
    """Draw the maps of some test scenes in SCENES to OUT; print the mean uncertainties of all that were asked for."""
    count = upright + turned
    with np.load(scenes, allow_pickle=False) as archive:
        images, labels = archive["test_images"][:count].copy(), archive["test_labels"][:count].copy()
    images[upright:] = np.rot90(images[upright:], axes=(2, 3))
    labels[upright:] = np.rot90(labels[upright:], axes=(1, 2))
    found = bnn.predict(posterior, torch.from_numpy(images).float() / 255, draws=draws)
    of_kinds = (found.expected_entropy, found.mutual_information)
    for name, part in (("as trained", slice(0, upright)), ("turned", slice(upright, count))):
        right = (found.label[part].numpy() == labels[part]).mean()
        ink = torch.from_numpy(labels[part] < 10)
        aleatoric, epistemic = (uncertainty[part][ink].mean() for uncertainty in of_kinds)
        click.echo(
            f"{name}: {right:.1%} of the pixels right; on the digits {aleatoric:.3f} nats of expected entropy, "
            f"{epistemic:.3f} nats of mutual information"
        )
    with atomic_file(out) as aside:
        maps(images, labels, found, upright).savefig(aside, format="png", dpi=130)


if __name__ == "__main__":
    main()
