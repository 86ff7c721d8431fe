"""Activation checkpointing under several keys: the noise that is repeated is that of the pass, or it is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import bnn
from bnn.errors import UserError
from bnn.layers import ESTIMATORS, NoiseKey, PosteriorInit, set_noise

WIDE = PosteriorInit(rho_init=0.0)
Run = Callable[[nn.Module, Tensor], Tensor]


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(2), nn.Conv1d(4, 4, 3), nn.Flatten(), nn.Tanh(), nn.Linear(56, 3)
    )


def plain(model: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = model(x)
    return y


def repeated(reentrant: bool) -> Run:
    def run(model: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = checkpoint(model, x, use_reentrant=reentrant)
        return y

    return run


RUNS = pytest.mark.parametrize("run", [repeated(False), repeated(True)], ids=["saved", "reentrant"])
KINDS = pytest.mark.parametrize("estimator", ESTIMATORS)


def made(estimator: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return bnn.convert(network(), estimator, init=WIDE), torch.randn(5, 2, 6, 6, requires_grad=True)


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def compared(estimator: str, run: Run, work: Callable[[nn.Module, Tensor, Run], None]) -> None:
    """The gradients of `work` with checkpointing and without."""
    model, x = made(estimator)
    other = copy.deepcopy(model)
    work(model, x, plain)
    work(other, x, run)
    torch.testing.assert_close(gradient(other), gradient(model), rtol=1e-4, atol=1e-6)


@RUNS
@KINDS
def test_a_key_that_is_set_before_the_backward_pass_changes_nothing(estimator: str, run: Run) -> None:
    def work(model: nn.Module, x: Tensor, run: Run) -> None:
        for step in range(3):
            set_noise(model, NoiseKey(1, step))
            loss = run(model, x).square().sum()
            set_noise(model, NoiseKey(2, step))
            with torch.no_grad():
                model(x)
            loss.backward()

    compared(estimator, run, work)


@RUNS
@KINDS
def test_the_backward_pass_leaves_the_present_key(estimator: str, run: Run) -> None:
    model, x = made(estimator)
    set_noise(model, NoiseKey(7))
    expected = model(x)
    set_noise(model, NoiseKey(1))
    loss = run(model, x).square().sum()
    set_noise(model, NoiseKey(7))
    loss.backward()
    assert torch.equal(model(x), expected)


@RUNS
@KINDS
def test_two_keys_before_one_backward_pass_are_refused(estimator: str, run: Run) -> None:
    model, x = made(estimator)
    losses = []
    for step in range(2):
        set_noise(model, NoiseKey(1, step))
        losses.append(run(model, x).square().sum())
    with pytest.raises(UserError, match="under several keys of set_noise before one backward pass"):
        (losses[0] + losses[1]).backward()


@RUNS
@KINDS
def test_losses_that_are_kept_are_no_matter(estimator: str, run: Run) -> None:
    losses: list[Tensor] = []

    def work(model: nn.Module, x: Tensor, run: Run) -> None:
        for step in range(3):
            set_noise(model, NoiseKey(1, step))
            losses.append(run(model, x).square().sum())
            losses[-1].backward()

    compared(estimator, run, work)


@RUNS
def test_a_pass_without_a_key_repeats_that_without_a_key(run: Run) -> None:
    def work(model: nn.Module, x: Tensor, run: Run) -> None:
        torch.manual_seed(3)
        loss = run(model, x).square().sum()
        set_noise(model, NoiseKey(1))
        loss.backward()

    compared("flipout", run, work)


@RUNS
def test_several_passes_under_one_key_are_refused(run: Run) -> None:
    model, x = made("flipout-reference")
    set_noise(model, NoiseKey(1))
    loss = run(model, x).square().sum() + run(model, x).square().sum()
    with pytest.raises(UserError, match="was called 2 times since set_noise"):
        loss.backward()
