"""The networks, scenes and maps of examples/: what docs/networks.md tells its readers to run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import bnn
from bnn.data.base import Split
from examples.networks import unet, vit
from examples.scenes import PHOTOGRAPH, scenes
from examples.uncertainty_maps import main, maps

WIDE = bnn.PosteriorInit(rho_init=-4.0)


def photographs(count: int) -> Split:
    random = np.random.default_rng(1)
    return Split(random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), np.zeros(count, np.int64))


def digits() -> Split:
    """Squares of ink; the label is the number of the image."""
    images = np.zeros((10, 1, 28, 28), np.uint8)
    images[:, :, 8:20, 8:20] = 255
    return Split(images, np.arange(10))


def test_scenes_depend_on_split_and_index_alone_and_label_their_ink() -> None:
    images, labels = scenes(photographs(6), digits(), "train", 6)
    again, _ = scenes(photographs(6), digits(), "train", 6)
    other, _ = scenes(photographs(6), digits(), "test", 6)
    assert np.array_equal(images, again)
    assert not np.array_equal(images, other)
    assert images.shape == (6, 3, 32, 32)
    for image, label, photograph in zip(images, labels, photographs(6).images, strict=True):
        ink = label != PHOTOGRAPH
        assert 0.02 < ink.mean() < 0.4
        assert len(set(label[ink])) == 1
        assert np.all(image == photograph, axis=0)[~ink].mean() > 0.8  # but for the edges of the ink
    assert len({int(label.min()) for label in labels}) > 1


@pytest.mark.parametrize(("network", "shape"), [(vit, (2, 10)), (unet, (2, 10, 32, 32))])
def test_the_networks_convert_and_predict(network: object, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = bnn.convert(network((3, 32, 32), 10), init=WIDE)  # type: ignore[operator]
    found = bnn.predict(model, torch.rand(2, 3, 32, 32), draws=2)
    assert found.probability.shape == shape
    assert bool((found.mutual_information >= 0).all())


def test_the_command_draws_maps_and_judges_turned_scenes_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images, labels = scenes(photographs(5), digits(), "test", 5)
    np.savez(tmp_path / "scenes.npz", test_images=images, test_labels=labels)
    model = bnn.convert(unet((3, 32, 32), 11), init=WIDE)
    posterior = tmp_path / "posterior"
    bnn.save_posterior(model, posterior, example_input=torch.rand(1, 3, 32, 32), step=0)
    words = [str(posterior), str(tmp_path / "scenes.npz"), str(tmp_path / "maps.png"), "--draws", "2"]
    counts = ["--upright", "3", "--turned", "2", "--judged", "5"]
    done = CliRunner().invoke(main, [*words, *counts], catch_exceptions=False)
    assert done.exit_code == 0
    assert [line.partition(":")[0] for line in done.output.splitlines()] == ["as trained", "turned"]
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    assert "from 10 scenes" in CliRunner().invoke(main, [*words, "--judged", "3"]).output


def test_the_maps_have_a_column_for_every_scene() -> None:
    images, labels = scenes(photographs(5), digits(), "test", 5)
    found = [labels, np.ones(labels.shape), np.zeros(labels.shape)]
    figure = maps(images, labels, [part[:3] for part in found], [part[3:] for part in found])
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["as trained"] * 3 + ["turned"] * 2
    assert len(figure.axes) == 5 * 5 + 3  # and three scales
