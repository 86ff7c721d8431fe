"""Settings that change how a run is computed: each does what it says, in a real run."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from bnn.records import STEPS, STEPS_FILE, SUMMARY, Summary, read_table
from tests.support.ranks import need_horovod, run_train


def steps_of(folder) -> pd.DataFrame:
    return read_table(folder / STEPS_FILE, STEPS)


def test_annealed_beta_rises_to_its_final_value(tmp_path):
    done = run_train(tmp_path / "cell", beta=0.5, beta_anneal_epochs=1.0, epochs=2)
    assert done.returncode == 0, done.stderr
    beta = steps_of(tmp_path / "cell")["beta"]
    np.testing.assert_allclose(beta[:13], 0.5 * np.arange(13) / 12)
    assert (beta[12:] == 0.5).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "rmsprop", "estimator": "flipout-reference"},
        {"estimator": "reparameterization", "precision": "float64", "save_posterior": True},
        {"kind": "cnn", "baseline": "cnn-plain", "max_steps": 5},
        {"model": "tests.support.models:small", "width": 1.0, "save_posterior": True},
        {"model": "tests.support.models:small", "width": 1.0, "kind": "cnn"},
        {"dataset": "mnist-sample", "dataset_options": {}, "model": "fc", "width": 0.1, "max_steps": 4},
        {"estimator": "local-reparameterization", "max_steps": 4},
        {"mixed_precision": "bfloat16", "max_steps": 4},
    ],
)
def test_other_ways_to_compute_run_to_the_end(tmp_path, settings):
    done = run_train(tmp_path / "cell", **settings)
    assert done.returncode == 0, done.stderr
    summary = Summary.model_validate_json((tmp_path / "cell" / SUMMARY).read_text())
    assert summary.steps == settings.get("max_steps", 24)
    assert np.isfinite(steps_of(tmp_path / "cell")["loss"]).all()


def test_training_lowers_the_loss_and_learns_real_digits(tmp_path):
    settings = {"dataset": "mnist-sample", "dataset_options": {}, "model": "fc", "width": 0.25, "batch_size": 32}
    done = run_train(tmp_path / "cell", **settings, epochs=3, evaluate="final", mu_init_std=0.05, beta=0.1)
    assert done.returncode == 0, done.stderr
    summary = Summary.model_validate_json((tmp_path / "cell" / SUMMARY).read_text())
    assert summary.evaluations[-1].accuracy > 0.75
    assert summary.accuracy_last_epoch > 0.7
    assert summary.sigma_median != summary.sigma_median_start


def test_ranks_see_other_data_when_sharded_and_their_own_shuffle_when_not(tmp_path):
    need_horovod()
    for sharding in ("disjoint", "unsharded"):
        done = run_train(
            tmp_path / sharding, ranks=2, engine="horovod", sharding=sharding, batchnorm_statistics="rank0",
            kind="cnn", evaluate="final",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        nll = steps_of(tmp_path / sharding).pivot_table(index="step", columns="rank", values="nll")
        assert (nll[0] != nll[1]).all()


def test_the_command_line_overrides_the_file_and_names_its_own_mistakes(tmp_path):
    done = run_train(tmp_path / "cell", warmup_steps=-1)
    assert done.returncode == 2
    assert "cell.json: warmup_steps" in done.stderr


def test_batchnorm_momentum_is_the_models_own_unless_set(tmp_path):
    means = {}
    for momentum in (None, 1.0):
        folder = tmp_path / str(momentum)
        settings = {"kind": "cnn", "max_steps": 3, "batchnorm_momentum": momentum, "save_posterior": True}
        assert run_train(folder, **settings).returncode == 0
        (file,) = folder.glob("posterior/step-*/posterior.safetensors")
        means[momentum] = load_file(file)["norm1_1.running_var"]
    # from 1 towards the batches' variance: three small steps leave it near 1, one whole step does not
    assert np.abs(means[None] - 1).max() < 0.05
    assert np.abs(means[1.0] - 1).max() > 0.2


def test_a_model_that_cannot_be_saved_is_refused_before_it_is_trained(tmp_path):
    done = run_train(tmp_path / "cell", model="tests.support.models:branching", width=1.0, save_posterior=True)
    assert done.returncode == 2
    assert "cannot be recorded" in done.stderr
    assert "def forward" not in done.stderr  # (what torch prints of a graph that it gives up)
    assert "step " not in done.stdout
    done = run_train(tmp_path / "cell", model="tests.support.models:branching", width=1.0, save_posterior=False)
    assert done.returncode == 0, done.stderr


def test_frozen_layers_and_dropout_train_on_two_ranks_each_with_its_own_mask(tmp_path):
    need_horovod()
    settings = {"model": "tests.support.models:frozen", "width": 1.0, "kind": "cnn", "sharding": "disjoint"}
    done = run_train(tmp_path / "cell", ranks=2, engine="horovod", **settings)
    assert done.returncode == 0, done.stderr


def test_parameters_that_blow_up_in_the_last_update_make_the_run_invalid(tmp_path):
    done = run_train(tmp_path / "cell", max_steps=1, learning_rate=1e30, evaluate="final")
    assert done.returncode == 2
    assert "non-finite" in done.stderr
    summary = Summary.model_validate_json((tmp_path / "cell" / SUMMARY).read_text())
    assert summary.verdict.status == "INVALID"


def summary_of(folder) -> Summary:
    return Summary.model_validate_json((folder / SUMMARY).read_text())


def test_a_compiled_run_is_evaluated_saved_and_named(tmp_path):
    settings = {"model": "fc", "width": 0.1, "compile": True, "evaluate": "epoch", "save_posterior": True}
    done = run_train(tmp_path / "cell", **settings)
    assert done.returncode == 0, done.stderr
    assert len(summary_of(tmp_path / "cell").evaluations) == 2
    assert set(steps_of(tmp_path / "cell")["implementation"]) == {"bnn-flipout-torch-compiled"}
    assert list(tmp_path.glob("cell/posterior/step-*/posterior.safetensors"))


def test_without_a_compiler_a_compiled_run_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    done = run_train(tmp_path / "cell", model="fc", width=0.1, kind="cnn", baseline="cnn-compiled", max_steps=2)
    assert done.returncode == 2
    assert "bnn: torch.compile does not work here" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_best_baseline_is_one_choice_for_all_ranks_and_recorded(tmp_path, ranks):
    settings = {"model": "fc", "width": 0.1, "kind": "cnn", "baseline": "cnn-best", "max_steps": 3}
    if ranks > 1:
        need_horovod()
        settings["engine"] = "horovod"
    done = run_train(tmp_path / "cell", ranks, **settings)
    assert done.returncode == 0, done.stderr
    assert set(steps_of(tmp_path / "cell")["implementation"]) == {"cnn-best"}
    summary = summary_of(tmp_path / "cell")
    tried = summary.implementation_seconds
    assert "cnn-compiled" in tried
    assert set(tried) & {"cnn", "cnn-kernels"}
    assert summary.resolved_implementation == min(tried, key=tried.get)
    assert bool(summary.gradient_messages_per_step) == (ranks > 1)
