"""`bnn train --bayesian-biases`: biases of a model of one's own with a posterior."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from bnn.data import load_dataset
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.layers.pretrained import conventional_names
from bnn.layers.report import conversion_report
from bnn.models.build import build_model
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.settings import SettingsError, TrainSettings, parse_settings
from bnn.training import loop
from bnn.training.build import make_model

OWN = "tests.support.own_models:in_eval_mode"  # 0 is a convolution, 1 a BatchNorm, 6 a Linear
SOURCE = {"dataset": "synthetic", "dataset_options": {"shape": [3, 12, 12], "size": 40, "test_size": 8}}
DATA = load_dataset("synthetic", None, shape=(3, 12, 12), size=8, test_size=4)


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.model_validate({"model": OWN, "engine": "single", **SOURCE, **values})


def bayesian(**values: Any) -> set[str]:
    return {row.name for row in conversion_report(make_model(settings(**values), DATA)) if row.bayesian}


@pytest.mark.parametrize("estimator", ["flipout", "flipout-reference", "reparameterization"])
def test_biases_are_bayesian_where_that_is_asked_for(estimator: str) -> None:
    asked: dict[str, Any] = {"bayesian_biases": True, "estimator": estimator}
    assert bayesian(estimator=estimator) == {"0.weight", "6.weight"}
    assert bayesian(**asked) == {"0.weight", "0.bias", "6.weight", "6.bias"}
    assert bayesian(**asked, where="6") == {"6.weight", "6.bias"}
    assert bayesian(**asked, kind="cnn") == set()


def test_a_run_trains_saves_infers_and_prunes(tmp_path: Path) -> None:
    asked = settings(bayesian_biases=True, batch_size=8, max_steps=3, learning_rate=0.01, evaluate="final")
    cell, now = tmp_path / "cell", time.time()
    start = make_model(asked, DATA).state_dict()
    assert loop.train(asked, cell, SingleEngine(), now) is not None
    [file] = cell.glob("posterior/step-*/posterior.safetensors")
    trained = load_file(file)
    for name in ("0.bias_posterior.mu", "0.bias_posterior.rho", "6.bias_posterior.mu", "6.bias_posterior.rho"):
        assert not trained[name].equal(start[name]), f"{name} was not trained"
    rows = json.loads((cell / "summary.json").read_text())["conversion"]
    assert {row["name"] for row in rows if row["bayesian"]} == {"0.weight", "0.bias", "6.weight", "6.bias"}
    infer(InferSettings(posterior=cell, images=8, draws=2, **SOURCE), tmp_path / "inferred", SingleEngine(), now)
    for by in ("weight", "unit"):
        asked_for = PruneSettings(posterior=cell, images=8, draws=2, percent=(50,), by=by, **SOURCE)
        prune(asked_for, tmp_path / by, now)
        assert (tmp_path / by / "pruning.json").is_file() or list((tmp_path / by).glob("*.parquet"))


def test_it_starts_from_a_pretrained_networks_own_names(tmp_path: Path) -> None:
    network = make_model(settings(kind="cnn", seed=5), DATA).state_dict()
    save_file(network, tmp_path / "network.safetensors")
    asked = settings(bayesian_biases=True, init=tmp_path / "network.safetensors", sigma_share=0.1)
    names = conventional_names(make_model(asked, DATA))
    assert names.keys() == network.keys()
    assert all(names[name].detach().equal(value) for name, value in network.items())


def test_built_in_models_refuse_it_by_name() -> None:
    with pytest.raises(SettingsError, match="bayesian_biases: biases of vgg16 have no prior") as error:
        parse_settings({"model": "vgg16", "bayesian_biases": True}, "f.json")
    assert error.value.key == "bayesian_biases"
    assert parse_settings({"model": "vgg16", "kind": "cnn", "bayesian_biases": True}, "f.json")
    with pytest.raises(UserError, match="model fc: biases applies to models of one's own only"):
        build_model("fc", "bnn", input_shape=(3, 12, 12), classes=10, biases=True)


def test_it_is_in_the_hash_where_it_is_set() -> None:
    plain = settings()
    assert "bayesian_biases" not in plain.science()
    assert settings(bayesian_biases=False).fingerprint() == plain.fingerprint()
    assert settings(bayesian_biases=True).fingerprint() != plain.fingerprint()
    assert settings(kind="cnn", bayesian_biases=True).fingerprint() == settings(kind="cnn").fingerprint()
