"""`--init`: a conventional network's file as the start of a run, and sigma as a share of the means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from bnn.data import load_dataset
from bnn.errors import UserError
from bnn.layers import bayesian_layers
from bnn.models.build import build_model
from bnn.settings import TrainSettings
from bnn.training.build import make_model

SHAPE = (3, 12, 12)
DATA = load_dataset("synthetic", None, shape=SHAPE, size=8, test_size=4)


def settings(model: str, **values: Any) -> TrainSettings:
    return TrainSettings.model_validate({"model": model, "engine": "single", **values})


@pytest.fixture(params=["fc", "tests.support.own_models:in_eval_mode"])
def pretrained(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, torch.nn.Module, Path]:
    torch.manual_seed(1)
    model = build_model(request.param, "cnn", input_shape=SHAPE, classes=10)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return request.param, model.eval(), tmp_path / "weights.safetensors"


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
def test_means_are_the_files_weights(pretrained: Any, kind: str) -> None:
    name, conventional, path = pretrained
    model = make_model(settings(name, kind=kind, init=path), DATA).eval()
    for layer in bayesian_layers(model):
        layer.mean_only = True
    images = torch.rand(2, *SHAPE)
    torch.testing.assert_close(model(images), conventional(images), rtol=1e-4, atol=1e-5)


def test_sigma_is_a_share_of_the_mean_with_a_floor(pretrained: Any) -> None:
    name, _, path = pretrained
    model = make_model(settings(name, init=path, sigma_share=0.1, rho_init=-9.0), DATA)
    floor = functional.softplus(torch.tensor(-9.0))
    for layer in bayesian_layers(model):
        expected = (0.1 * layer.mu.abs()).clamp_min(floor)
        torch.testing.assert_close(layer.sigma, expected, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    missing, text, other = (tmp_path / name for name in ("none", "text", "other.safetensors"))
    text.write_text("no tensors")
    save_file({"dense.weight": torch.zeros(2, 2)}, other)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, words in (
        (missing, "No such file"), (tmp_path, "a folder"), (text, "not a safetensors file"),
        (other, "pretrained weights"), (fifo, "a named pipe"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"^init: {path}: {words}"):
            make_model(settings("fc", kind=kind, init=path), DATA)


def test_the_hash_is_of_what_the_file_holds(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"x": torch.zeros(2)}, first)
    save_file({"x": torch.zeros(2)}, second)
    plain, before = settings("fc").fingerprint(), settings("fc", init=first).fingerprint()
    assert before == settings("fc", init=second).fingerprint() != plain
    save_file({"x": torch.ones(3)}, first)
    assert settings("fc", init=first).fingerprint() != before
    assert settings("fc", init=tmp_path / "none").fingerprint() != plain
    assert settings("fc", kind="cnn", sigma_share=0.1).fingerprint() == settings("fc", kind="cnn").fingerprint()
