"""The fused Adam and RMSProp against torch's own: numbers, state, checkpoints in both directions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn import kernels, optim
from bnn.optim import FusedAdam, FusedRMSprop
from tests.support.kernels import need_kernels, threads

need_kernels()

Optimizer = torch.optim.Optimizer
Make = Callable[[Any], Optimizer]
SHAPES = [(), (1,), (7,), (33,), (4096 * 9 + 5,), (6, 5, 3, 3), (4, 3, 1, 1)]
RATE = 1e-2
ADAM = {"lr": RATE, "betas": (0.8, 0.99), "eps": 1e-7}
RMSPROP = {"lr": RATE, "alpha": 0.9, "eps": 1e-7}
PAIRS: dict[str, tuple[Make, Make]] = {
    "adam": (lambda p: FusedAdam(p, **ADAM), lambda p: torch.optim.Adam(p, **ADAM, foreach=False)),
    "rmsprop": (lambda p: FusedRMSprop(p, **RMSPROP), lambda p: torch.optim.RMSprop(p, **RMSPROP, foreach=False)),
}


@pytest.fixture(autouse=True)
def take_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: True)


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    make = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=make) for shape in SHAPES]
    made[-2] = made[-2].contiguous(memory_format=torch.channels_last)
    return [nn.Parameter(value.to(dtype)) for value in made]


def gradients(step: int) -> list[Tensor]:
    """Of sizes from 1e-6 to 1e3; some are zero."""
    make = torch.Generator().manual_seed(100 + step)
    made = []
    for shape in SHAPES:
        size = 10 ** (torch.rand(shape, generator=make) * 9 - 6)
        made.append(torch.randn(shape, generator=make) * size * (torch.rand(shape, generator=make) > 0.1))
    return made


STEPS = [gradients(step) for step in range(40)]


def take_steps(optimizer: Optimizer, values: list[nn.Parameter], first: int, last: int) -> None:
    """One parameter gets no gradient in the first three."""
    for step in range(first, last):
        for index, (value, gradient) in enumerate(zip(values, STEPS[step % 40], strict=True)):
            value.grad = None if index == 2 and step < 3 else torch.empty_like(value).copy_(gradient)
        optimizer.step()


def farthest(got: list[nn.Parameter], right: list[nn.Parameter]) -> float:
    """Largest difference, in learning rates."""
    return (
        max(float((a.detach().double() - b.detach().double()).abs().max()) for a, b in zip(got, right, strict=True))
        / RATE
    )


@pytest.mark.parametrize("name", PAIRS)
def test_many_steps_are_those_of_torch(name: str) -> None:
    fused, plain = PAIRS[name]
    ours, theirs, exact = parameters(), parameters(), parameters(torch.float64)
    for make, values in ((fused, ours), (plain, theirs), (plain, exact)):
        take_steps(make(values), values, 0, 300)
    assert farthest(parameters(), exact) > 10  # they went somewhere
    # float32 rounds a value of 4 to 2.4e-7, that is 2.4e-5 learning rates, in each of the 300 steps
    assert farthest(ours, exact) < 2e-3
    assert farthest(ours, exact) < 2 * farthest(theirs, exact)


@pytest.mark.parametrize("name", PAIRS)
def test_one_step_is_that_of_torch_to_the_last_digits(name: str) -> None:
    fused, plain = PAIRS[name]
    ours, exact = parameters(), parameters(torch.float64)
    with torch.no_grad():
        for value in (*ours, *exact):
            value.zero_()  # so that the step is not rounded to the value's digits
    take_steps(fused(ours), ours, 5, 6)
    take_steps(plain(exact), exact, 5, 6)
    for mine, right in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=2e-6, atol=0)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("to_torch", [True, False], ids=["to torch", "from torch"])
def test_checkpoints_go_both_ways(name: str, to_torch: bool) -> None:
    fused, plain = PAIRS[name]
    start, end = (fused, plain) if to_torch else (plain, fused)
    values, whole = parameters(), parameters()
    first = start(values)
    take_steps(first, values, 0, 20)
    second = end(values)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    take_steps(second, values, 20, 40)
    take_steps(plain(whole), whole, 0, 40)
    assert farthest(values, whole) < 5e-4
    names = {key for state in second.state_dict()["state"].values() for key in state}
    assert names == {key for state in first.state_dict()["state"].values() for key in state}
    steps = {float(state["step"]) for state in second.state_dict()["state"].values()}
    assert steps == {40.0, 37.0}


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_and_state_with_other_strides(name: str) -> None:
    """As after a change of memory format: torch's own fused Adam would mix up the elements."""
    fused, plain = PAIRS[name]
    ours, theirs = nn.Parameter(torch.ones(4, 3, 2, 2)), nn.Parameter(torch.ones(4, 3, 2, 2))
    first = fused([ours])
    right = plain([theirs])
    for step, layout in enumerate((torch.contiguous_format, torch.channels_last, torch.contiguous_format)):
        gradient = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient.contiguous(memory_format=layout), gradient
        first.step()
        right.step()
    moved = nn.Parameter(ours.detach().contiguous(memory_format=torch.channels_last))
    second = fused([moved])
    second.load_state_dict(first.state_dict())
    moved.grad = theirs.grad = torch.randn(4, 3, 2, 2)
    second.step()
    right.step()
    torch.testing.assert_close(moved, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_threads_change_nothing(name: str) -> None:
    results = []
    for count in (1, 2, 3):
        values = parameters()
        with threads(count):
            take_steps(PAIRS[name][0](values), values, 0, 5)
        results.append(values)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_is_seen_by_autograd(name: str) -> None:
    """A graph from before the step must not be differentiated with the values after it."""
    value = nn.Parameter(torch.ones(3))
    optimizer = PAIRS[name][0]([value])
    loss = value.square().sum()
    value.grad = torch.ones(3)
    before = value._version
    optimizer.step()
    assert value._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", PAIRS)
def test_groups_have_their_own_rates_and_schedules_change_them(name: str) -> None:
    fused, plain = PAIRS[name]
    results = []
    for make in (fused, plain):
        first, second = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(5))
        optimizer = make([{"params": [first], "lr": 0.5}, {"params": [second]}])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
        for step in range(5):
            first.grad = second.grad = torch.full((5,), 1.0 + step)
            optimizer.step()
            schedule.step()
        results.append((first, second))
    for mine, right in zip(*results, strict=True):
        torch.testing.assert_close(mine, right)
    assert results[0][0].abs().min() > 10 * results[0][1].abs().max()


@pytest.mark.parametrize("name", PAIRS)
def test_what_the_kernels_do_not_fit_is_torchs(name: str) -> None:
    fused, plain = PAIRS[name]
    ours, theirs = parameters(torch.float64), parameters(torch.float64)
    ours[-2].grad = torch.randn(ours[-2].shape, dtype=torch.float64)  # its strides are not the parameter's
    theirs[-2].grad = ours[-2].grad.clone()
    for optimizer in (fused(ours), plain(theirs)):
        optimizer.step()
    take_steps(fused(ours), ours, 0, 5)
    take_steps(plain(theirs), theirs, 0, 5)
    for mine, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, right)


@pytest.mark.parametrize(
    ("name", "options"),
    [("adam", {"weight_decay": 0.5}), ("adam", {"maximize": True}), ("rmsprop", {"weight_decay": 0.5})],
)
def test_options_that_a_checkpoint_brings_are_not_lost(name: str, options: dict[str, Any]) -> None:
    ours, theirs = parameters(), parameters()
    kind = torch.optim.Adam if name == "adam" else torch.optim.RMSprop
    right = kind(theirs, lr=RATE, **options)
    mine = PAIRS[name][0](ours)
    mine.load_state_dict(copy.deepcopy(right.state_dict()))
    take_steps(mine, ours, 5, 8)
    take_steps(right, theirs, 5, 8)
    assert farthest(ours, theirs) < 1e-3


def test_no_gradient_no_step_and_no_closure(monkeypatch: pytest.MonkeyPatch) -> None:
    for make, _ in PAIRS.values():
        value = nn.Parameter(torch.ones(3))
        optimizer = make([value])
        optimizer.step()
        assert torch.equal(value, torch.ones(3))
        with pytest.raises(ValueError, match="closure"):
            optimizer.step(lambda: 0.0)
        value.grad = torch.ones(3)
        monkeypatch.setattr(optim, "OPS", None)  # the kernels are what computes
        with pytest.raises(AttributeError):
            optimizer.step()
        monkeypatch.undo()
        monkeypatch.setattr(kernels, "available", lambda: True)
