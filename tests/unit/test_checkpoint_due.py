"""When a checkpoint is due, and that a spoilt state never takes the place of a good one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.records.files import CHECKPOINT
from bnn.settings import TrainSettings
from bnn.training import loop, start
from bnn.training.checkpoint import checkpoint_due, spoilt
from bnn.training.recorder import GPU_LAG, Recorder
from bnn.training.run import Run
from bnn.training.trainer import Trainer

SETTINGS = {
    "dataset": "synthetic", "dataset_options": {"shape": [1, 4, 4], "size": 32, "classes": 3, "test_size": 8},
    "model": "fc", "width": 0.01, "batch_size": 8, "epochs": 4, "engine": "single", "checkpoint_epochs": 1,
    "save_posterior": False, "warmup_steps": 0,
}  # fmt: skip


@given(
    n=st.integers(1, 60), batch=st.integers(1, 16), ranks=st.integers(1, 16), epochs=st.integers(1, 12),
    every=st.integers(1, 5), sharding=st.sampled_from(["disjoint", "unsharded"]),
)  # fmt: skip
def test_every_multiple_of_epochs_that_is_crossed_is_followed_by_one_checkpoint(
    n: int, batch: int, ranks: int, epochs: int, every: int, sharding: Any
) -> None:
    try:
        schedule = Schedule(n, batch, ranks, epochs, 0, sharding)
    except (UserError, ZeroDivisionError):
        return
    due = [done for done in range(1, schedule.steps) if checkpoint_due(schedule, done, every)]
    wanted = []
    for multiple in range(every, epochs + 1, every):
        # the first moment at which the next step's last example is of that epoch or a later one
        first = next((done for done in range(1, schedule.steps) if schedule.epoch(done) >= multiple), None)
        if first is not None and first not in wanted and schedule.epoch(first - 1) < multiple:
            wanted.append(first)
    assert due == [done for done in wanted if schedule.epoch(done - 1) < schedule.epoch(done)]
    assert all(schedule.ends_epoch(done - 1) for done in due)  # the loop asks at no other time


def test_steps_of_more_than_an_epoch_do_not_skip_checkpoints() -> None:
    """32 examples per epoch, 48 per step: after the steps 1, 2, 3, ... epochs 2, 4, 5, 7, 8, 10, ... are under way."""
    schedule = Schedule(32, 16, 3, 12, 0)
    assert [schedule.epoch(done) for done in range(1, 8)] == [2, 4, 5, 7, 8, 10, 11]
    assert [done for done in range(1, 8) if checkpoint_due(schedule, done, 3)] == [2, 4, 6]  # past 3, 6, 9
    assert not any(checkpoint_due(schedule, done, 0) for done in range(1, 8))


class LateRecorder(Recorder):
    """Reads what a step has computed as late as on a GPU."""

    def add(self, *arguments: Any) -> None:
        self._pending.append((*arguments, None))  # type: ignore[arg-type]
        while len(self._pending) > GPU_LAG:
            self._settle()


def run_until_spoilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil_after: int, tensor: str
) -> tuple[list[str], int | None]:
    """Train with `tensor` NaN after so many steps: the checkpoints when the run ends, and the step that failed."""
    found: list[str] = []
    take_step = Trainer.step

    def spoiling(trainer: Trainer, step: int, *arguments: Any) -> Any:
        result = take_step(trainer, step, *arguments)
        if step + 1 == spoil_after:
            with torch.no_grad():
                parameter = next(trainer.model.parameters())
                target = parameter if tensor == "parameter" else trainer.optimizer.state[parameter]["exp_avg"]
                target.view(-1)[0] = float("nan")
        return result

    def finish(run: Run, *arguments: Any) -> Any:
        found.extend(sorted(path.name for path in (tmp_path / "out" / CHECKPOINT).glob("step-*")))
        failed.append(run.recorder.failed_step)
        return None

    failed: list[int | None] = []
    monkeypatch.setattr(Trainer, "step", spoiling)
    monkeypatch.setattr(loop, "finish", finish)
    monkeypatch.setattr(start, "Recorder", LateRecorder)
    loop.train(TrainSettings.model_validate(SETTINGS), tmp_path / "out", SingleEngine(), 0.0)
    return found, failed[0]


def test_a_loss_that_is_read_late_costs_no_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN after step 6, so in the loss of step index 6; epochs end after 4, 8, 12 steps, within the lag of reading."""
    assert run_until_spoilt(tmp_path, monkeypatch, 6, "parameter") == (["step-4"], 6)


@pytest.mark.parametrize("tensor", ["parameter", "optimizer"])
def test_an_update_that_spoils_the_state_just_before_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tensor: str
) -> None:
    checkpoints, failed = run_until_spoilt(tmp_path, monkeypatch, 8, tensor)
    assert checkpoints == ["step-4"]
    assert failed in (8, 9)  # the optimizer's NaN comes one update later
    assert "no checkpoint after step 8: " in capsys.readouterr().out


def test_infinity_may_be_meant_in_a_buffer_but_not_in_a_parameter() -> None:
    model = torch.nn.Linear(2, 2)
    model.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    model.register_buffer("count", torch.tensor(3))
    optimizer = torch.optim.Adam(model.parameters())
    assert spoilt(model, optimizer) == ""
    model.mask[0] = float("nan")
    assert spoilt(model, optimizer) == "mask"
    with torch.no_grad():
        model.bias[1] = float("inf")
    assert spoilt(model, optimizer) == "bias"
