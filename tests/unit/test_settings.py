"""Settings: validated in one place, hashed by what they compute."""

import json

import pytest

from bnn.errors import UserError
from bnn.settings import TrainSettings, parse_settings, read_settings


def test_hash_ignores_where_a_run_is_kept():
    base = TrainSettings()
    assert base.fingerprint() == TrainSettings(labels={"site": "x"}, data_dir="/d", cv_limit=0.5).fingerprint()
    assert base.fingerprint() != TrainSettings(batch_size=64).fingerprint()


def test_hash_ignores_settings_of_the_other_kind():
    assert TrainSettings(kind="cnn").fingerprint() == TrainSettings(kind="cnn", rho_init=-4.0).fingerprint()
    assert TrainSettings(kind="bnn").fingerprint() == TrainSettings(kind="bnn", baseline="cnn-plain").fingerprint()
    assert TrainSettings(kind="bnn").fingerprint() != TrainSettings(kind="bnn", rho_init=-4.0).fingerprint()


@pytest.mark.parametrize(
    ("settings", "implementation", "tuned"),
    [
        ({"kind": "bnn"}, "bnn-flipout", True),
        ({"kind": "bnn", "estimator": "flipout-reference"}, "bnn-flipout-reference", False),
        ({"kind": "cnn"}, "cnn", True),
        ({"kind": "cnn", "baseline": "cnn-plain"}, "cnn-plain", False),
    ],
)
def test_implementation_names(settings, implementation, tuned):
    made = TrainSettings(**settings)
    assert (made.implementation, made.tuned) == (implementation, tuned)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batchsize": 3}, "f.json: batchsize: unknown setting"),
        ({"batch_size": 0}, "f.json: batch_size: Input should be greater than 0"),
        ({"kind": "gnn"}, "f.json: kind: "),
        ({"epochs": "many"}, "f.json: epochs: "),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_key(values, words):
    with pytest.raises(UserError) as caught:
        parse_settings(values, "f.json")
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_settings_files_are_named_when_unreadable(tmp_path):
    with pytest.raises(UserError, match=r"absent\.json: No such file"):
        read_settings(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad\.json: not JSON"):
        read_settings(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match=r"list\.json: expected an object"):
        read_settings(tmp_path / "list.json")
    (tmp_path / "good.json").write_text(json.dumps({"model": "fc"}))
    assert read_settings(tmp_path / "good.json").model == "fc"
