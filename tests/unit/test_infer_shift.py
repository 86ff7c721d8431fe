"""`bnn infer --shift`: the record, the draws and their chunks are of the shifted images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnn.cli import main
from bnn.data import load_dataset
from bnn.engine import SingleEngine
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.inference.severities import Shift
from bnn.inference.shift import shifted_pixels
from bnn.posterior import load_posterior
from bnn.posterior.save import save_network
from bnn.records import inference as records
from bnn.records.columns import read_table
from tests.support.posteriors import paper_network

IMAGES = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posteriors")
    save_network(paper_network("fc", 1 / 16, kind="cnn"), folder / "x")
    save_network(paper_network("fc", 1 / 16), folder / "a")
    return folder


def run(posterior: Path, out: Path, **more: Any) -> tuple[records.InferenceSummary, np.ndarray]:
    settings = InferSettings(posterior=posterior, **{"dataset": "mnist-sample", "images": IMAGES, "draws": 6, **more})
    summary = infer(settings, out, SingleEngine(), 0.0)
    assert summary is not None
    with np.load(out / records.ARRAYS_FILE, allow_pickle=False) as found:
        return summary, found["probabilities"]


@pytest.mark.parametrize("shift", ["rotation:3", "noise:5", "jpeg:1"])
def test_predictions_are_of_the_shifted_images(folder: Path, tmp_path: Path, shift: str) -> None:
    """Against torch, given the images with the indices that the table names."""
    summary, drawn = run(folder / "x", tmp_path / "out", shift=shift)
    indices = read_table(tmp_path / "out" / records.IMAGES_FILE, records.IMAGES)["image"].to_numpy()
    images = shifted_pixels(load_dataset("mnist-sample").test.images[indices], indices, Shift.parse(shift))
    with torch.no_grad():
        expected = load_posterior(folder / "x")(torch.from_numpy(images).float() / 255).softmax(1)
    np.testing.assert_allclose(drawn[0], expected.numpy(), atol=1e-5)
    written = json.loads((tmp_path / "out" / records.INFERENCE).read_text())
    assert written["shift"] == summary.shift == shift
    assert f"; shifted by {shift.partition(':')[0]}, severity {shift[-1]}" in written["dataset_source"]
    clean, _ = run(folder / "x", tmp_path / "clean")
    assert clean.shift is None
    assert "shifted" not in clean.dataset_source


def test_chunks_of_the_images_as_they_were_are_not_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.inference.run.gather", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(folder / "a", tmp_path / "out")
    monkeypatch.undo()
    _, found = run(folder / "a", tmp_path / "out", shift="contrast:5")
    _, fresh = run(folder / "a", tmp_path / "fresh", shift="contrast:5")
    _, clean = run(folder / "a", tmp_path / "clean")
    assert found.tobytes() == fresh.tobytes() != clean.tobytes()


def test_fingerprints_tell_shifts_apart() -> None:
    made = [
        InferSettings(posterior=Path("p"), dataset="mnist", shift=shift).fingerprint("0" * 64, 1)
        for shift in (None, "blur:1", "blur:2", "noise:1")
    ]
    assert len(set(made)) == 4


def test_a_wrong_shift_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["infer", str(folder / "a"), "--dataset", "mnist-sample", "--shift", "blur:9", "--out", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", ["bnn", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    told = capsys.readouterr().err.strip()
    assert caught.value.code == 2
    assert told.endswith("--shift: 'blur:9': no severity '9'; give blur:1 to blur:5")
    assert len(told.splitlines()) == 1
