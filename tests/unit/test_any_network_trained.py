"""A network of one's own through the commands: trained as it should be, or refused in one line that helps."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file
from torch import Tensor

from bnn.cli import main
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.settings import TrainSettings
from bnn.training import loop
from bnn.training.fit import are_probabilities

DATA = {"dataset": "synthetic", "dataset_options": {"shape": [3, 12, 12], "size": 40, "test_size": 8}}
FEW = {"batch_size": 8, "max_steps": 2, "engine": "single", **DATA}


def train(out: Path, model: str, **more: Any) -> Path:
    """The posterior of a few steps."""
    settings = TrainSettings.model_validate(FEW | {"model": f"tests.support.own_models:{model}"} | more)
    assert loop.train(settings, out, SingleEngine(), time.time()) is not None
    return out


def used(cell: Path, out: Path) -> None:
    """Infer with a cell's posterior, and prune it."""
    now = time.time()
    infer(InferSettings(posterior=cell, images=8, draws=2, **DATA), out / "inferred", SingleEngine(), now)
    prune(PruneSettings(posterior=cell, images=8, draws=2, percent=(50,), **DATA), out / "pruned", now)
    assert (out / "inferred" / "inference.json").is_file() or list((out / "inferred").glob("*.json"))


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
def test_a_view_behind_a_convolution_trains(kind: str, tmp_path: Path) -> None:
    train(tmp_path / "cell", "lenet", kind=kind)


@pytest.mark.parametrize("name", ["volume", "reads_weight", "norm_without_bias", "tokens_first", "pools_with_indices"])
def test_models_that_are_trained_saved_and_used(name: str, tmp_path: Path) -> None:
    used(train(tmp_path / "cell", name), tmp_path)


def test_double_precision_is_trained_saved_and_used(tmp_path: Path) -> None:
    used(train(tmp_path / "cell", "rgb", precision="float64"), tmp_path)


@pytest.mark.parametrize("evaluate", ["none", "epoch"])
def test_a_model_that_comes_in_evaluation_mode_is_trained_in_training_mode(evaluate: str, tmp_path: Path) -> None:
    cell = train(tmp_path / "cell", "in_eval_mode", evaluate=evaluate, epochs=2, max_steps=8)
    [tensors] = cell.glob("posterior/step-*/posterior.safetensors")
    assert load_file(tensors)["1.num_batches_tracked"].item() == 8


@pytest.mark.parametrize("baseline", ["cnn-kernels", "cnn-best"])
def test_a_cnn_by_the_kernels_is_saved(baseline: str, tmp_path: Path) -> None:
    cell = train(tmp_path / "cell", "rgb", kind="cnn", baseline=baseline)
    assert list(cell.glob("posterior/step-*/graph.json"))


REFUSED = {
    "auxiliary": ({}, "own_models:auxiliary.*(tuple|output)"),
    "segmentation": ({}, "own_models:segmentation.*(10, 10|shape|segmentation|task)"),
    "too_few": ({}, "own_models:too_few.*5.*10"),
    "too_many": ({}, "own_models:too_many.*1000.*10"),
    "rgb": ({"dataset_options": {"shape": [1, 12, 12], "size": 40, "test_size": 8}}, "own_models:rgb: .*layer 0"),
    "weight_norm": ({}, "own_models:weight_norm|parametri|weight_norm|layer 1"),
    "no_statistics": ({}, "running statistics"),
}


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("name", [name for name in REFUSED if name not in ("weight_norm", "no_statistics")])
def test_what_does_not_fit_is_refused_before_it_is_trained(name: str, save: bool, tmp_path: Path) -> None:
    more, words = REFUSED[name]
    with pytest.raises(UserError, match=words) as caught:
        train(tmp_path / "cell", name, save_posterior=save, **more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["weight_norm", "no_statistics"])
def test_what_has_no_twin_is_refused_by_name(name: str, tmp_path: Path) -> None:
    more, words = REFUSED[name]
    with pytest.raises(UserError, match=words) as caught:
        train(tmp_path / "cell", name, **more)
    assert "\n" not in str(caught.value)


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["bnn", *words])
    main()


def test_bnn_models_prints_a_model_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, "models", "tests.support.own_models:rgb")
    assert "Conv2d" in capsys.readouterr().out


def test_a_model_is_found_on_the_path_by_every_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from torch import nn\ndef net(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear({}, classes))\n"
    (tmp_path / "mine_alone.py").write_text(code.format("shape[0] * shape[1] * shape[2]"))
    monkeypatch.chdir(tmp_path)
    command(monkeypatch, "models", "mine_alone:net")
    assert "Linear" in capsys.readouterr().out


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda y: y.softmax(1), "clamped": lambda y: y.softmax(1).clamp(1e-7),
    "shifted": lambda y: y.softmax(1) + 1e-8,
    "mean": lambda y: (y.softmax(1) + (2 * y).softmax(1)) / 2, "exponent": lambda y: y.log_softmax(1).exp(),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_probabilities_in_place_of_logits_are_told_before_training(name: str) -> None:
    output = ENDS[name](torch.randn(3, 5))
    assert are_probabilities(output)
    assert not are_probabilities(output.log())
    assert are_probabilities(ENDS[name](torch.randn(2, 5, 4, 4))), "per pixel"


@given(arrays(np.float32, (3, 4), elements=st.floats(-10, 10, width=32)))
def test_logits_are_not_taken_for_probabilities(values: np.ndarray) -> None:
    logits = torch.from_numpy(values)
    assume((logits < 0).any() or ((logits.sum(1) - 1).abs() > 0.01).any())
    assert not are_probabilities(logits)


def test_a_model_that_ends_in_a_softmax_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its outputs are probabilities, which sum to 1 over classes"):
        train(tmp_path / "cell", "ends_in_softmax")


def test_a_model_whose_train_returns_nothing_is_trained_and_used(tmp_path: Path) -> None:
    used(train(tmp_path / "cell", "train_returns_nothing", evaluate="final"), tmp_path)
