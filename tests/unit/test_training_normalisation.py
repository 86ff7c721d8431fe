"""`bnn train --normalisation channels`: the training images' mean and standard deviation are part of the model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bnn.data import load_dataset
from bnn.data.base import Dataset, Split
from bnn.engine import SingleEngine
from bnn.inference.predictor import INFERENCE_RANK, Predictor
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.layers import NoiseKey, set_noise
from bnn.models.normalise import MOST_IMAGES, ChannelNorm, channel_norm, running_statistics
from bnn.posterior import load_posterior, save_posterior
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.settings import TrainSettings
from bnn.training import loop
from bnn.training.build import make_model

SOURCE = {"dataset": "synthetic", "dataset_options": {"shape": [3, 12, 12], "size": 40, "test_size": 8}}
OWN = "tests.support.own_models:in_eval_mode"


def settings(**values: Any) -> TrainSettings:
    usual = {"model": "resnet18", "width": 1 / 16, "engine": "single", "batch_size": 8, "normalisation": "channels"}
    return TrainSettings.model_validate({**usual, **SOURCE, **values})


def uneven(seed: int = 0) -> Dataset:
    """Images whose channels differ; the last one is the same everywhere."""
    make = np.random.default_rng(seed)
    images = make.integers(0, [[[200]], [[90]], [[1]]], (40, 3, 12, 12)).astype(np.uint8)
    split = Split(images, make.integers(0, 10, 40))
    return Dataset("uneven", split, split, 10, "made up", None)


def test_statistics_are_those_of_the_pixels() -> None:
    data = uneven()
    norm = channel_norm(data.train)
    pixels = data.train.images / 255.0
    assert norm.mean.flatten().numpy() == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-7)
    assert norm.std.flatten().numpy()[:2] == pytest.approx(pixels.std((0, 2, 3))[:2], rel=1e-6)
    assert norm.std.flatten()[2] == 1, "a channel of one value is not divided"
    normalised = norm(torch.from_numpy(pixels).float())
    assert normalised.mean((0, 2, 3)).abs().max() < 1e-6
    assert normalised[:, :2].std((0, 2, 3), correction=0) == pytest.approx(torch.ones(2), abs=1e-5)


def test_of_a_large_set_images_spread_over_it_are_counted() -> None:
    count = 3 * MOST_IMAGES
    images = np.repeat(np.arange(count) * 255 // (count - 1), 4).reshape(count, 1, 2, 2).astype(np.uint8)
    norm = channel_norm(Split(images, np.zeros(count, np.int64)))
    assert float(norm.mean) == pytest.approx(images.mean() / 255, abs=1e-3)
    assert float(norm.std) == pytest.approx(images.std() / 255, abs=1e-3)


@pytest.mark.parametrize("kind", ["bnn", "cnn", "ivon", "mc-dropout"])
def test_the_built_in_networks_differ_by_their_first_operation_alone(kind: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"kind": "cnn"} if kind == "cnn" else {}
    if kind in ("ivon", "mc-dropout"):
        more = {"estimator": kind} | ({"learning_rate": 0.1} if kind == "ivon" else {})
    data = uneven()
    model = make_model(settings(**more), data).eval()
    plain = make_model(settings(normalisation="none", **more), data).eval()
    images = torch.from_numpy(data.train.images[:4]).float() / 255
    for each in (model, plain):
        set_noise(each, NoiseKey(1))
    with torch.no_grad():
        assert torch.allclose(model(images), plain(channel_norm(data.train)(images)), atol=1e-5)
    own = {id(buffer) for module in model.modules() if isinstance(module, ChannelNorm) for buffer in module.buffers()}
    assert len(own) == 2
    assert own.isdisjoint(map(id, running_statistics(model)))
    assert len(list(running_statistics(model))) == len(list(plain.buffers()))


def test_a_posterior_takes_images_as_they_are(tmp_path: Path) -> None:
    data = uneven()
    model = make_model(settings(), data).eval()
    images = torch.from_numpy(data.train.images[:5]).float() / 255
    save_posterior(model, tmp_path / "p", example_input=images[:1], step=1)
    predictor = Predictor(load_posterior(tmp_path / "p"))
    made = next(predictor.logits(3, 0, 1, [images]))
    set_noise(model, NoiseKey(3, 0, INFERENCE_RANK))
    with torch.no_grad():
        assert torch.allclose(made, model(images), atol=1e-4)
    assert predictor.stem is not None, "it is done once for all draws"


@pytest.mark.parametrize("model", ["resnet18", OWN])
def test_a_run_trains_saves_infers_and_prunes(tmp_path: Path, model: str) -> None:
    width = {} if model == OWN else {"width": 1 / 16}
    asked = settings(model=model, max_steps=3, evaluate="final", **({"width": 1.0} | width))
    cell, now = tmp_path / "cell", time.time()
    assert loop.train(asked, cell, SingleEngine(), now) is not None
    [file] = cell.glob("posterior/step-*/posterior.safetensors")
    norm = channel_norm(load_dataset("synthetic", None, **SOURCE["dataset_options"]).train)
    saved = load_file(file)
    assert saved["normalise.mean"].equal(norm.mean)
    assert saved["normalise.std"].equal(norm.std)
    infer(InferSettings(posterior=cell, images=8, draws=2, **SOURCE), tmp_path / "inferred", SingleEngine(), now)
    for by in ("weight", "unit"):
        wanted = PruneSettings(posterior=cell, images=8, draws=2, percent=(50,), by=by, **SOURCE)
        prune(wanted, tmp_path / by, now)


def test_it_is_in_the_hash_where_it_is_set() -> None:
    assert "normalisation" not in settings(normalisation="none").science()
    assert settings().fingerprint() != settings(normalisation="none").fingerprint()
    assert isinstance(make_model(settings(), uneven()), nn.Sequential)
