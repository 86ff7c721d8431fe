"""A run that ends once its training accuracy is there: where it ends, and what it leaves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bnn import metrics
from bnn.engine import SingleEngine
from bnn.records import POSTERIOR, STEPS, STEPS_FILE, Summary, read_table
from bnn.settings import SettingsError, TrainSettings, parse_settings
from bnn.training import loop

EPOCHS, PER_EPOCH = 6, 4
FEW: dict[str, Any] = {
    "dataset": "synthetic", "dataset_options": {"shape": [1, 4, 4], "classes": 3, "size": 32}, "model": "fc",
    "kind": "cnn", "width": 0.1, "batch_size": 8, "engine": "single", "epochs": EPOCHS, "learning_rate": 0.01,
    "evaluate": "final", "checkpoint_epochs": 1,
}  # fmt: skip


def trained(out: Path, **asked: Any) -> tuple[Summary, pd.DataFrame]:
    settings = TrainSettings.model_validate(FEW | asked)
    summary = loop.train(settings, out, SingleEngine(), time.time())
    assert summary is not None
    return summary, read_table(out / STEPS_FILE, STEPS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Steps of all epochs, of a network whose accuracy grows."""
    _, steps = trained(tmp_path_factory.mktemp("whole") / "cell")
    ends = steps["accuracy_running"].iloc[PER_EPOCH - 1 :: PER_EPOCH]
    assert ends.iloc[2] > ends.iloc[:2].max()
    return steps


def test_it_ends_with_the_first_epoch_that_is_accurate_enough(
    tmp_path: Path, whole: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    enough = float(whole["accuracy_running"].iloc[3 * PER_EPOCH - 1])
    summary, steps = trained(tmp_path / "cell", until_accuracy=enough)
    assert f"training ends after step 12 of 24: accuracy {enough:.4g}\n" in capsys.readouterr().out
    assert (summary.steps, summary.epochs_completed) == (3 * PER_EPOCH, 3)
    for name in ("step", "loss", "accuracy_running"):
        pd.testing.assert_series_equal(steps[name], whole[name].iloc[: 3 * PER_EPOCH])
    assert [found.step for found in summary.evaluations] == [3 * PER_EPOCH]
    assert [folder.name for folder in (tmp_path / "cell" / POSTERIOR).iterdir()] == [f"step-{3 * PER_EPOCH}"]
    curve = metrics.LearningCurve.of(metrics.per_step(steps), "accuracy_running", summary.epochs_completed)
    assert curve.time_to(enough) is not None


def test_it_trains_to_the_end_where_it_never_is(tmp_path: Path, whole: pd.DataFrame) -> None:
    never = min(0.999, 1.01 * float(whole["accuracy_running"].max()))
    summary, steps = trained(tmp_path / "cell", until_accuracy=never)
    assert summary.steps == EPOCHS * PER_EPOCH
    pd.testing.assert_series_equal(steps["loss"], whole["loss"])


def test_an_accuracy_in_the_midst_of_an_epoch_ends_nothing(tmp_path: Path, whole: pd.DataFrame) -> None:
    """Only epochs' ends are looked at, though steps between them are measured on held-out images."""
    enough = float(whole["accuracy_running"].iloc[3 * PER_EPOCH - 1])
    summary, _ = trained(tmp_path / "cell", until_accuracy=enough, evaluate_steps=1)
    assert summary.steps == 3 * PER_EPOCH
    assert [found.step for found in summary.evaluations] == list(range(1, 3 * PER_EPOCH + 1))


@pytest.mark.parametrize("batch", [5, 7, 20])
def test_the_epoch_that_ends_it_counts_where_a_batch_is_of_two_epochs(tmp_path: Path, batch: int) -> None:
    summary, steps = trained(tmp_path / "cell", until_accuracy=0.01, batch_size=batch, evaluate="none")
    assert summary.steps == 32 // batch
    assert summary.epochs_completed == 1
    assert summary.accuracy_last_epoch == pytest.approx(steps["accuracy"].mean())
    curve = metrics.LearningCurve.of(metrics.per_step(steps), "accuracy", summary.epochs_completed)
    assert curve.accuracies.tolist() == [pytest.approx(steps["accuracy"].mean())]


def test_hashes_of_runs_without_it_stay_and_a_regression_has_none() -> None:
    assert "until_accuracy" not in TrainSettings().science()
    assert TrainSettings(until_accuracy=0.6).fingerprint() != TrainSettings().fingerprint()
    with pytest.raises(SettingsError, match="settings: until_accuracy: a regression has no accuracy"):
        parse_settings({"task": "regression", "model": "mine:net", "until_accuracy": 0.5}, "settings")


@pytest.mark.parametrize("value", [0, 1, -0.5, 60, "NaN"])
def test_what_is_no_accuracy_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="settings: until_accuracy: "):
        parse_settings({"until_accuracy": value}, "settings")
