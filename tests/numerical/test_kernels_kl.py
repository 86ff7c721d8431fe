"""The fast Flipout layers' KL: when it is the one of the forward pass, and that its gradients are always there."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from bnn import kernels
from bnn.layers import (
    kl_divergence,
    mean_only,
    set_noise,
)
from bnn.layers.flipout_fast import FastFlipout
from bnn.optim import FusedAdam, FusedRMSprop
from tests.support.flipout_layers import KEY, closed_form, make, network
from tests.support.kernels import need_kernels

need_kernels()


@pytest.fixture(autouse=True)
def take_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: True)


LAYERS = pytest.mark.parametrize("name", ["conv", "linear"])


@LAYERS
def test_kl_comes_with_the_forward_pass_once(name: str) -> None:
    layer, x = make(name)
    layer(x)
    first, second = layer.kl(), layer.kl()
    assert "Flipout" in str(first.grad_fn) or "Perturbation" in str(first.grad_fn)
    assert "Sum" in str(second.grad_fn)
    torch.testing.assert_close(first, second)
    gradients = [torch.autograd.grad(kl, [layer.mu, layer.rho]) for kl in (first, second)]
    for mine, right in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, right)


def adam(layer: nn.Module) -> None:
    FusedAdam(layer.parameters(), 0.1).step()


def rmsprop(layer: nn.Module) -> None:
    FusedRMSprop(layer.parameters(), 0.1).step()


def in_place(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.get_parameter("rho").add_(1)


def other_data(layer: nn.Module) -> None:
    layer.get_parameter("mu").data = layer.get_parameter("mu") + 1


def new_parameter(layer: nn.Module) -> None:
    layer.register_parameter("mu", nn.Parameter(layer.get_parameter("mu").detach() + 1))


def load(layer: nn.Module) -> None:
    layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()})


@LAYERS
@pytest.mark.parametrize("change", [adam, rmsprop, in_place, other_data, new_parameter, load], ids=lambda f: f.__name__)
def test_kl_of_other_weights_is_not_used(name: str, change: Callable[[nn.Module], None]) -> None:
    layer, x = make(name)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    layer(x)
    stale = closed_form(layer).detach()
    change(layer)
    assert not torch.isclose(closed_form(layer), stale, rtol=1e-3)
    torch.testing.assert_close(layer.kl(), closed_form(layer))


@LAYERS
def test_kl_has_gradients_whatever_became_of_the_forward_pass(name: str) -> None:
    layer, x = make(name)
    with torch.no_grad():
        layer(x)
        assert not layer.kl().requires_grad
        layer(x)
    right = torch.autograd.grad(layer.kl(), [layer.mu, layer.rho])  # after a pass without gradients
    layer(x).sum().backward()
    after = torch.autograd.grad(layer.kl(), [layer.mu, layer.rho])  # when its graph is gone already
    with torch.inference_mode():
        layer(x)
    inferred = torch.autograd.grad(layer.kl(), [layer.mu, layer.rho])
    with mean_only(layer):
        layer(x)
    alone = torch.autograd.grad(layer.kl(), [layer.mu, layer.rho])
    for other in (after, inferred, alone):
        for mine, expected in zip(other, right, strict=True):
            torch.testing.assert_close(mine, expected)


@LAYERS
def test_output_and_kl_in_one_backward_pass_or_in_two(name: str) -> None:
    layer, x = make(name)
    set_noise(layer, KEY)
    (layer(x).square().sum() + 0.3 * layer.kl()).backward()
    once = [p.grad.clone() for p in (layer.mu, layer.rho) if p.grad is not None]
    layer.zero_grad()
    set_noise(layer, KEY)
    output = layer(x)
    (0.3 * layer.kl()).backward(retain_graph=True)
    output.square().sum().backward()
    for mine, right in zip((layer.mu.grad, layer.rho.grad), once, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-5)


def test_a_shared_layer_counts_once_and_gets_both_gradients() -> None:
    model, x = network(), torch.randn(2, 3, 4, 4)
    set_noise(model, KEY)
    output = model(x)
    kl = kl_divergence(model)
    (output.square().sum() + kl).backward()
    fast = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    # the same by two layers, each with the noise of one of the two uses
    first, second, dense = copy.deepcopy(model[0]), copy.deepcopy(model[0]), copy.deepcopy(model[4])
    for layer in (first, second, dense):  # the first two have one index, as the layer that they stand for
        set_noise(layer, KEY)
    assert isinstance(second, FastFlipout)
    second.next_seed()
    parts = nn.Sequential(first, nn.Tanh(), second, nn.Flatten(), dense)
    parts.zero_grad()
    right = parts(x)
    torch.testing.assert_close(output, right)
    (right.square().sum() + second.kl() + dense.kl()).backward()
    for name in ("mu", "rho", "bias"):
        both = first.get_parameter(name).grad + second.get_parameter(name).grad
        torch.testing.assert_close(fast[f"0.{name}"], both)
        torch.testing.assert_close(fast[f"4.{name}"], dense.get_parameter(name).grad)
    torch.testing.assert_close(kl, second.kl() + dense.kl())
