"""Units whose zero would not stay harmless, or that are counted elsewhere, stay, and the reason is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.errors import UserError
from bnn.layers.convert import convert
from bnn.posterior import GraphNetwork
from bnn.pruning.apply import apply
from bnn.pruning.compact import compact, eliminate_dead
from bnn.pruning.criterion import kept_units, select
from bnn.pruning.levels import kernel_weights, verify
from tests.support.posteriors import WIDE, Written, traced

IMAGE = (2, 4, 4)
# What is infinite, or no number, at the zero of a removed unit, and the operation that is named.
PARTIAL: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "log": (torch.log, "log"),
    "log2": (torch.log2, "log2"),
    "log10": (torch.log10, "log10"),
    "log1p below": (lambda x: torch.log1p(x - 1), "log1p"),
    "reciprocal": (torch.reciprocal, "reciprocal"),
    "a number over it": (lambda x: 2.0 / x, "reciprocal"),
    "rsqrt": (torch.rsqrt, "rsqrt"),
    "sqrt below": (lambda x: (x.clamp(max=4) + 1e-3 - 1e-3).sqrt(), "sqrt"),
    "a negative power": (lambda x: x**-2, "pow"),
    "a root": (lambda x: x**0.3, "pow"),
    "itself over itself": (lambda x: x / x.square(), "div"),
    "rounded down": (lambda x: torch.div(x + 1, x, rounding_mode="floor"), "div"),
    "remainder": (lambda x: torch.remainder(x + 1, x), "remainder"),
    "fmod": (lambda x: torch.fmod(x + 1, x), "fmod"),
    "power by it": (lambda x: (x + 1) ** (x - 1), "pow"),
    "number to its power": (lambda x: 0.5 ** torch.log(x), "log"),
}  # fmt: skip


def network_of(function: Callable[[Tensor], Tensor]) -> GraphNetwork:
    """Positive channels of layer a, the function of them, layers b and o behind it."""
    torch.manual_seed(0)

    def forward(m: Any, x: Tensor) -> Tensor:
        y = function(m.a(x).square())
        return m.o(torch.relu(m.b(y.clamp(-20, 20))).mean((2, 3)))

    layers = {"a": nn.Conv2d(2, 6, 3, padding=1), "b": nn.Conv2d(6, 8, 1), "o": nn.Linear(8, 3)}
    return traced(convert(Written(forward, **layers), init=WIDE), IMAGE)


def pruned_and_right(network: GraphNetwork, percent: float) -> None:
    selection = select(network, percent=percent, scope="global", by="unit")
    removed = apply(network, selection, "zero")
    masked = eliminate_dead(removed)
    small = compact(masked)
    verify(removed, masked, small, "zero")
    assert selection.units_removed
    assert kernel_weights(small) < kernel_weights(network)


@pytest.mark.parametrize("name", list(PARTIAL))
def test_units_behind_which_zero_is_no_number_stay(name: str) -> None:
    function, operation = PARTIAL[name]
    network = network_of(function)
    assert any(line.startswith("a: operation ") and operation in line for line in kept_units(network)), name
    pruned_and_right(network, 60.0)


@pytest.mark.parametrize("function", [lambda x: x / 3, lambda x: x**2, lambda x: x / x.shape[1], torch.exp, torch.tanh])
def test_what_is_a_number_everywhere_loses_units(function: Callable[[Tensor], Tensor]) -> None:
    network = network_of(lambda x: function(x.clamp(max=2)))
    assert kept_units(network) == []
    pruned_and_right(network, 60.0)


def test_places_of_maxima_keep_their_channels() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y, places = functional.max_pool2d(m.a(x), 2, return_indices=True)
        return m.o(torch.relu(m.b(y) + places.sum(1, keepdim=True) / 100).mean((2, 3)))

    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(2, 6, 3, padding=1), "b": nn.Conv2d(6, 8, 1), "o": nn.Linear(8, 3)}
    network = traced(convert(Written(forward, **layers), init=WIDE), IMAGE)
    assert any(line.startswith("a: operation item") for line in kept_units(network))


class Reading(nn.Module):
    """Layers whose weights are read, and a dense one that makes the classes."""

    def __init__(self, layer: nn.Module, features: int) -> None:
        super().__init__()
        self.mix, self.last = layer, nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(x.flatten(2) if isinstance(self.mix, nn.Conv1d) else x.flatten(1, 2))
        return self.last((y[0] if isinstance(y, tuple) else y).flatten(1))


@pytest.mark.parametrize(
    ("layer", "features", "weight", "reader"),
    [
        (nn.GRU(4, 5, batch_first=True), 40, "mix.weight_ih_l0, mix.weight_hh_l0", r"gru \(aten.gru.input\)"),
        (nn.Conv1d(2, 3, 3), 42, "mix.weight", r"convolution \(aten.convolution.default\)"),
    ],
)
def test_a_network_without_units_that_can_go_says_which_layers_it_has(
    layer: nn.Module, features: int, weight: str, reader: str
) -> None:
    torch.manual_seed(0)
    network = traced(convert(Reading(layer, features), init=WIDE), IMAGE)
    message = (
        f"no unit of this network can be removed: {weight}: units are not followed through what reads .* {reader}$"
    )
    with pytest.raises(UserError, match=message):
        select(network, percent=50.0, scope="global", by="unit")


def test_a_network_of_one_layer_has_classes_only() -> None:
    network = traced(convert(nn.Sequential(nn.Conv2d(2, 3, 4), nn.Flatten()), init=WIDE), IMAGE)
    with pytest.raises(UserError, match="can be removed: the only units that it has are the classes"):
        select(network, percent=50.0, scope="global", by="unit")
