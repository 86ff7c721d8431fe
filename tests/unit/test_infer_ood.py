"""`bnn infer --ood`: another data set's images by the same draws, told from the held-out ones by their uncertainty."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import entropy
from sklearn.metrics import average_precision_score, roc_auc_score

from bnn.cli import main
from bnn.data import load_dataset, prepare_dataset
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference import chunks
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.posterior import load_posterior
from bnn.posterior.save import save_network
from bnn.records import inference as records
from bnn.records.columns import read_table
from tests.support.posteriors import paper_network

IMAGES, OTHERS = 30, 21
OOD: dict[str, Any] = {
    "ood": "synthetic", "ood_options": {"shape": [1, 28, 28], "size": 8, "test_size": 50, "classes": 37},
    "ood_images": OTHERS,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posteriors")
    for seed, name in enumerate("xyz"):
        save_network(paper_network("fc", 1 / 16, seed=seed, kind="cnn"), folder / name)
    for seed, name in enumerate("ab"):
        save_network(paper_network("fc", 1 / 16, seed=seed), folder / name)
    return folder


def run(folder: Path, names: str, out: Path, **more: Any) -> records.InferenceSummary:
    first, *others = [folder / name for name in names]
    values = {"dataset": "mnist-sample", "images": IMAGES, "draws": 12, **more}
    summary = infer(InferSettings(posterior=first, others=tuple(others), **values), out, SingleEngine(), 0.0)
    assert summary is not None
    return summary


def outside_table(out: Path) -> bytes:
    return bytes(read_table(out / records.OOD_IMAGES_FILE, records.OOD_IMAGES).to_numpy(np.float64).tobytes())


def test_an_ensemble_by_hand(folder: Path, tmp_path: Path) -> None:
    """Uncertainties by torch and SciPy, measures by scikit-learn."""
    summary = run(folder, "xyz", tmp_path / "out", **OOD)
    inside = read_table(tmp_path / "out" / records.IMAGES_FILE, records.IMAGES)
    outside = read_table(tmp_path / "out" / records.OOD_IMAGES_FILE, records.OOD_IMAGES)
    assert outside["image"].tolist() == [place * 50 // OTHERS for place in range(OTHERS)]
    images = load_dataset("synthetic", **OOD["ood_options"]).test.images[outside["image"].to_numpy()]
    with torch.no_grad():
        said = [load_posterior(folder / name)(torch.from_numpy(images).float() / 255).softmax(1) for name in "xyz"]
    drawn = torch.stack(said).double().numpy()
    total = entropy(drawn.mean(0), axis=1)
    np.testing.assert_allclose(outside["predictive_entropy"], total, atol=1e-5)
    disagreement = total - entropy(drawn, axis=2).mean(0)
    np.testing.assert_allclose(outside["mutual_information"], disagreement, atol=1e-5)
    found = summary.ood
    assert found is not None
    assert (found.dataset, found.images) == ("synthetic", OTHERS)
    is_outside = np.repeat([0, 1], [IMAGES, OTHERS])
    for name, measures in (
        ("predictive_entropy", found.by_predictive_entropy),
        ("mutual_information", found.by_mutual_information),
    ):
        values = np.concatenate([inside[name], outside[name]])
        assert measures.auroc == pytest.approx(roc_auc_score(is_outside, values))
        assert measures.aupr_out == pytest.approx(average_precision_score(is_outside, values))
        assert getattr(found, name) == pytest.approx(outside[name].mean())
    assert summary.neighbours is not None
    assert {"startup", "draws", "ood"} == set(summary.neighbours)


@pytest.mark.parametrize("names", ["a", "ab", "xa"])
def test_the_held_out_images_are_predicted_as_without(folder: Path, tmp_path: Path, names: str) -> None:
    with_others = run(folder, names, tmp_path / "with", **OOD)
    without = run(folder, names, tmp_path / "without")
    assert without.ood is None
    assert not (tmp_path / "without" / records.OOD_IMAGES_FILE).exists()
    same = ("accuracy", "nll", "aurc", "mutual_information", "images", "draws", "dataset_source")
    assert all(getattr(with_others, name) == getattr(without, name) for name in same)
    drawn = []
    for out in ("with", "without"):
        with np.load(tmp_path / out / records.ARRAYS_FILE, allow_pickle=False) as found:
            drawn.append(found["probabilities"].tobytes())
    assert drawn[0] == drawn[1]
    run(folder, names, tmp_path / "with")  # another run into the same folder leaves nothing of the others
    assert not (tmp_path / "with" / records.OOD_IMAGES_FILE).exists()


@pytest.mark.parametrize("mode", ["exact", "flipout"])
def test_an_interruption_and_chunks_change_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    whole = run(folder, "ab", tmp_path / "whole", mode=mode, **OOD)
    made: list[Path] = []
    write = chunks.write_chunk

    def stop_among_the_others(place: Path, chunk: chunks.Chunk) -> None:
        if chunk.probabilities.shape[1] == OTHERS:
            raise KeyboardInterrupt
        made.append(place)
        write(place, chunk)

    monkeypatch.setattr(chunks, "write_chunk", stop_among_the_others)
    with pytest.raises(KeyboardInterrupt):
        run(folder, "ab", tmp_path / "out", mode=mode, draws_at_once=3, **OOD)
    again: list[int] = []
    monkeypatch.setattr(
        chunks, "write_chunk", lambda place, chunk: (again.append(chunk.probabilities.shape[1]), write(place, chunk))
    )
    resumed = run(folder, "ab", tmp_path / "out", mode=mode, draws_at_once=3, **OOD)
    assert made
    assert set(again) == {OTHERS}
    assert resumed.ood == whole.ood
    assert outside_table(tmp_path / "out") == outside_table(tmp_path / "whole")


def test_records_without_are_read(folder: Path, tmp_path: Path) -> None:
    run(folder, "x", tmp_path / "out")
    record = json.loads((tmp_path / "out" / records.INFERENCE).read_text())
    del record["ood"]
    assert records.InferenceSummary.model_validate(record).ood is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ood": "nothing"}, "unknown dataset 'nothing'"),
        ({"ood": "mnist-sample"}, "--ood mnist-sample: the held-out images are of this data set"),
        ({"ood": "synthetic"}, r"--ood synthetic: images of shape \[3, 32, 32\]; those of mnist-sample have"),
        ({**OOD, "ood_images": 51}, "--ood-images: 51 asked for, synthetic has 50 test images"),
    ],
)
def test_other_data_sets_that_do_not_do(folder: Path, tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(folder, "x", tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_the_same_images_by_another_name_are_no_other_data_set(folder: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), dtype=np.uint8)
    labels = np.arange(40) % 10
    both = {"images": images, "labels": labels}
    arrays = {f"{split}_{name}": array for split in ("train", "test") for name, array in both.items()}
    np.savez(tmp_path / "set.npz", **arrays)
    named = [{"path": str(tmp_path / "set.npz"), "name": name} for name in ("one", "two")]
    for options in named:
        prepare_dataset("arrays", tmp_path / "data", console=Console(quiet=True), **options)
    asked = {"dataset": "arrays", "dataset_options": {"name": "one"}, "data_dir": tmp_path / "data"}
    with pytest.raises(UserError, match=r"--ood arrays: these are the held-out images' own data set \(sha256:"):
        run(folder, "x", tmp_path / "out", **asked, ood="arrays", ood_options={"name": "two"})


def test_options_of_no_data_set_are_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["infer", str(folder / "x"), "--dataset", "mnist-sample", "--ood-images", "5", "--out", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", ["bnn", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    told = capsys.readouterr().err.strip()
    assert told.endswith("--ood-images: there is no --ood that it is of")
    assert len(told.splitlines()) == 1
