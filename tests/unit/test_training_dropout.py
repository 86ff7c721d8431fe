"""`bnn train --estimator mc-dropout`: conventional layers, and masks of dropout as a posterior's draws."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bnn.data import load_dataset
from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.layers.dropout import KeyedDropout
from bnn.pruning.run import prune
from bnn.pruning.settings import PruneSettings
from bnn.records.columns import read_table
from bnn.records.inference import DRAWS, DRAWS_FILE
from bnn.settings import SettingsError, TrainSettings, parse_settings
from bnn.training import loop
from bnn.training.build import make_model, make_trainer
from bnn.training.implementation import implementation_of

SOURCE = {"dataset": "synthetic", "dataset_options": {"shape": [3, 12, 12], "size": 40, "test_size": 8}}
DATA = load_dataset("synthetic", None, shape=(3, 12, 12), size=40, test_size=8)


def settings(**values: Any) -> TrainSettings:
    usual = {"model": "resnet18", "width": 1 / 16, "engine": "single", "estimator": "mc-dropout", "batch_size": 8}
    return TrainSettings.model_validate({**usual, **SOURCE, **values})


def with_dropout(shape: tuple[int, ...], classes: int) -> nn.Module:
    drop = nn.Dropout(0.2)
    return nn.Sequential(nn.Flatten(), nn.Linear(432, 9), nn.ReLU(), drop, nn.Linear(9, 9), drop, nn.Linear(9, classes))


def without(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(432, classes), nn.Dropout(0.0))


OWN = "tests.unit.test_training_dropout:with_dropout"


@pytest.mark.parametrize("own", [False, True])
def test_a_run_trains_saves_infers_and_is_not_pruned(
    tmp_path: Path, own: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(model=OWN, width=1.0, max_steps=3) if own else settings(max_steps=3, evaluate="final")
    cell, now = tmp_path / "cell", time.time()
    summary = loop.train(asked, cell, SingleEngine(), now)
    assert summary is not None
    assert summary.implementation.startswith("bnn-mc-dropout")
    assert summary.kl == 0
    assert summary.sigma_median is None
    assert summary.parameters_total == sum(t.numel() for t in load_file(next(cell.rglob("*.safetensors"))).values()) - (
        0 if own else sum(isinstance(m, nn.BatchNorm2d) for m in make_model(asked, DATA).modules())
    )
    said = "predictions draw the masks of 1 layers of dropout (p = 0.2)"
    assert (said in capsys.readouterr().out) == own
    assert own or summary.evaluations[0].draw_spread > 0
    drawn = InferSettings(posterior=cell, images=8, draws=6, **SOURCE)
    infer(drawn, tmp_path / "inferred", SingleEngine(), now)
    first = read_table(tmp_path / "inferred" / DRAWS_FILE, DRAWS)
    assert first["nll"].nunique() == 6
    infer(drawn, tmp_path / "again", SingleEngine(), now)
    assert read_table(tmp_path / "again" / DRAWS_FILE, DRAWS)["nll"].equals(first["nll"])
    told = json.loads((tmp_path / "inferred" / "inference.json").read_text())
    assert told["mutual_information"] > 0
    assert told["posterior"]["sigma_median"] is None
    with pytest.raises(UserError, match="no Bayesian layer in it"):
        prune(PruneSettings(posterior=cell, images=8, draws=2, percent=(50,), **SOURCE), tmp_path / "pruned", now)


def test_a_mixture_of_such_networks_draws_masks_of_each(tmp_path: Path) -> None:
    cells = [tmp_path / f"cell-{seed}" for seed in (1, 2)]
    for seed, cell in enumerate(cells):
        assert loop.train(settings(max_steps=2, seed=seed), cell, SingleEngine(), time.time()) is not None
    asked = InferSettings(posterior=cells[0], others=(cells[1],), images=8, draws=6, **SOURCE)
    infer(asked, tmp_path / "mixed", SingleEngine(), time.time())
    assert read_table(tmp_path / "mixed" / DRAWS_FILE, DRAWS)["nll"].nunique() == 6


def stepped(asked: TrainSettings, steps: int = 3) -> dict[str, Tensor]:
    trainer = make_trainer(asked, DATA, SingleEngine(), Schedule(40, 8, 1, 1, asked.seed, "disjoint"))
    trainer.to_training()
    for step in range(steps):
        trainer.step(step, *trainer.batch(DATA.train, step), lambda: None)
    return dict(trainer.model.state_dict())


def test_masks_are_keyed_by_seed_and_step_while_it_trains() -> None:
    first, again = stepped(settings(precision="float64")), stepped(settings(precision="float64"))
    assert all(first[name].equal(again[name]) for name in first)
    torch.manual_seed(99)
    other = stepped(settings(precision="float64", dropout_rate=0.3))
    assert not all(first[name].equal(other[name]) for name in first)
    plain = stepped(settings(precision="float64", kind="cnn"))
    assert plain.keys() == first.keys()


def test_weight_decay_takes_the_place_of_a_prior() -> None:
    with_decay = stepped(settings(weight_decay=0.5, learning_rate=1e-3))
    without = stepped(settings(learning_rate=1e-3))
    norm = {name: float(sum(value.norm() for value in made.values() if value.dim() == 4))
            for name, made in (("with", with_decay), ("without", without))}  # fmt: skip
    assert norm["with"] < norm["without"]


def test_settings_of_other_estimators_play_no_part() -> None:
    plain = settings()
    assert "dropout_rate" not in plain.science()
    assert settings(dropout_rate=0.2).fingerprint() != plain.fingerprint()
    assert settings(rho_init=-3.0, prior_scale=2.0, beta=0.5).fingerprint() == plain.fingerprint()
    assert settings(weight_decay=0.1).fingerprint() != plain.fingerprint()
    flipout = settings(estimator="flipout")
    assert settings(estimator="flipout", dropout_rate=0.2).fingerprint() == flipout.fingerprint()
    assert settings(kind="cnn", dropout_rate=0.2).fingerprint() == settings(kind="cnn").fingerprint()
    model = make_model(plain, DATA)
    assert implementation_of(plain, model) in ("bnn-mc-dropout", "bnn-mc-dropout-torch")
    assert plain.model_copy(update={"precision": "float64"}).implementation == "bnn-mc-dropout-torch"
    assert {layer.p for layer in model.modules() if isinstance(layer, KeyedDropout)} == {0.1}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dropout_rate": 1.0}, "dropout_rate"),
        ({"dropout_rate": 0.0}, "dropout_rate"),
        ({"model": OWN, "dropout_rate": 0.3}, "dropout_rate: .* has dropout of its own"),
    ],
)
def test_rates_that_cannot_be(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_settings({"estimator": "mc-dropout", **values}, "f.json")


def test_a_model_of_ones_own_without_dropout_is_refused(tmp_path: Path) -> None:
    asked = settings(model=OWN.replace("with_dropout", "without"), width=1.0, max_steps=2)
    with pytest.raises(UserError, match=r"test_training_dropout:without: .*no layer of dropout with p > 0"):
        loop.train(asked, tmp_path / "cell", SingleEngine(), time.time())
