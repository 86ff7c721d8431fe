"""`bnn infer` and `bnn prune`: the records they leave, what an interruption keeps, and one line for what is wrong."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from bnn.cli import main
from bnn.commands.output import made_before
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference import chunks
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.layers import bayesian_layers
from bnn.posterior import load_posterior
from bnn.posterior.save import save_network
from bnn.pruning import levels
from bnn.pruning.evaluate import accuracy_loss
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.records import inference as records
from bnn.records import pruning as pruning_records
from bnn.records.columns import read_table
from tests.support.posteriors import paper_network

IMAGES = 60


@pytest.fixture(scope="module")
def posterior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow fc posterior as a cell's folder has it."""
    folder = tmp_path_factory.mktemp("cell")
    network = paper_network("fc", 1 / 16)
    extra = {"settings": {"rho_init": -2.0, "model": "fc"}}
    network.graph = network.graph.model_copy(update={"step": 12, "extra": extra})
    save_network(network, folder / "posterior" / "step-12")
    network.graph = network.graph.model_copy(update={"step": 7})
    save_network(network, folder / "posterior" / "step-7")
    return folder


def infer_settings(posterior: Path, **more: Any) -> InferSettings:
    return InferSettings(**{"posterior": posterior, "dataset": "mnist-sample", "images": IMAGES, "draws": 40, **more})


def prune_settings(posterior: Path, **more: Any) -> PruneSettings:
    values = {"posterior": posterior, "dataset": "mnist-sample", "images": IMAGES, "draws": 8, "percent": (50, 90)}
    return PruneSettings(**{**values, **more})


def run_infer(posterior: Path, out: Path, **more: Any) -> records.InferenceSummary:
    summary = infer(infer_settings(posterior, **more), out, SingleEngine(), 0.0)
    assert summary is not None
    return summary


def arrays(out: Path) -> np.ndarray:
    with np.load(out / records.ARRAYS_FILE, allow_pickle=False) as found:
        assert set(found.files) == {"probabilities", "image", "label"}
        return found["probabilities"]


def test_an_inference_leaves_records_that_agree(posterior: Path, tmp_path: Path) -> None:
    summary = run_infer(posterior, tmp_path / "out")
    out = tmp_path / "out"
    written = records.InferenceSummary.model_validate_json((out / records.INFERENCE).read_text())
    assert written == summary
    probabilities = arrays(out)
    assert probabilities.shape == (40, IMAGES, 10)
    images = read_table(out / records.IMAGES_FILE, records.IMAGES)
    predictions = read_table(out / records.PREDICTIONS_FILE, records.PREDICTIONS)
    mean = predictions["probability"].to_numpy().reshape(IMAGES, 10)
    np.testing.assert_allclose(mean, probabilities.astype(np.float64).mean(0), rtol=1e-12)
    assert summary.accuracy == (mean.argmax(1) == images["label"]).mean()
    draws = read_table(out / records.DRAWS_FILE, records.DRAWS)
    assert len(draws) == 40
    assert (draws["seconds"] > 0).all()
    assert summary.accuracy_single_draw == pytest.approx(draws["accuracy"].mean())
    shown = read_table(out / records.TRUE_CLASS_FILE, records.TRUE_CLASS)
    places = {image: place for place, image in enumerate(images["image"])}
    assert list(images["image"]) == [place * 1000 // IMAGES for place in range(IMAGES)]  # spread over the split
    for row in shown.sample(20, random_state=0).itertuples():
        assert row.probability == probabilities[row.draw, places[row.image], row.label]
    assert len(set(shown["image"])) == 10
    assert set(shown["label"]) == set(images["label"])
    assert read_table(out / records.RELIABILITY_FILE, records.RELIABILITY)["count"].sum() == IMAGES
    assert list(read_table(out / records.CONVERGENCE_FILE, records.CONVERGENCE)["draws"]) == [10, 20]
    facts = summary.posterior
    assert (facts.step, facts.kernel_weights, facts.nonzeros) == (12, 784 * 16 + 256 + 160, 784 * 16 + 256 + 160)
    assert facts.sigma_median_start == pytest.approx(float(torch.nn.functional.softplus(torch.tensor(-2.0))))
    assert not list(out.glob(".*"))  # nothing is left of the work


def test_steps_can_be_chosen(posterior: Path, tmp_path: Path) -> None:
    assert run_infer(posterior, tmp_path / "a", step=7, draws=2).posterior.step == 7
    assert run_infer(posterior / "posterior" / "step-7", tmp_path / "b", draws=2).posterior.step == 7
    with pytest.raises(UserError, match=r"no posterior of step 8 \(there are: 7, 12\)"):
        run_infer(posterior, tmp_path / "c", step=8)


@pytest.mark.parametrize("at_once", [1, 7, 40])
def test_chunks_change_nothing(posterior: Path, tmp_path: Path, at_once: int) -> None:
    whole = run_infer(posterior, tmp_path / "whole")
    parts = run_infer(posterior, tmp_path / "parts", draws_at_once=at_once)
    assert arrays(tmp_path / "whole").tobytes() == arrays(tmp_path / "parts").tobytes()
    same = ("accuracy", "nll", "brier", "calibration_error", "mutual_information", "softmax_spread", "settled_draws")
    assert all(getattr(whole, name) == getattr(parts, name) for name in same)


def test_an_interrupted_inference_keeps_its_chunks(
    posterior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    write = chunks.write_chunk

    def stop_after_three(folder: Path, chunk: chunks.Chunk) -> None:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(chunk.first)
        write(folder, chunk)

    monkeypatch.setattr(chunks, "write_chunk", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        run_infer(posterior, tmp_path / "out", draws_at_once=5)
    assert not (tmp_path / "out" / records.INFERENCE).exists()
    again: list[int] = []
    monkeypatch.setattr(chunks, "write_chunk", lambda folder, chunk: (again.append(chunk.first), write(folder, chunk)))
    run_infer(posterior, tmp_path / "out", draws_at_once=5)
    assert (made, again) == ([0, 5, 10], [15, 20, 25, 30, 35])
    run_infer(posterior, tmp_path / "fresh")
    assert arrays(tmp_path / "out").tobytes() == arrays(tmp_path / "fresh").tobytes()


def test_chunks_of_other_settings_are_not_taken(
    posterior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.inference.run.gather", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_infer(posterior, tmp_path / "out")
    monkeypatch.undo()
    run_infer(posterior, tmp_path / "out", seed=2)
    run_infer(posterior, tmp_path / "fresh", seed=2)
    assert arrays(tmp_path / "out").tobytes() == arrays(tmp_path / "fresh").tobytes()


def test_a_damaged_chunk_is_named(posterior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = chunks.write_chunk

    def truncated(folder: Path, chunk: chunks.Chunk) -> None:
        write(folder, chunk)
        path = chunks.chunk_file(folder, chunk.first)
        path.write_bytes(path.read_bytes()[:100])

    monkeypatch.setattr(chunks, "write_chunk", truncated)
    with pytest.raises(UserError, match=r"chunk-00000000\.npz: damaged"):
        run_infer(posterior, tmp_path / "out")


def test_draws_are_never_all_in_memory(posterior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * IMAGES * 10 * 3)
    sizes: list[int] = []
    add = chunks.ArraysWriter.add
    monkeypatch.setattr(chunks.ArraysWriter, "add", lambda self, p: (sizes.append(len(p)), add(self, p)))
    run_infer(posterior, tmp_path / "out", draws=300)
    assert max(sizes) == 3
    assert sum(sizes) == 300


def test_a_degenerate_posterior_is_a_warning(tmp_path: Path) -> None:
    network = paper_network("fc", 1 / 16)
    for layer in bayesian_layers(network):
        torch.nn.init.constant_(layer.rho, -12.0)
    extra = {"settings": {"rho_init": -12.0}}
    network.graph = network.graph.model_copy(update={"extra": extra})
    save_network(network, tmp_path / "p")
    reasons = run_infer(tmp_path / "p", tmp_path / "out").verdict.reasons
    assert any("has not moved from its start" in reason for reason in reasons)
    assert any("draws all alike" in reason for reason in reasons)


def test_a_sweep_leaves_records_that_agree(posterior: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = prune(prune_settings(posterior), out, 0.0)
    assert pruning_records.PruningSummary.model_validate_json((out / "pruning.json").read_text()) == summary
    table = read_table(out / "pruning.parquet", pruning_records.PRUNING)
    assert list(table["level"]) == [-1, 0, 1]
    assert table["percent"].tolist() == pytest.approx([0, 50, 90], abs=0.01)
    left = table["kernel_weights"] * (1 - table["percent"] / 100)
    assert table["nonzeros"].tolist() == pytest.approx(left.tolist())
    layers = read_table(out / "layers.parquet", pruning_records.LAYERS)
    assert (layers.groupby("level")["nonzeros"].sum().to_numpy() == table["nonzeros"].to_numpy()).all()
    assert (table["accuracy_loss_low"] <= table["accuracy_loss"]).all()
    assert table["accuracy_loss"].to_numpy() == pytest.approx(100 * (table["accuracy"][0] - table["accuracy"]))
    timed = table[table["level"] >= 0]
    forms = [f"seconds_{form}".replace("-", "_") for form in timed["form"]]  # chosen on rounds of their own
    assert timed["seconds"].tolist() == [timed[column][row] for row, column in zip(timed.index, forms, strict=True)]
    read_table(out / "snr.parquet", pruning_records.SNR)
    shown = read_table(out / "true_class.parquet", pruning_records.LEVEL_TRUE_CLASS)
    assert set(shown["level"]) == {-1, 0, 1}
    pruned = load_posterior(out / "level-1" / "posterior")
    left = sum(int(((layer.mu != 0) | (layer.sigma != 0)).sum()) for layer in bayesian_layers(pruned))
    assert left == table["nonzeros"][2]
    with np.load(out / "level-1" / "predictive.npz") as found:
        assert (found["probabilities"].argmax(1) == found["label"]).mean() == table["accuracy"][2]
    assert not list(out.glob(".*"))
    again = run_infer(out / "level-1" / "posterior", tmp_path / "inferred", draws=8)  # a posterior like any other
    assert again.accuracy == table["accuracy"][2]


def test_a_job_that_is_started_again_keeps_what_it_has_made(posterior: Path, tmp_path: Path) -> None:
    """Of the same label `job` and the same posterior; a command by hand, which has none, runs."""

    def begun(out: Path, name: str) -> float:
        return float(json.loads((out / name).read_text())["started_at"])

    for moment, labels in ((1.0, {"job": "a"}), (2.0, {"job": "a"})):
        infer(infer_settings(posterior, draws=2, labels=labels), tmp_path / "i", SingleEngine(), moment)
        prune(prune_settings(posterior, draws=2, labels=labels), tmp_path / "p", moment)
        assert begun(tmp_path / "i", records.INFERENCE) == begun(tmp_path / "p", "pruning.json") == 1.0
    record = tmp_path / "i" / records.INFERENCE
    assert made_before(record, records.InferenceSummary, {"job": "a"}, "0" * 64) is None, "of another posterior"
    for moment, labels in ((4.0, {"job": "b"}), (5.0, {})):
        infer(infer_settings(posterior, draws=2, labels=labels), tmp_path / "i", SingleEngine(), moment)
        prune(prune_settings(posterior, draws=2, labels=labels), tmp_path / "p", moment)
        assert begun(tmp_path / "i", records.INFERENCE) == begun(tmp_path / "p", "pruning.json") == moment


@pytest.mark.parametrize("semantics", ["bprune", "mean-only"])
def test_other_semantics_have_one_form(posterior: Path, tmp_path: Path, semantics: str) -> None:
    prune(prune_settings(posterior, semantics=semantics), tmp_path / "out", 0.0)
    table = read_table(tmp_path / "out" / "pruning.parquet", pruning_records.PRUNING)
    assert set(table["form"]) == {"dense"}
    assert table[["seconds_csr", "seconds_compact"]].isna().all(axis=None)
    assert table["percent"].tolist() == pytest.approx([0, 50, 90], abs=0.01)


def test_a_threshold_makes_one_level(posterior: Path, tmp_path: Path) -> None:
    settings = prune_settings(posterior, percent=None)
    assert settings.levels == [(None, 10.0)]  # BPrune's default
    prune(prune_settings(posterior, percent=None, threshold=0.5), tmp_path / "out", 0.0)
    table = read_table(tmp_path / "out" / "pruning.parquet", pruning_records.PRUNING)
    assert list(table["level"]) == [-1, 0]
    assert table["threshold"][1] >= 0.5
    assert pd.isna(table["percent_asked"][1])


def test_an_interrupted_sweep_keeps_its_levels(
    posterior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[int] = []
    evaluate = levels.evaluate

    def counted(*arguments: Any) -> Any:
        evaluated.append(1)
        if len(evaluated) == 3:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(levels, "evaluate", counted)
    with pytest.raises(KeyboardInterrupt):
        prune(prune_settings(posterior), tmp_path / "out", 0.0)
    prune(prune_settings(posterior), tmp_path / "out", 0.0)
    assert len(evaluated) == 4  # the last level alone was done again
    monkeypatch.setattr(levels, "evaluate", evaluate)
    prune(prune_settings(posterior), tmp_path / "fresh", 0.0)
    same = ["percent", "accuracy", "nll", "nonzeros", "accuracy_loss_high"]
    tables = [read_table(tmp_path / out / "pruning.parquet", pruning_records.PRUNING)[same] for out in ("out", "fresh")]
    pd.testing.assert_frame_equal(*tables)


def test_the_interval_of_a_paired_loss() -> None:
    right = np.array([True] * 90 + [False] * 10)
    worse = right.copy()
    worse[:4] = False
    loss, low, high = accuracy_loss(right, worse)
    assert loss == pytest.approx(4.0)
    # by hand: 5/102 and 1/102 after the adjustment, z = 1.959964
    centre, half = 4 / 102, 1.959964 * np.sqrt((6 / 102 - (4 / 102) ** 2) / 102)
    assert (low, high) == pytest.approx((100 * (centre - half), 100 * (centre + half)), abs=1e-3)
    alike = 100 * 1.959964 * np.sqrt(2) / 102  # points: about the rule of three, as it must be without a difference
    assert accuracy_loss(right, right) == pytest.approx((0.0, -alike, alike))


def bad_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    """Of a graph that does not state the tensors' digest, as those of earlier versions."""

    def damage(folder: Path) -> None:
        graph = json.loads((folder / "graph.json").read_text())
        (folder / "graph.json").write_text(json.dumps(graph | {"tensors_sha256": None}))
        tensors = load_file(folder / "posterior.safetensors")
        change(tensors)
        save_file(tensors, folder / "posterior.safetensors")

    return damage


def truncate(folder: Path) -> None:
    path = folder / "posterior.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def foreign_operation(folder: Path) -> None:
    graph = json.loads((folder / "graph.json").read_text())
    graph["nodes"][1]["type"] = "system"
    (folder / "graph.json").write_text(json.dumps(graph))


@pytest.mark.parametrize("command", ["infer", "prune"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "posterior.safetensors: damaged"),
        (foreign_operation, "operation system"),
        (bad_tensors(lambda t: t["dense1.rho"].fill_(torch.nan)), "dense1.rho contains NaN"),
        (bad_tensors(lambda t: t.pop("dense1.mu") is None), "no tensor dense1.mu"),
        (shutil.rmtree, "no posterior there"),
    ],
)
def test_a_damaged_posterior_is_one_line(
    command: str, damage: Callable[[Path], None], words: str, posterior: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path / "p"
    shutil.copytree(posterior / "posterior" / "step-7", folder)
    damage(folder)
    fails([command, str(folder), "--dataset", "mnist-sample"], words, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["infer", "--dataset", "nothing"], "unknown dataset 'nothing'"),
        (["infer", "--dataset", "mnist-sample", "--images", "1001"], "--images: 1001 asked for, mnist-sample has 1000"),
        (["infer", "--dataset", "mnist-sample", "--draws", "0"], "--draws: Input should be greater than or equal to 1"),
        (["infer", "--dataset", "mnist-sample", "--draws", "many"], "--draws:"),
        (["infer", "--dataset", "mnist-sample", "--mode", "best"], "mode best: unknown"),
        (["infer", "--dataset", "mnist-sample", "--labels", "x"], "--labels: not JSON"),
        (["infer", "--dataset", "synthetic", "--dataset-options", '{"shape": [3, 8, 8]}'], "images of shape [3, 8, 8]"),
        (["infer", "--dataset", "synthetic", "--dataset-options", '{"shape": [1, 28, 28], "classes": 12}'],
         "out of range: this posterior has 10 classes"),
        (["prune", "--dataset", "mnist-sample", "--threshold", "-1"], "--threshold: Input should be greater than"),
        (["prune", "--dataset", "mnist-sample", "--percent", "50,x"], "--percent: '50,x' is not a list of numbers"),
        (["prune", "--dataset", "mnist-sample", "--percent", "100"], "--percent.0: Input should be less than 100"),
        (["prune", "--dataset", "mnist-sample", "--percent", "5", "--threshold", "1"], "give one of them"),
        (["prune", "--dataset", "mnist-sample", "--by", "unit", "--semantics", "bprune"], "use --semantics zero"),
        (["prune", "--dataset", "mnist-sample", "--scope", "all"], "--scope:"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(
    words: list[str], line: str, posterior: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fails([words[0], str(posterior), *words[1:]], line, tmp_path, monkeypatch, capsys)


def fails(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with exit code 2 and that one line, and leaves no record."""
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["bnn", *words, "--out", str(out)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    told = capsys.readouterr().err.strip()
    assert line in told
    assert len(told.splitlines()) == 1
    assert not list(out.rglob("*.json")) + list(out.rglob("*.parquet"))


def test_a_folder_that_cannot_be_made(posterior: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        run_infer(posterior, tmp_path / "file" / "out")
    with pytest.raises(UserError, match="file"):
        prune(prune_settings(posterior), tmp_path / "file" / "out", 0.0)
