"""Layers that a model also holds outside of torch's registry: a twin uses its own there, or is refused by name."""

from __future__ import annotations

import pickle
from collections import namedtuple
from collections.abc import Callable
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnn
from bnn.errors import UserError
from bnn.layers import BayesianLayer, NoiseKey, bayesian_layers, mean_only, set_noise

Pair = namedtuple("Pair", "first second")
Hold = Callable[[nn.Module], Any]


class Holder(nn.Module):
    """Computes with what `self.held` (or `self._held`) gives, in place of the registered layer."""

    def __init__(self, hold: Hold, take: Callable[[Any], Any], name: str, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = layer or nn.Linear(4, 3)
        self.name, self.take = name, take
        self.__dict__[name] = hold(self.layer)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.take(self.__dict__[self.name])(x)
        return y


class Slotted:
    __slots__ = ("layer",)

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer


REPLACED: dict[str, tuple[Hold, Callable[[Any], Any]]] = {
    "attribute": (lambda layer: layer, lambda held: held),
    "list": (lambda layer: [nn.ReLU(), layer], lambda held: held[1]),
    "nested": (lambda layer: {"a": [(layer,)]}, lambda held: held["a"][0][0]),
    "tuple": (lambda layer: (layer, 2), lambda held: held[0]),
    "named tuple": (lambda layer: Pair(1, layer), lambda held: held.second),
    "dict": (lambda layer: {"x": layer}, lambda held: held["x"]),
    "object": (lambda layer: SimpleNamespace(layer=layer), lambda held: held.layer),
    "slots": (Slotted, lambda held: held.layer),
    "module without parameters": (lambda layer: holding(nn.Identity(), layer), lambda held: held.kept[0]),
}


def holding(module: nn.Module, layer: nn.Module) -> nn.Module:
    module.kept = [layer]
    return module


@pytest.mark.parametrize("name", ["held", "_held", "_layers"])
@pytest.mark.parametrize("kind", REPLACED)
@pytest.mark.parametrize("estimator", ["flipout", "reparameterization"])
def test_what_holds_a_layer_holds_the_twins(kind: str, name: str, estimator: str) -> None:
    model = Holder(*REPLACED[kind], name)
    twin, x = bnn.convert(model, estimator), torch.randn(5, 4)
    held = twin.take(twin.__dict__[name])
    assert held is twin.layer
    assert isinstance(held, BayesianLayer)
    assert model.take(model.__dict__[name]) is model.layer, "the original is as it was"
    with torch.no_grad():
        twin.layer.mu.zero_()
        twin.layer.bias.zero_()
        with mean_only(twin):
            assert not twin(x).any()


def test_a_layer_held_in_a_shared_list_and_in_itself() -> None:
    model = Holder(*REPLACED["list"], "held")
    model.again = model.held
    model.held.append(model.held)
    twin = bnn.convert(model)
    assert twin.again is twin.held is twin.held[2]
    assert twin.held[1] is twin.layer


@pytest.mark.parametrize("layer", [nn.Conv1d(4, 3, 1), nn.Embedding(5, 4)])
def test_methods_of_layers_that_keep_their_code_are_right(layer: nn.Module) -> None:
    twin = bnn.convert(Holder(lambda layer: layer.forward, lambda held: held, "held", layer))
    assert twin.held.__self__ is twin.layer
    x = torch.zeros(2, 4, 5) if isinstance(layer, nn.Conv1d) else torch.zeros(2, dtype=torch.long)
    set_noise(twin, NoiseKey(1))
    first = twin(x + 1)
    set_noise(twin, NoiseKey(2))
    assert not torch.equal(first, twin(x + 1))


REFUSED: dict[str, tuple[Hold, str]] = {
    "method": (lambda layer: layer.forward, "held: a method that holds layer 0.layer would"),
    "method in a list": (lambda layer: [layer.forward], "held: a method"),
    "partial": (lambda layer: partial(torch.add, alpha=layer), "held: a partial that holds layer 0.layer would"),
    "partial of a method": (lambda layer: partial(layer.forward), "held: a method"),
    "closure": (lambda layer: lambda x: layer(2 * x), "it holds 0.layer of the model itself"),
    "default": (lambda layer: lambda x, f=layer: f(x), "it holds 0.layer of the model itself"),
    "closure over the weight": (
        lambda layer: partial(max, (w := layer.weight, lambda: w)[1]),
        "it holds 0.layer.weight",
    ),
    "cached": (lambda layer: lru_cache(lambda x: layer(2 * x)), "it holds 0.layer of the model itself"),
    "set": (lambda layer: {layer}, "held: a set that holds layer 0.layer would"),
    "key": (lambda layer: {layer: 1}, "held: a key that holds layer 0.layer would"),
    "weight": (lambda layer: [layer.weight], r"held: it holds 0\.layer\.weight, which is sampled now"),
    "bias": (lambda layer: layer.bias, r"held: it holds 0\.layer\.bias"),
    "other layer": (lambda layer: nn.Linear(2, 2), "held: a Linear that is registered nowhere"),
    "other layers": (lambda layer: {"a": [nn.Linear(2, 2)]}, "held: a Linear that is registered nowhere"),
}


@pytest.mark.parametrize("name", ["held", "_held"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_go_on_with_old_weights_is_refused(kind: str, name: str) -> None:
    hold, message = REFUSED[kind]
    model = Holder(hold, lambda held: held, name)
    with pytest.raises(UserError, match=message) as error:
        bnn.convert(nn.Sequential(model))
    assert str(error.value).startswith(f"0.{name}")
    assert "\n" not in str(error.value)


def test_functions_and_hooks_without_layers_are_no_matter() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    seen: list[int] = []
    model[1].register_forward_hook(lambda module, inputs, output: seen.append(1))
    model.norm, model.helper, model.parent = partial(nn.LayerNorm, eps=1e-3), max, [model]
    twin = bnn.convert(model)
    twin(torch.zeros(1, 2))
    assert seen == [1]
    assert twin.parent[0] is twin


def test_a_hook_that_holds_the_model_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    model[1].register_forward_hook(lambda module, inputs, output: model[0](output))
    with pytest.raises(UserError, match=r"1\._forward_hooks: it holds the model of the model itself"):
        bnn.convert(model)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layers_old_parameters_do_not_live_on(kind: type[nn.RNNBase]) -> None:
    model = nn.ModuleList([kind(64, 64, 2), nn.Linear(2, 2)])
    twin = bnn.convert(model)
    rows = twin[0]
    assert not any(key.startswith("_flat_weight") and key != "_flat_weights_names" for key in rows.__dict__)
    own = sum(p.numel() * p.element_size() for p in twin.parameters())
    assert len(pickle.dumps(twin)) < own + 20_000
    again, x = pickle.loads(pickle.dumps(twin)), torch.randn(3, 2, 64)  # noqa: S301  (of our own)
    torch.manual_seed(1)
    expected = rows(x)[0]
    rows.flatten_parameters()
    twin.to(torch.float32)
    torch.manual_seed(1)
    assert torch.equal(rows(x)[0], expected)
    torch.manual_seed(1)
    assert torch.equal(again[0](x)[0], expected)
    double = twin.double()
    assert double[0](x.double())[0].dtype is torch.float64
    assert len(list(bayesian_layers(twin))) == 5
