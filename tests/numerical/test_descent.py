"""Learning rate schedules, weight decay, clipping and SGD against torch's own, step by step; resumption bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.ivon import Ivon, IvonOptions
from bnn.layers import NoiseKey
from bnn.optim import RateSchedule, descend
from bnn.settings import TrainSettings
from bnn.training.checkpoint import save_checkpoint
from bnn.training.descent import make_optimizer, rate_schedule
from bnn.training.loop import train
from bnn.training.run import Run
from bnn.training.start import start_run

RATE = 0.05
SMALL = {
    "dataset": "synthetic", "dataset_options": {"shape": [3, 16, 16], "size": 32}, "model": "resnet18", "width": 0.125,
    "batch_size": 4, "engine": "single", "learning_rate": 1e-2,
}  # fmt: skip
FALLING = {"lr_schedule": "cosine", "lr_warmup_epochs": 0.5, "lr_final_share": 0.1, "gradient_clip": 1.0}


def of_torch(optimizer: torch.optim.Optimizer, schedule: RateSchedule) -> lr_scheduler.LRScheduler:
    """The same schedule made of torch's; `warmup` is 0 or 2 and more."""
    warmup, rate = schedule.warmup, optimizer.param_groups[0]["lr"]
    after = (
        lr_scheduler.CosineAnnealingLR(optimizer, schedule.steps - warmup, schedule.final * rate)
        if schedule.cosine
        else lr_scheduler.ConstantLR(optimizer, 1.0)
    )
    if not warmup:
        return after
    before = lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)
    return lr_scheduler.SequentialLR(optimizer, [before, after], [warmup])


@given(
    steps=st.integers(4, 60), warmup=st.sampled_from([0, 2, 3]), cosine=st.booleans(), final=st.sampled_from([0.0, 0.2])
)
def test_rates_are_those_of_torchs_schedulers(steps: int, warmup: int, cosine: bool, final: float) -> None:
    schedule = RateSchedule(steps, warmup, cosine, final)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], RATE)
    scheduler = of_torch(optimizer, schedule)
    for step in range(steps):
        assert RATE * schedule.share(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12), step
        optimizer.step()
        scheduler.step()


def test_a_schedule_ends_with_the_run_and_never_rises_again() -> None:
    of_run = Schedule(n=10, batch_size=2, ranks=2, epochs=4, seed=0)  # 2.5 steps per epoch
    settings = TrainSettings(epochs=4, lr_schedule="cosine", lr_warmup_epochs=1, lr_final_share=0.25)
    assert rate_schedule(settings, of_run) == RateSchedule(10, 2, True, 0.25)
    short = settings.model_copy(update={"max_steps": 7, "lr_warmup_epochs": 0.01})
    assert rate_schedule(short, of_run) == RateSchedule(7, 1, True, 0.25)
    assert [RateSchedule(5, 0, True, 0.25).share(step) for step in (0, 5, 6, 99)] == [1.0, 0.25, 0.25, 0.25]
    assert RateSchedule(2, 2, True).share(1) == 1.0
    assert rate_schedule(TrainSettings(), of_run).share(3) == 1.0


def model(layout: torch.memory_format = torch.channels_last) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    return made.to(memory_format=layout)


def settings_of(**asked: Any) -> TrainSettings:
    return TrainSettings.model_validate({"kind": "cnn", "learning_rate": RATE, "epochs": 9, **asked})


def give_gradients(net: nn.Module, step: int) -> None:
    """Of the step alone: rounding of one step must not grow in the next by way of the gradients."""
    torch.manual_seed(100 + step)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None


def torchs(name: str, decay: float) -> Callable[[nn.Module], torch.optim.Optimizer]:
    made: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
        "adam": lambda net: torch.optim.AdamW(net.parameters(), RATE, weight_decay=decay),
        "rmsprop": lambda net: torch.optim.RMSprop(net.parameters(), RATE, alpha=0.9),
        "sgd": lambda net: torch.optim.SGD(net.parameters(), RATE, momentum=0.9),
        "sgd without momentum": lambda net: torch.optim.SGD(net.parameters(), RATE, weight_decay=decay),
    }
    return made[name]


@pytest.mark.parametrize("baseline", ["cnn", "cnn-plain"])
@pytest.mark.parametrize(
    ("name", "decay"),
    [("adam", 0.0), ("adam", 0.1), ("rmsprop", 0.0), ("sgd", 0.0), ("sgd without momentum", 0.1)],
)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_steps_are_those_of_torchs_optimizers(name: str, decay: float, clip: float | None, baseline: str) -> None:
    schedule = RateSchedule(8, 3, True, 0.1)
    momentum = {"momentum": 0.0} if name == "sgd without momentum" else {}
    ours, theirs = model(), model()
    optimizer = make_optimizer(settings_of(optimizer=name.split(maxsplit=1)[0], baseline=baseline, **momentum), ours, 1)
    expected = torchs(name, decay)(theirs)
    scheduler = of_torch(expected, schedule)
    for step in range(8):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        if clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip)
            assert norm > clip  # (else nothing is tested)
        descend(optimizer, RATE * schedule.share(step), decay, clip)
        expected.step()
        expected.zero_grad()
        scheduler.step()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            # (1 - 0.999^t, by which Adam divides, has few digits in float32)
            torch.testing.assert_close(mine, other, rtol=2e-5, atol=1e-4 * RATE)
            assert mine.grad is None


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_weight_decay_is_decoupled(name: str) -> None:
    """The same update as without, from parameters that were shrunk."""
    decayed, plain = model(), model()
    first, second = (make_optimizer(settings_of(optimizer=name), net, 1) for net in (decayed, plain))
    give_gradients(decayed, 0)
    give_gradients(plain, 0)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(1 - RATE * 0.1)
    descend(first, RATE, 0.1)
    descend(second, RATE)
    for mine, other in zip(decayed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


def test_a_parameter_without_gradient_is_neither_stepped_nor_decayed() -> None:
    net = model()
    frozen = net[0].weight.requires_grad_(False)
    before = frozen.detach().clone()
    optimizer = make_optimizer(settings_of(), net, 1)
    give_gradients(net, 0)
    descend(optimizer, RATE, 0.5, 1.0)
    assert torch.equal(frozen, before)


def test_ivon_takes_the_rate_of_the_step() -> None:
    """Against an optimizer that was made with that rate."""
    nets = [model(torch.contiguous_format) for _ in range(2)]
    options = IvonOptions(ess=50.0)
    made = [Ivon([net[0].weight], [net[2].weight], rate, options) for net, rate in zip(nets, (1.0, RATE), strict=True)]
    for net, optimizer in zip(nets, made, strict=True):
        optimizer.sample(NoiseKey(1, 0, 0))
        give_gradients(net, 0)
    descend(made[0], RATE)
    made[1].step()
    for mine, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(mine, other)


def step(run: Run, index: int) -> None:
    run.trainer.to_training()
    run.trainer.step(index, *run.trainer.batch(run.dataset.train, index), lambda: None)


METHODS: dict[str, dict[str, Any]] = {
    "sgd": {"kind": "cnn", "optimizer": "sgd", "weight_decay": 0.1, **FALLING},
    "adam": {"kind": "cnn", "weight_decay": 0.1, **FALLING},
    "flipout": {"optimizer": "sgd", **FALLING},
    "ivon": {"estimator": "ivon", **{key: value for key, value in FALLING.items() if key != "gradient_clip"}},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_goes_on_bit_for_bit(method: str, tmp_path: Path) -> None:
    settings = TrainSettings.model_validate({**SMALL, "epochs": 2, "save_posterior": False, **METHODS[method]})
    whole = start_run(settings, tmp_path / "whole", SingleEngine())
    for index in range(whole.steps):
        step(whole, index)
    first = start_run(settings, tmp_path / "cut", SingleEngine())
    for index in range(5):
        step(first, index)
    assert save_checkpoint(first, 5)
    second = start_run(settings, tmp_path / "cut", SingleEngine())
    assert second.first_step == 5
    for index in range(5, second.steps):
        step(second, index)
    for mine, other in zip(second.trainer.model.parameters(), whole.trainer.model.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_takes_the_rates_and_the_decay_of_its_settings(method: str, tmp_path: Path) -> None:
    values = {**SMALL, "epochs": 2, "save_posterior": False, **METHODS[method]}
    run = start_run(TrainSettings.model_validate(values), tmp_path, SingleEngine())
    plan = rate_schedule(run.settings, run.trainer.schedule)
    assert plan == RateSchedule(16, 4, True, 0.1)
    for index in range(6):
        step(run, index)
        rates = {group["lr"] for group in run.trainer.optimizer.param_groups}
        assert rates == {1e-2 * plan.share(index)}


def test_a_bnn_is_not_decayed(tmp_path: Path) -> None:
    after = []
    for decay in (0.0, 0.5):
        run = start_run(
            TrainSettings.model_validate({**SMALL, "save_posterior": False, "weight_decay": decay}),
            tmp_path / str(decay), SingleEngine(),
        )  # fmt: skip
        step(run, 0)
        after.append(list(run.trainer.model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))


def test_a_whole_run_by_sgd_with_all_of_it(tmp_path: Path) -> None:
    settings = TrainSettings.model_validate({**SMALL, "epochs": 2, "evaluate": "final", **METHODS["sgd"]})
    summary = train(settings, tmp_path, SingleEngine(), 0.0)
    assert summary is not None
    assert summary.verdict.status != "INVALID", summary.verdict
