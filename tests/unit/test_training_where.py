"""`bnn train --where`: which layers of a model of one's own become Bayesian."""

from __future__ import annotations

from typing import Any

import pytest

from bnn.data import load_dataset
from bnn.errors import UserError
from bnn.layers.report import conversion_report
from bnn.models.build import build_model
from bnn.settings import SettingsError, TrainSettings, parse_settings
from bnn.training.build import make_model

OWN = "tests.support.own_models:in_eval_mode"  # layers with weights: 0 (a convolution) and 6 (Linear)
DATA = load_dataset("synthetic", None, shape=(3, 12, 12), size=8, test_size=4)


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.model_validate({"model": OWN, "engine": "single", **values})


@pytest.mark.parametrize(
    ("where", "bayesian"),
    [
        (None, {"0.weight", "6.weight"}), ("6", {"6.weight"}), ("0, 6", {"0.weight", "6.weight"}),
        ("[0-5]", {"0.weight"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("estimator", ["flipout", "flipout-reference", "reparameterization"])
def test_the_layers_that_it_names_are_bayesian_and_no_others(
    where: str | None, bayesian: set[str], estimator: str
) -> None:
    rows = conversion_report(make_model(settings(where=where, estimator=estimator), DATA))
    assert {row.name for row in rows if row.bayesian} == bayesian
    assert {row.name for row in rows if row.how == "left out by where"} == {"0.weight", "6.weight"} - bayesian


def test_a_pattern_that_fits_no_layer_is_refused() -> None:
    with pytest.raises(UserError, match="where: 'head' fits no layer with weights to convert; there are 0, 6"):
        make_model(settings(where="6,head"), DATA)


def test_a_conventional_run_has_no_choice_to_make() -> None:
    rows = conversion_report(make_model(settings(kind="cnn", where="head"), DATA))
    assert not any(row.bayesian for row in rows)


@pytest.mark.parametrize("where", ["", " ", "6,", ",6", "0,,6"])
def test_an_empty_pattern_is_refused(where: str) -> None:
    with pytest.raises(SettingsError, match=r"where: .* has an empty pattern"):
        parse_settings({"model": OWN, "where": where}, "f.json")


def test_a_built_in_model_refuses_it() -> None:
    with pytest.raises(SettingsError, match="where: all layers of vgg16 are Bayesian"):
        parse_settings({"model": "vgg16", "where": "conv1"}, "f.json")
    with pytest.raises(UserError, match="model fc: where applies to models of one's own only"):
        build_model("fc", "bnn", input_shape=(3, 12, 12), classes=10, where=["0"])


def test_it_is_in_the_hash_where_it_is_set() -> None:
    plain = settings()
    assert "where" not in plain.science()
    assert settings(where="6").fingerprint() != plain.fingerprint() != settings(where="0").fingerprint()
    assert settings(kind="cnn", where="6").fingerprint() == settings(kind="cnn").fingerprint()
