"""Networks that users write: pruned and compacted they compute the same, or what is not understood stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.errors import UserError
from bnn.layers import bayesian_layers, mean_only
from bnn.layers.convert import convert
from bnn.posterior import GraphNetwork, load_posterior
from bnn.posterior.save import save_network
from bnn.pruning.apply import apply
from bnn.pruning.compact import compact, eliminate_dead
from bnn.pruning.criterion import select
from bnn.pruning.snr import bayesian, snr_histogram
from bnn.pruning.spaces import Spaces
from tests.support.posteriors import WIDE, Written, drawn, paper_network, traced

Forward = Callable[[Any, Tensor], Tensor]


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def over_count(m: Any, x: Tensor) -> Tensor:
    x = torch.relu(m.a(x))
    return m.o((x / x.size(1)).flatten(1))


def times_count(m: Any, x: Tensor) -> Tensor:
    x = torch.relu(m.a(x))
    return m.o((x * x.shape[1]).flatten(1))


def over_doubled_count(m: Any, x: Tensor) -> Tensor:
    x = torch.relu(m.a(x))
    return m.o((m.b(x) / (x.size(1) * 2)).flatten(1))


def whole_pool(m: Any, x: Tensor) -> Tensor:
    x = torch.relu(m.a(x))
    return m.o(functional.avg_pool2d(x, x.shape[-1]).flatten(1))


def viewed(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.relu(m.a(x)).view(-1, 8 * 16))


def viewed_by_sizes(m: Any, x: Tensor) -> Tensor:
    x = torch.relu(m.a(x))
    return m.o(x.view(x.size(0), x.size(1) * x.size(2) * x.size(3)))


def added_to_input(m: Any, x: Tensor) -> Tensor:
    x = x.flatten(1)
    return m.o(torch.relu(m.a(x) + x))


def input_added(m: Any, x: Tensor) -> Tensor:
    x = x.flatten(1)
    return m.o(torch.relu(x + m.a(x)))


def two_flat_inputs(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.relu(m.a(x.flatten(1)) + x.flatten(1)))


def dense_along_pixels(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.cat([torch.relu(m.a(x.flatten(2))).flatten(1), torch.relu(m.b(x)).flatten(1)], 1))


def cat_from_the_end(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.cat([m.a(x), torch.sigmoid(m.b(x))], -3).flatten(1))


def gated(m: Any, x: Tensor) -> Tensor:
    x = torch.relu(m.a(x))
    return m.o((x * torch.sigmoid(m.b(functional.adaptive_avg_pool2d(x, 1)))).mean((2, 3)))


def mean_of_rows(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.relu(m.a(x)).mean((1, 2)))


# forward, layers, image, whether units can be removed
WRITTEN: dict[str, tuple[Forward, dict[str, nn.Module], tuple[int, int, int], bool]] = {
    "over_count": (over_count, {"a": conv(2, 8), "o": nn.Linear(128, 3)}, (2, 4, 4), True),
    "times_count": (times_count, {"a": conv(2, 8), "o": nn.Linear(128, 3)}, (2, 4, 4), True),
    "over_doubled_count": (
        over_doubled_count,
        {"a": conv(2, 8), "b": conv(8, 4), "o": nn.Linear(64, 3)},
        (2, 4, 4),
        True,
    ),
    "whole_pool": (whole_pool, {"a": conv(2, 8), "o": nn.Linear(8, 3)}, (2, 4, 4), True),
    "viewed": (viewed, {"a": conv(2, 8), "o": nn.Linear(128, 3)}, (2, 4, 4), True),
    "viewed_by_sizes": (viewed_by_sizes, {"a": conv(2, 8), "o": nn.Linear(128, 3)}, (2, 4, 4), True),
    "added_to_input": (added_to_input, {"a": nn.Linear(12, 12), "o": nn.Linear(12, 3)}, (3, 2, 2), True),
    "input_added": (input_added, {"a": nn.Linear(12, 12), "o": nn.Linear(12, 3)}, (3, 2, 2), True),
    "two_flat_inputs": (two_flat_inputs, {"a": nn.Linear(12, 12), "o": nn.Linear(12, 3)}, (3, 2, 2), True),
    "dense_along_pixels": (
        dense_along_pixels,
        {"a": nn.Linear(16, 2), "b": conv(6, 6), "o": nn.Linear(108, 3)},
        (6, 4, 4),
        False,
    ),
    "cat_from_the_end": (
        cat_from_the_end,
        {"a": conv(2, 4), "b": conv(2, 4), "o": nn.Linear(128, 3)},
        (2, 4, 4),
        True,
    ),
    "gated": (gated, {"a": conv(2, 8), "b": nn.Conv2d(8, 8, 1), "o": nn.Linear(8, 3)}, (2, 4, 4), True),
    "mean_of_rows": (mean_of_rows, {"a": conv(2, 8), "o": nn.Linear(4, 3)}, (2, 4, 4), False),
}


def written(name: str) -> GraphNetwork:
    torch.manual_seed(0)
    forward, layers, image, _ = WRITTEN[name]
    return traced(convert(Written(forward, **layers), init=WIDE), image)


def removable(network: GraphNetwork) -> bool:
    return any(space.frozen is None for space in Spaces(network).groups() if space.readers)


@pytest.mark.parametrize("by", ["weight", "unit"])
@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_taken_out_changes_no_output(name: str, by: str, tmp_path: Path) -> None:
    network = written(name)
    images = torch.rand(3, *network.graph.input_shape)
    assert removable(network) == WRITTEN[name][3]
    if by == "unit" and not removable(network):
        with pytest.raises(UserError, match="no unit of this network"):
            select(network, percent=50.0, scope="global", by=by)
        return
    for percent in (40.0, 90.0):
        masked = apply(network, select(network, percent=percent, scope="global", by=by), "zero")
        save_network(compact(masked), tmp_path / "small")
        small = load_posterior(tmp_path / "small")
        if by == "unit":
            sizes = [sum(layer.mu.numel() for layer in bayesian_layers(each)) for each in (masked, small)]
            assert sizes[1] < sizes[0]
        with torch.no_grad(), mean_only(masked), mean_only(small):
            torch.testing.assert_close(small(images), masked(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            drawn(small, images, 1), drawn(copy.deepcopy(eliminate_dead(masked)), images, 1), rtol=1e-5, atol=1e-5
        )


def test_networks_in_double_precision_are_compacted() -> None:
    network = paper_network("fc", 1 / 8).double()
    small = compact(apply(network, select(network, percent=60.0, scope="global", by="unit"), "zero"))
    assert next(bayesian_layers(small)).mu.dtype == torch.float64


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_is_zero_already_goes_before_what_has_a_sigma(scope: str) -> None:
    network = paper_network("fc", 1 / 8)
    for layer in bayesian_layers(network):
        half = layer.mu.shape[0] // 2
        with torch.no_grad():
            layer.mu.zero_()
            layer.rho[half:] = -torch.inf  # truly pruned; the rows before have mean 0 only
    assert select(network, percent=50.0, scope=scope, by="weight").percent == pytest.approx(50.0, abs=0.01)


@pytest.mark.parametrize("semantics", ["bprune", "mean-only"])
def test_a_removed_unit_is_zero_or_refused(semantics: str) -> None:
    network = paper_network("fc", 1 / 8)
    with pytest.raises(UserError, match=semantics):
        apply(network, select(network, percent=50.0, scope="global", by="unit"), semantics)


def test_the_histogram_holds_a_posterior_that_has_not_moved() -> None:
    network = paper_network("fc", 1 / 8)
    for layer in bayesian(network).values():
        torch.nn.init.normal_(layer.mu, 0.0, 0.1)
        torch.nn.init.normal_(layer.rho, -9.0, 0.1)
    table = snr_histogram(network)
    counts = table[table["layer"] == ""]["count"].to_numpy()
    assert counts[-1] == 0
    assert counts.argmax() not in (0, len(counts) - 1)
