"""What every method leaves is taken by `bnn infer` and `bnn prune`, or refused in one line that says why."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bnn.cli import main
from bnn.engine import SingleEngine
from bnn.records.inference import INFERENCE
from bnn.records.pruning import PRUNING_SUMMARY
from bnn.settings import TrainSettings
from bnn.training import loop

OPTIONS = {"shape": [1, 8, 8], "classes": 3, "size": 64}
FEW: dict[str, Any] = {
    "dataset": "synthetic", "dataset_options": OPTIONS, "model": "fc", "width": 0.02, "batch_size": 16,
    "engine": "single", "max_steps": 4,
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "flipout": {"estimator": "flipout"},
    "flipout-reference": {"estimator": "flipout-reference"},
    "reparameterization": {"estimator": "reparameterization"},
    "local-reparameterization": {"estimator": "local-reparameterization"},
    "ivon": {"estimator": "ivon", "learning_rate": 0.1},
    "mc-dropout": {"estimator": "mc-dropout"},
    "deterministic": {"kind": "cnn"},
}
WITHOUT_WEIGHTS_OF_THEIR_OWN = ("mc-dropout", "deterministic")  # no layer of theirs has a posterior to prune by


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_leaves_is_taken_by_both_commands(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = loop.train(TrainSettings(**FEW | METHODS[method]), tmp_path / "cell", SingleEngine(), time.time())
    assert summary is not None

    def run(*words: str) -> int:
        data = ["--dataset", "synthetic", "--dataset-options", json.dumps(OPTIONS), "--threads", "1", "--images", "20"]
        monkeypatch.setattr(sys, "argv", ["bnn", words[0], str(tmp_path / "cell"), *data, *words[1:]])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    assert run("infer", "--draws", "6", "--out", str(tmp_path / "inferred")) == 0
    inferred = json.loads((tmp_path / "inferred" / INFERENCE).read_text())
    assert inferred["images"] == 20
    assert inferred["draws"] == (1 if method == "deterministic" else 6)
    assert (inferred["mutual_information"] > 0) == (method != "deterministic")
    capsys.readouterr()
    code = run("prune", "--draws", "3", "--percent", "50", "--out", str(tmp_path / "pruned"))
    if method in WITHOUT_WEIGHTS_OF_THEIR_OWN:
        said = capsys.readouterr().err.strip()
        assert code == 2
        assert "no Bayesian layer in it" in said
        assert "\n" not in said
    else:
        assert code == 0
        assert json.loads((tmp_path / "pruned" / PRUNING_SUMMARY).read_text())["levels"]
