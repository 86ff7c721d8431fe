"""Real training runs: records, ranks, resumption, failure."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from bnn.records import PROVENANCE, STEPS, STEPS_FILE, SUMMARY, CellRecord, Provenance, Summary, read_table
from tests.support.ranks import need_horovod, run_train, run_until

IVON = {"estimator": "ivon", "learning_rate": 0.05, "ivon_beta2": 0.99}


def records(folder) -> tuple[Summary, pd.DataFrame, Provenance]:
    summary = Summary.model_validate_json((folder / SUMMARY).read_text())
    provenance = Provenance.model_validate_json((folder / PROVENANCE).read_text())
    return summary, read_table(folder / STEPS_FILE, STEPS), provenance


def posterior(folder) -> dict[str, np.ndarray]:
    (path,) = folder.glob("posterior/step-*/posterior.safetensors")
    return load_file(path)


def test_one_process_leaves_every_record_and_nothing_else(tmp_path):
    done = run_train(tmp_path / "cell", evaluate="epoch", labels={"site": "here"}, save_posterior=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "cell"
    assert sorted(p.name for p in folder.iterdir()) == [
        "cell.json", "heartbeat", "neighbours.parquet", "posterior", "provenance.json", "steps.parquet", "summary.json",
    ]  # fmt: skip
    summary, steps, provenance = records(folder)
    cell = CellRecord.model_validate_json((folder / "cell.json").read_text())
    assert cell.hash == cell.settings.fingerprint() == summary.hash
    assert summary.labels == {"site": "here"}
    assert (summary.steps, summary.steps_per_epoch, summary.epochs_completed, summary.samples) == (24, 12, 2, 192)
    assert steps["phase"].value_counts().to_dict() == {"steady": 22, "warmup": 2}
    assert [e.step for e in summary.evaluations] == [12, 24]
    parts = ["data", "forward", "backward", "exchange", "optimizer", "between"]
    np.testing.assert_allclose(steps[[f"seconds_{p}" for p in parts]].sum(axis=1), steps["seconds"], rtol=1e-9)
    assert summary.throughput.steady == pytest.approx(8 * 22 / steps.query("phase == 'steady'")["seconds"].sum())
    assert (steps["loss"] - steps["nll"] - steps["kl"] / 96).abs().max() < 1e-3
    assert summary.seconds_total >= summary.seconds_startup + summary.seconds_training
    assert len(provenance.ranks) == 1
    for name, entry in summary.manifest.items():
        assert (folder / name).stat().st_size == entry.bytes
    assert "step 24/24" in done.stdout


def test_two_horovod_ranks_record_both_and_agree(tmp_path):
    need_horovod()
    done = run_train(tmp_path / "cell", ranks=2, engine="horovod", evaluate="final")
    assert done.returncode == 0, done.stderr
    summary, steps, provenance = records(tmp_path / "cell")
    assert set(steps["engine"]) == {"horovod"}
    assert steps.groupby("rank")["step"].count().to_dict() == {0: 12, 1: 12}
    assert (summary.ranks, summary.samples, summary.steps_per_epoch) == (2, 192, 6)
    assert [r.rank for r in provenance.ranks] == [0, 1]
    assert provenance.ranks[0].environment["HOROVOD_CYCLE_TIME"] == "5.0"
    # parameters are equal on both ranks, so the KL is; the data and the noise are each rank's own
    by_rank = steps.pivot_table(index="step", columns="rank", values=["kl", "nll"])
    np.testing.assert_array_equal(by_rank[("kl", 0)], by_rank[("kl", 1)])
    assert (by_rank[("nll", 0)] != by_rank[("nll", 1)]).all()


@pytest.mark.parametrize("method", [{}, IVON], ids=["flipout", "ivon"])
def test_both_distributed_engines_compute_the_same(tmp_path, method):
    need_horovod()
    method = {**method, "save_posterior": True}
    run_train(tmp_path / "a", ranks=2, engine="horovod", **method)
    import os

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29571")
    try:
        done = run_train(tmp_path / "b", ranks=2, engine="torch", **method)
    finally:
        del os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    assert done.returncode == 0, done.stderr
    first, second = posterior(tmp_path / "a"), posterior(tmp_path / "b")
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("ranks", "method"),
    [(1, {}), (2, {}), (1, IVON), (2, IVON), (2, {**IVON, "ivon_noise": "shared"})],
    ids=["flipout-1", "flipout-2", "ivon-1", "ivon-2", "ivon-shared-2"],
)
def test_a_killed_run_resumes_bit_for_bit(tmp_path, ranks, method):
    if ranks > 1:
        need_horovod()
    settings = {
        **method,
        "engine": "horovod" if ranks > 1 else "single",
        "epochs": 6,
        "checkpoint_epochs": 1,
        "evaluate": "epoch",
        "save_posterior": ranks == 1,
    }
    whole = run_train(tmp_path / "whole", ranks, **settings)
    assert whole.returncode == 0, whole.stderr
    run_until(".checkpoint/step-*/checkpoint.json", tmp_path / "killed", ranks, **settings)
    assert not (tmp_path / "killed" / SUMMARY).exists()
    resumed = run_train(tmp_path / "killed", ranks, **settings)
    assert resumed.returncode == 0, resumed.stderr

    if settings["save_posterior"]:
        first, second = posterior(tmp_path / "whole"), posterior(tmp_path / "killed")
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    summary, steps, _ = records(tmp_path / "killed")
    whole_summary, whole_steps, _ = records(tmp_path / "whole")
    key = ["step", "rank"]
    for column in ("loss", "kl", "accuracy_running"):
        left, right = steps.set_index(key)[column].sort_index(), whole_steps.set_index(key)[column].sort_index()
        pd.testing.assert_series_equal(left, right, check_exact=True)
    assert summary.attempts == 2
    assert summary.verdict.status == "WARN"
    assert "resumed: 2 attempts" in summary.verdict.reasons
    strip = {"seconds": 0.0}
    assert [e.model_copy(update=strip) for e in summary.evaluations] == [
        e.model_copy(update=strip) for e in whole_summary.evaluations
    ]


def test_two_ranks_end_together_once_their_accuracy_is_there_killed_or_not(tmp_path):
    need_horovod()
    settings = {"engine": "horovod", "epochs": 6, "checkpoint_epochs": 1, "learning_rate": 0.01}
    whole = run_train(tmp_path / "whole", 2, **settings)
    assert whole.returncode == 0, whole.stderr
    _, steps, _ = records(tmp_path / "whole")
    ends = steps.groupby("step")["accuracy_running"].mean().to_numpy()[5::6]
    enough = float(ends[1:].max())
    assert ends[0] < enough
    last = 6 * (1 + int(np.argmax(ends >= enough)))

    settings["until_accuracy"] = enough
    run_until(".checkpoint/step-*/checkpoint.json", tmp_path / "cell", 2, **settings)
    done = run_train(tmp_path / "cell", 2, **settings)
    assert done.returncode == 0, done.stderr
    summary, fewer, _ = records(tmp_path / "cell")
    assert (summary.attempts, summary.steps, summary.epochs_completed) == (2, last, last // 6)
    assert fewer.groupby("rank")["step"].max().to_dict() == {0: last - 1, 1: last - 1}
    key = ["step", "rank"]
    left, right = (table.set_index(key)["loss"].sort_index() for table in (fewer, steps[steps["step"] < last]))
    pd.testing.assert_series_equal(left, right, check_exact=True)


def test_a_checkpoint_that_one_rank_cannot_read_is_set_aside_by_all(tmp_path):
    need_horovod()
    settings = {"engine": "horovod", "epochs": 6, "checkpoint_epochs": 1, "kind": "cnn", "save_posterior": False}
    run_until(".checkpoint/step-*/checkpoint.json", tmp_path / "cell", 2, **settings)
    (tmp_path / "cell/.partial-x").mkdir()
    for file in (tmp_path / "cell/.checkpoint").glob("step-*/rank-1.safetensors"):
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size - 1)
    done = run_train(tmp_path / "cell", 2, **settings)
    assert done.returncode == 0, done.stderr
    assert "cannot be read (rank-1.safetensors: " in done.stdout
    assert ".partial-x: of no attempt, removed" in done.stdout
    summary, _, _ = records(tmp_path / "cell")
    assert (summary.steps, summary.attempts) == (36, 1)


def test_a_checkpoint_of_other_ranks_is_refused(tmp_path):
    need_horovod()
    settings = {"engine": "horovod", "epochs": 6, "checkpoint_epochs": 1}
    run_until(".checkpoint/step-*/checkpoint.json", tmp_path / "cell", 2, **settings)
    done = run_train(tmp_path / "cell", 1, **settings)
    assert done.returncode == 2
    assert "written by 2 ranks, cannot be resumed by 1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("ranks", "estimator"), [(1, "flipout"), (2, "ivon")])
def test_a_loss_that_is_not_finite_stops_at_its_step(tmp_path, ranks, estimator):
    if ranks > 1:
        need_horovod()
    method = {"engine": "horovod" if ranks > 1 else "single", "estimator": estimator}
    done = run_train(tmp_path / "cell", ranks, **method, learning_rate=1e30, lr_scaling="none")
    assert done.returncode == 2
    assert "non-finite loss at step" in done.stderr
    assert "Traceback" not in done.stderr
    summary, steps, _ = records(tmp_path / "cell")
    assert summary.verdict.status == "INVALID"
    assert steps.groupby("rank")["step"].max().nunique() == 1
    assert not np.isfinite(steps[steps["step"] == steps["step"].max()]["loss"]).all()


def test_a_run_with_other_settings_replaces_the_records(tmp_path):
    assert run_train(tmp_path / "cell", epochs=1, save_posterior=True).returncode == 0
    before = json.loads((tmp_path / "cell" / SUMMARY).read_text())["hash"]
    assert run_train(tmp_path / "cell", epochs=1, kind="cnn", save_posterior=False).returncode == 0
    summary, steps, _ = records(tmp_path / "cell")
    assert summary.hash != before
    assert set(steps["implementation"]) == {"cnn"}
    assert not (tmp_path / "cell" / "posterior").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "mnist", "data_dir": "nowhere"}, "mnist"),
        ({"model": "vgg61"}, "model vgg61: unknown"),
        ({"batch_size": 4096}, "no step in 2 epochs for batch 4096"),
        ({"device": "cuda"}, "device cuda: no GPU for rank 0: "),
        ({"dataset": "mnist5"}, "mnist5"),
        ({"estimator": "ivon", "device": "cuda"}, "device: ivon trains on CPUs only"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path, settings, words):
    done = run_train(tmp_path / "cell", **settings)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
