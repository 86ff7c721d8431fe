"""Posteriors imported from TensorFlow Probability compute what TensorFlow does (expected outputs: tests/data/tfp)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bnn.data import load_dataset
from bnn.inference.predictor import Predictor
from bnn.interop.tfp import import_tfp
from bnn.layers import bayesian_layers, mean_only
from bnn.posterior import load_posterior

DATA = Path(__file__).parents[1] / "data" / "tfp"


@pytest.mark.parametrize(
    ("name", "model", "size", "classes", "width"),
    [
        ("strided", "tests.support.models:strided", (9, 12), 3, 1.0),
        ("resnet18", "resnet18", (16, 16), 4, 0.03),
        ("resnet18", "resnet18", (15, 18), 4, 0.03),
    ],
)
def test_logits_and_sigmas_are_tensorflows(
    tmp_path: Path, name: str, model: str, size: tuple[int, int], classes: int, width: float
) -> None:
    expected = np.load(DATA / f"{name}-expected.npz")
    images = torch.from_numpy(expected[f"images_{size[0]}x{size[1]}"])
    shape = tuple(images.shape[1:])
    report = import_tfp(DATA / f"{name}.npz", model, tmp_path / "out", input_shape=shape, classes=classes, width=width)
    network = load_posterior(tmp_path / "out")
    with torch.no_grad(), mean_only(network):
        logits = network(images).numpy()
    wanted = expected[f"logits_{size[0]}x{size[1]}"]
    assert np.abs(logits - wanted).max() < 1e-5 * np.abs(wanted).max()
    for layer, source, kind in report.layers:
        if kind != "posterior":
            continue
        sigma = network.get_submodule(layer).sigma.detach().numpy()
        theirs = expected[f"sigma/{source}"]
        theirs = theirs.transpose(3, 2, 0, 1) if theirs.ndim == 4 else theirs.T
        if theirs.ndim == 4 or name == "resnet18":
            np.testing.assert_allclose(sigma, theirs, rtol=2e-6)
        np.testing.assert_allclose(np.sort(sigma, None), np.sort(theirs, None), rtol=2e-6)  # (reordered by flattening)
    assert [layer.layer_index for layer in bayesian_layers(network)] == list(range(len(list(bayesian_layers(network)))))


def test_what_the_file_does_not_say_is_said(tmp_path: Path) -> None:
    report = import_tfp(
        DATA / "strided.npz", "tests.support.models:strided", tmp_path / "out", input_shape=(2, 9, 12), classes=3
    )
    said = "\n".join(report.statements)
    assert "bias" in said  # DenseFlipout without bias: zero
    assert "last" in said  # a plain Dense stays conventional
    assert load_posterior(tmp_path / "out").graph.extra["imported"]["statements"] == list(report.statements)


def test_the_reference_posterior(tmp_path: Path, reference_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = reference_data / "posteriors" / "tfp_conv_mnist.npz"
    import_tfp(file, "tests.support.models:small_mnist", tmp_path / "out", input_shape=(1, 28, 28))
    network = load_posterior(tmp_path / "out")
    test = load_dataset("mnist", reference_data).test
    images, labels = torch.from_numpy(test.images[:2000].copy()).float() / 255, test.labels[:2000]
    with torch.no_grad(), mean_only(network):
        assert (network(images).argmax(1).numpy() == labels).mean() == pytest.approx(0.9835)
    draws = Predictor(network).probabilities(1, 0, 10, [images])
    single = np.mean([(values.argmax(1).numpy() == labels).mean() for values in draws])
    assert single == pytest.approx(0.983, abs=0.003)
