"""When a run measures itself on held-out images, on which of them, and that its training does not notice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.data.base import evenly_spread
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.records import STEPS, STEPS_FILE, Evaluation, read_table
from bnn.settings import SettingsError, TrainSettings, parse_settings
from bnn.training import loop

FEW: dict[str, Any] = {
    "dataset": "synthetic", "dataset_options": {"shape": [1, 4, 4], "classes": 3, "size": 32}, "model": "fc",
    "width": 0.01, "batch_size": 8, "engine": "single", "save_posterior": False, "epochs": 3, "warmup_steps": 2,
    "evaluate_draws": 2,
}  # fmt: skip


def trained(out: Path, **asked: Any) -> tuple[list[Evaluation], pd.DataFrame]:
    settings = TrainSettings.model_validate(FEW | asked)
    summary = loop.train(settings, out, SingleEngine(), time.time())
    assert summary is not None
    return summary.evaluations, read_table(out / STEPS_FILE, STEPS)


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"evaluate": "final"}, [12]),
        ({"evaluate": "epoch"}, [4, 8, 12]),
        ({"evaluate": "final", "evaluate_steps": 5}, [5, 10, 12]),
        ({"evaluate": "epoch", "evaluate_steps": 6}, [4, 6, 8, 12]),
        ({"evaluate": "final", "evaluate_steps": 12}, [12]),
        ({"evaluate": "final", "evaluate_steps": 3, "max_steps": 7}, [3, 6, 7]),
    ],
)
def test_it_measures_when_it_is_asked_to_and_trains_as_without(
    asked: dict[str, Any], steps: list[int], tmp_path: Path
) -> None:
    evaluations, rows = trained(tmp_path / "cell", **asked)
    assert [found.step for found in evaluations] == steps
    _, plain = trained(tmp_path / "plain", **{key: asked[key] for key in asked if key == "max_steps"})
    for name in ("loss", "kl", "phase"):
        assert rows[name].equals(plain[name]), name


def test_all_images_are_asked_unless_fewer_are_wanted(tmp_path: Path) -> None:
    (every,), _ = trained(tmp_path / "all", evaluate="final", evaluate_draws=1)
    (same,), _ = trained(tmp_path / "same", evaluate="final", evaluate_draws=1, evaluate_images=every.images)
    strip = {"seconds": 0.0}
    assert every.model_copy(update=strip) == same.model_copy(update=strip)
    (few,), _ = trained(tmp_path / "few", evaluate="final", evaluate_draws=1, evaluate_images=5)
    assert few.images == 5
    assert few.accuracy in {correct / 5 for correct in range(6)}


def test_more_images_than_there_are_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate_images: 10000 asked for, synthetic has \d+ held-out images"):
        trained(tmp_path / "cell", evaluate="final", evaluate_images=10_000)
    assert not (tmp_path / "cell" / STEPS_FILE).exists()


def test_steps_without_an_evaluation_are_refused() -> None:
    with pytest.raises(SettingsError, match="settings: evaluate_steps: evaluate is none; final measures"):
        parse_settings({"evaluate_steps": 5}, "settings")


def test_hashes_of_runs_without_them_stay() -> None:
    assert not {"evaluate_steps", "evaluate_images"} & set(TrainSettings().science())
    assert (
        TrainSettings(evaluate="final").fingerprint()
        != TrainSettings(evaluate="final", evaluate_images=5).fingerprint()
    )


@given(st.integers(1, 500), st.data())
def test_chosen_images_are_spread_evenly_and_none_twice(count: int, data: st.DataObject) -> None:
    asked = data.draw(st.integers(1, count))
    chosen = evenly_spread(range(count), asked, "--images", "some", "test")
    assert len(np.unique(chosen)) == asked
    assert chosen[0] == 0
    gaps = np.diff(np.append(chosen, count))
    assert gaps.max() - gaps.min() <= 1
