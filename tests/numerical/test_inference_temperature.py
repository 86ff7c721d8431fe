"""Temperature scaling: the number that is found, against scipy's and a planted one, and what is predicted with it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from torch import Tensor

from bnn.cli import main
from bnn.data import load_dataset
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference import temperature as module
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.inference.temperature import best_temperature, nll_at
from bnn.posterior import GraphNetwork, load_posterior
from bnn.posterior.save import save_network
from bnn.records import inference as records
from tests.support.posteriors import paper_network

IMAGES, FIT_IMAGES = 20, 60


def by_scipy(logits: np.ndarray, labels: np.ndarray) -> optimize.OptimizeResult:
    """The least NLL by another optimizer and another softmax."""

    def nll(inverse: float) -> float:
        of_label = special.softmax(logits * inverse, axis=2).mean(0)[np.arange(len(labels)), labels]
        return float(-np.log(of_label).mean())

    inverses = np.geomspace(1 / 32, 32, 400)
    best = min(inverses, key=nll)
    return optimize.minimize_scalar(nll, bracket=(best * 0.9, best, best * 1.1), method="brent", tol=1e-10)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**16), st.sampled_from([1, 4]), st.floats(0.3, 4.0))
def test_the_temperature_is_scipys_optimum(seed: int, draws: int, truth: float) -> None:
    make = np.random.default_rng(seed)
    logits = (2 * make.standard_normal((1, 200, 5)) + make.standard_normal((draws, 200, 5))).astype(np.float32)
    probability = special.softmax(logits.astype(float) / truth, axis=2).mean(0)
    labels = np.array([make.choice(5, p=each) for each in probability])
    expected = by_scipy(logits.astype(float), labels)
    tensors = torch.from_numpy(logits), torch.from_numpy(labels)
    found = best_temperature(*tensors)
    assert found == pytest.approx(1 / expected.x, rel=1e-3)
    assert nll_at(found, *tensors) == pytest.approx(expected.fun, rel=1e-9)


def test_a_planted_temperature_is_found_again() -> None:
    make = np.random.default_rng(1)
    logits = 3 * make.standard_normal((1, 20_000, 4))
    labels = np.array([make.choice(4, p=each) for each in special.softmax(logits[0] / 2.5, axis=1)])
    assert best_temperature(torch.from_numpy(logits), torch.from_numpy(labels)) == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize("right", [True, False])
def test_images_that_cannot_tell_are_named(right: bool) -> None:
    """All of them told right, the surer the better; all told wrong, the less sure the better."""
    labels = torch.arange(12) % 3
    logits = torch.nn.functional.one_hot(labels, 3).float()[None] * (5 if right else -5)
    with pytest.raises(UserError, match=r"--temperature fit: the NLL of 12 images is least at temperature"):
        best_temperature(logits, labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BNNs a and b, conventional networks x and y, which have learnt a little."""
    folder = tmp_path_factory.mktemp("posteriors")
    for name, kind, seed in (("a", "bnn", 0), ("b", "bnn", 1), ("x", "cnn", 0), ("y", "cnn", 1)):
        network = paper_network("fc", 1 / 16, seed=seed, kind=kind)
        if kind == "cnn":
            learn_a_little(network)
        save_network(network.eval(), folder / name)
    return folder


def learn_a_little(network: GraphNetwork) -> None:
    train = load_dataset("mnist-sample").train
    some = np.arange(400) * len(train) // 400  # (the split may be sorted by class)
    images, labels = torch.from_numpy(train.images[some]).float() / 255, torch.from_numpy(train.labels[some]).long()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(10):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()


def run(folder: Path, names: str, out: Path, **more: Any) -> tuple[records.InferenceSummary, np.ndarray]:
    first, *others = [folder / name for name in names]
    values = {"dataset": "mnist-sample", "images": IMAGES, "draws": 8, **more}
    summary = infer(InferSettings(posterior=first, others=tuple(others), **values), out, SingleEngine(), 0.0)
    assert summary is not None
    with np.load(out / records.ARRAYS_FILE, allow_pickle=False) as found:
        return summary, found["probabilities"]


@pytest.mark.parametrize(
    ("names", "mode"),
    [("x", "exact"), ("a", "exact"), ("a", "flipout"), ("ab", "exact"), ("xy", "exact"), ("ax", "exact")],
)
def test_a_given_temperature_divides_every_logit(folder: Path, tmp_path: Path, names: str, mode: str) -> None:
    _, plain = run(folder, names, tmp_path / "plain", mode=mode)
    summary, cooled = run(folder, names, tmp_path / "cooled", mode=mode, temperature="2.5")
    expected = special.softmax(np.log(plain.astype(float)) / 2.5, axis=2)
    np.testing.assert_allclose(cooled, expected, rtol=1e-4, atol=1e-6)
    assert (summary.temperature, summary.temperature_fit) == (2.5, None)
    _, one = run(folder, names, tmp_path / "one", mode=mode, temperature="1")
    assert one.tobytes() == plain.tobytes()


@pytest.mark.parametrize("names", ["x", "a", "ab", "xy", "ax"])
def test_a_fit_is_of_the_predictive_distribution_on_training_images(folder: Path, tmp_path: Path, names: str) -> None:
    """Against `bnn infer` itself, asked for these training images at temperature 1."""
    fit, _ = run(folder, names, tmp_path / "fit", temperature="fit", temperature_images=FIT_IMAGES)
    train, drawn = run(folder, names, tmp_path / "train", split="train", images=FIT_IMAGES)
    with np.load(tmp_path / "train" / records.ARRAYS_FILE) as arrays:
        labels, indices = arrays["label"], arrays["image"]
    assert indices.tolist() == (np.arange(FIT_IMAGES) * len(load_dataset("mnist-sample").train) // FIT_IMAGES).tolist()
    expected = by_scipy(np.log(drawn.astype(float)), labels)
    how = fit.temperature_fit
    assert how is not None
    assert (how.split, how.images, how.draws) == ("train", FIT_IMAGES, len(drawn))
    assert how.nll_before == pytest.approx(train.nll, rel=1e-5)
    assert how.nll_after == pytest.approx(expected.fun, rel=1e-5)
    assert how.nll_after < how.nll_before
    assert fit.temperature == pytest.approx(1 / expected.x, rel=1e-2)
    again, given_drawn = run(folder, names, tmp_path / "given", temperature=repr(fit.temperature))
    assert again.nll == fit.nll
    with np.load(tmp_path / "fit" / records.ARRAYS_FILE) as arrays:
        assert arrays["probabilities"].tobytes() == given_drawn.tobytes()


@pytest.mark.parametrize("names", ["x", "ab"])
def test_a_fit_on_held_out_images_is_on_none_that_is_predicted(folder: Path, tmp_path: Path, names: str) -> None:
    """Against `bnn infer` itself, which predicts all of them, and scipy's optimum of those that are left."""
    wanted = {"temperature": "fit", "temperature_split": "test", "temperature_images": FIT_IMAGES}
    fit, _ = run(folder, names, tmp_path / "fit", **wanted)
    every, drawn = run(folder, names, tmp_path / "every", images=None)
    with np.load(tmp_path / "every" / records.ARRAYS_FILE) as arrays:
        labels = arrays["label"]
    predicted = np.arange(IMAGES) * every.images // IMAGES
    left = np.setdiff1d(np.arange(every.images), predicted)
    assert len(left) == every.images - IMAGES
    chosen = left[np.arange(FIT_IMAGES) * len(left) // FIT_IMAGES]
    expected = by_scipy(np.log(drawn[:, chosen].astype(float)), labels[chosen])
    how = fit.temperature_fit
    assert how is not None
    assert (how.split, how.images) == ("test", FIT_IMAGES)
    assert how.nll_after == pytest.approx(expected.fun, rel=1e-5)
    assert fit.temperature == pytest.approx(1 / expected.x, rel=1e-2)
    all_others, _ = run(folder, names, tmp_path / "others", temperature="fit", temperature_split="test",
                        temperature_images=len(left))  # fmt: skip
    assert all_others.temperature_fit is not None
    assert all_others.temperature_fit.images == len(left)
    with pytest.raises(UserError, match=rf"{len(left) + 1} asked for, mnist-sample has {len(left)} other test images"):
        run(folder, names, tmp_path / "more", **(wanted | {"temperature_images": len(left) + 1}))
    with pytest.raises(UserError, match=r"--temperature-split test: all .* are predicted, and none is left to fit on"):
        run(folder, names, tmp_path / "none", **(wanted | {"images": None}))


def test_a_network_alone_by_torch(folder: Path, tmp_path: Path) -> None:
    summary, drawn = run(folder, "x", tmp_path / "out", temperature="fit", temperature_images=FIT_IMAGES)
    data = load_dataset("mnist-sample").test
    indices = np.arange(IMAGES) * len(data) // IMAGES
    with torch.no_grad():
        logits: Tensor = load_posterior(folder / "x")(torch.from_numpy(data.images[indices]).float() / 255)
    np.testing.assert_allclose(drawn[0], (logits / summary.temperature).softmax(1).numpy(), atol=1e-5)
    assert summary.temperature != 1


def test_fewer_draws_are_kept_where_logits_are_many(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, draws in ((10 * FIT_IMAGES * 5, 4), (1, 2)):  # whole rounds of both members, at least one
        monkeypatch.setattr(module, "MOST_LOGITS", most)
        out = tmp_path / str(most)
        summary, _ = run(folder, "ab", out, temperature="fit", temperature_images=FIT_IMAGES)
        assert summary.temperature_fit is not None
        assert summary.temperature_fit.draws == draws


def test_chunks_of_another_temperature_are_not_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.inference.run.gather", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(folder, "a", tmp_path / "out")
    monkeypatch.undo()
    _, found = run(folder, "a", tmp_path / "out", temperature="3")
    _, fresh = run(folder, "a", tmp_path / "fresh", temperature="3")
    assert found.tobytes() == fresh.tobytes()
    asked = InferSettings(posterior=Path("p"), dataset="mnist")
    assert len({asked.fingerprint("0" * 64, 1, each) for each in (1.0, 2.0, 2.5)}) == 3
    assert asked.fingerprint("0" * 64, 1, 1.0) == asked.fingerprint("0" * 64, 1)


def command(folder: Path, out: Path, *options: str) -> list[str]:
    return [
        "bnn", "infer", str(folder / "x"), "--dataset", "mnist-sample", "--images", "20", "--threads", "1",
        "--out", str(out), *options,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--temperature", "warm"), "'warm' is neither fit nor a number above 0"),
        (("--temperature", "0"), "'0' is neither fit nor a number above 0"),
        (("--temperature", "nan"), "'nan' is neither fit nor a number above 0"),
        (("--temperature", "inf"), "'inf' is neither fit nor a number above 0"),
        (("--temperature", "2", "--temperature-images", "5"), "--temperature-images: there is no --temperature fit"),
        (("--temperature-split", "test"), "--temperature-split: there is no --temperature fit"),
        (("--temperature", "fit", "--temperature-split", "valid"), "temperature"),
        (("--temperature", "fit", "--temperature-images", "999999"), "--temperature-images: 999999 asked for"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", command(folder, tmp_path / "out", *options))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]


def test_the_command_says_what_it_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--temperature", "fit", "--temperature-images", str(FIT_IMAGES))
    monkeypatch.setattr(sys, "argv", command(folder, tmp_path / "out", *options))
    main()
    written = json.loads((tmp_path / "out" / records.INFERENCE).read_text())
    assert f"temperature {written['temperature']:.4g}" in capsys.readouterr().out
    assert math.isfinite(written["temperature_fit"]["nll_after"])
