"""Settings: validated in one place, hashed by what they compute."""

import json
import math

import pytest

from bnn.errors import UserError
from bnn.settings import SettingsError, TrainSettings, parse_settings, read_settings


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
        ({"kind": "cnn", "baseline": "cnn-best"}, "cnn-best", True),
        ({"kind": "cnn", "baseline": "cnn-kernels"}, "cnn-kernels", True),
        ({"kind": "cnn", "baseline": "cnn-compiled"}, "cnn-compiled", True),
        ({"kind": "cnn", "baseline": "cnn-compiled", "compile": True}, "cnn-compiled", True),
        ({"kind": "cnn", "compile": True}, "cnn-compiled", True),
        ({"kind": "cnn", "baseline": "cnn-plain", "compile": True}, "cnn-plain-compiled", False),
        ({"kind": "cnn", "mixed_precision": "bfloat16"}, "cnn-bfloat16", True),
        ({"kind": "cnn", "compile": True, "mixed_precision": "bfloat16"}, "cnn-compiled-bfloat16", True),
        # where our kernels cannot run, plain torch does, and the name says so
        ({"precision": "float64"}, "bnn-flipout-torch", True),
        ({"device": "cuda"}, "bnn-flipout-torch", True),
        ({"compile": True}, "bnn-flipout-torch-compiled", True),
        ({"mixed_precision": "bfloat16"}, "bnn-flipout-torch-bfloat16", True),
        ({"device": "cuda", "estimator": "flipout-reference"}, "bnn-flipout-reference", False),
        ({"estimator": "local-reparameterization"}, "bnn-local-reparameterization", True),
        ({"estimator": "local-reparameterization", "compile": True}, "bnn-local-reparameterization-compiled", True),
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


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mixed_precision": "bfloat16", "precision": "float64"}, "f.json: mixed_precision: bfloat16 needs precision"),
        (
            {"kind": "cnn", "baseline": "cnn-kernels", "device": "cuda"},
            "f.json: baseline: cnn-kernels needs device cpu",
        ),
        ({"kind": "cnn", "baseline": "cnn-best", "compile": True}, "f.json: compile: baseline cnn-best"),
        ({"mixed_precision": "float16"}, "f.json: mixed_precision: Input should be 'none' or 'bfloat16'"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line_with_the_key(values, words):
    with pytest.raises(UserError) as caught:
        parse_settings(values, "f.json")
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "key", "what"),
    [
        ({"batchsize": 3}, "batchsize", "unknown setting"),
        ({"batch_size": 0}, "batch_size", "Input should be greater than 0"),
        ({"labels": {"a": 1}}, "labels.a", "Input should be a valid string"),
        (
            {"mixed_precision": "bfloat16", "precision": "float64"},
            "mixed_precision",
            "bfloat16 needs precision float32, not float64",
        ),
    ],
)
def test_the_error_has_the_key_and_what_is_wrong_apart(values, key, what):
    with pytest.raises(SettingsError) as caught:
        parse_settings(values, "f: g.json")
    assert (caught.value.key, caught.value.what) == (key, what)
    assert str(caught.value) == f"f: g.json: {key}: {what}"


def test_a_baselines_needs_do_not_bind_a_bnn():
    made = TrainSettings(kind="bnn", baseline="cnn-kernels", device="cuda", compile=True)
    assert made.fingerprint() == TrainSettings(kind="bnn", device="cuda", compile=True).fingerprint()


def test_hash_tells_variants_of_the_exchange_and_of_precision_apart():
    base = TrainSettings().fingerprint()
    for values in ({"gradient_block_mb": 0}, {"compile": True}, {"mixed_precision": "bfloat16"}):
        assert TrainSettings(**values).fingerprint() != base


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"epochs": True}, "epochs"), ({"learning_rate": True}, "learning_rate"), ({"max_steps": False}, "max_steps"),
        ({"seed": 2**64}, "seed"), ({"width": 1e9}, "width"), ({"evaluate_draws": 10**24}, "evaluate_draws"),
        ({"threads": 2**31}, "threads"), ({"fault": {"rank": True, "slow": 0.1}}, "rank"),
    ],
)  # fmt: skip
def test_what_no_run_could_mean_is_refused_by_its_key(values, key):
    with pytest.raises(SettingsError) as error:
        parse_settings(values, "run.json")
    assert error.value.key.split(".")[-1] == key


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


IVON_CELL = {"estimator": "ivon", "learning_rate": 0.1}


def test_settings_of_ivon_are_hashed_by_it_alone():
    base = TrainSettings(**IVON_CELL)
    for values in (
        {"ivon_ess": 100.0}, {"ivon_delta": 1e-3}, {"ivon_hess_init": 0.5}, {"ivon_beta1": 0.8}, {"ivon_beta2": 0.999},
        {"ivon_clip_radius": 1.0}, {"ivon_rescale": False}, {"ivon_noise": "shared"}, {"learning_rate": 0.2},
    ):  # fmt: skip
        assert TrainSettings(**{**IVON_CELL, **values}).fingerprint() != base.fingerprint(), values
        other = {key: value for key, value in values.items() if key != "learning_rate"}
        assert TrainSettings(**other).fingerprint() == TrainSettings().fingerprint()
        assert TrainSettings(kind="cnn", **other).fingerprint() == TrainSettings(kind="cnn").fingerprint()
    for values in ({"rho_init": -4.0}, {"rho_init_std": 0.0}, {"mu_init_std": 1.0}, {"baseline": "cnn-plain"}):
        assert TrainSettings(**{**IVON_CELL, **values}).fingerprint() == base.fingerprint(), values


def test_hashes_are_those_from_before_ivon():
    assert TrainSettings().fingerprint() == "9fab185d54781063"
    assert TrainSettings(kind="cnn").fingerprint() == "d34763be1b02f5c8"
    assert not any(key.startswith("ivon") for key in TrainSettings(**IVON_CELL).science())


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"optimizer": "rmsprop"}, "optimizer"),
        ({"mixed_precision": "bfloat16"}, "mixed_precision"),
        ({"compile": True}, "compile"),
        ({"device": "cuda"}, "device"),
        ({"prior_scale": 2.0}, "prior_scale"),
        ({"sigma_share": 0.1}, "sigma_share"),
        ({"where": "head"}, "where"),
        ({"bayesian_biases": True}, "bayesian_biases"),
        ({"weight_decay": 1e-3}, "weight_decay"),
        ({"gradient_clip": 1.0}, "gradient_clip"),
        ({"beta": 0.5}, "beta"),
        ({"beta_anneal_epochs": 2.0}, "beta_anneal_epochs"),
        ({"dense_kl": "twice"}, "dense_kl"),
    ],
)
def test_ivon_refuses_by_name_what_it_cannot_do(values, key):
    with pytest.raises(SettingsError) as caught:
        parse_settings({**IVON_CELL, **values}, "f.json")
    assert caught.value.key == key
    assert str(caught.value).startswith(f"f.json: {key}: ivon")
    assert parse_settings({**IVON_CELL, "kind": "cnn", **values}, "f.json")  # (a cnn is not by ivon)


def test_ivon_has_no_default_learning_rate():
    with pytest.raises(SettingsError, match="learning_rate: ivon has no default"):
        parse_settings({"estimator": "ivon"}, "f.json")
    made = parse_settings({"estimator": "ivon", "learning_rate": 1e-4}, "f.json")
    again = parse_settings(made.model_dump(mode="json"), "cell.json")
    assert again == made
    assert made.implementation == "bnn-ivon"
    assert TrainSettings(**IVON_CELL, precision="float64").implementation == "bnn-ivon-torch"


DESCENT = {
    "momentum": 0.5, "weight_decay": 1e-2, "gradient_clip": 1.0, "lr_schedule": "cosine", "lr_warmup_epochs": 0.5,
    "lr_final_share": 0.1,
}  # fmt: skip


def test_settings_of_descent_are_hashed_where_they_apply():
    sgd, cosine = {"optimizer": "sgd"}, {"lr_schedule": "cosine"}
    for base in ({"kind": "cnn"}, {"kind": "bnn"}, IVON_CELL):
        plain = TrainSettings(**base)
        assert not set(DESCENT) & set(plain.science())
        for key in ("lr_schedule", "lr_warmup_epochs"):
            assert TrainSettings(**base, **{key: DESCENT[key]}).fingerprint() != plain.fingerprint(), key
        for key in ("momentum", "lr_final_share"):
            assert TrainSettings(**base, **{key: DESCENT[key]}).fingerprint() == plain.fingerprint(), key
        falling = TrainSettings(**base, **cosine)
        assert TrainSettings(**base, **cosine, lr_final_share=0.1).fingerprint() != falling.fingerprint()
    cnn = TrainSettings(kind="cnn")
    assert (
        TrainSettings(kind="cnn", **sgd, momentum=0.5).fingerprint() != TrainSettings(kind="cnn", **sgd).fingerprint()
    )
    assert TrainSettings(kind="cnn", weight_decay=1e-2).fingerprint() != cnn.fingerprint()
    assert TrainSettings(weight_decay=1e-2).fingerprint() == TrainSettings().fingerprint()  # its prior does that
    for kind in ("cnn", "bnn"):
        assert TrainSettings(kind=kind, gradient_clip=1.0).fingerprint() != TrainSettings(kind=kind).fingerprint()


def test_a_warm_up_that_leaves_nothing_is_refused():
    with pytest.raises(SettingsError, match=r"f\.json: lr_warmup_epochs: 3 must be fewer than the run's epochs"):
        parse_settings({"epochs": 3, "lr_warmup_epochs": 3}, "f.json")
    assert parse_settings({"epochs": 4, "lr_warmup_epochs": 3}, "f.json")


def test_rho_describes_the_posterior_of_bayesian_layers_alone():
    assert TrainSettings().of_layers
    assert not TrainSettings(kind="cnn").of_layers
    assert not TrainSettings(**IVON_CELL).of_layers


@pytest.mark.parametrize("name", ["cv_limit", "foreign_limit", "learning_rate", "beta", "width", "gradient_block_mb"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_setting_is_infinite(name: str, value: float) -> None:
    """A limit that is would never be passed."""
    with pytest.raises(SettingsError, match=f"settings: {name}: Input should be"):
        parse_settings({name: value}, "settings")
