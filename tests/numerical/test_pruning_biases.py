"""Posteriors with Bayesian biases: pruned by weight and by unit, compacted, drawn in every mode and exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.inference.predictor import Predictor
from bnn.inference.settings import MODES
from bnn.interop.export import export_posterior
from bnn.layers import BayesianLayer, PosteriorInit, mean_only
from bnn.layers.convert import convert
from bnn.posterior import GraphNetwork
from bnn.posterior.save import save_network
from bnn.posterior.trace import trace
from bnn.pruning.apply import apply
from bnn.pruning.compact import compact, eliminate_dead
from bnn.pruning.criterion import kept_units, select
from bnn.pruning.levels import kernel_weights, verify
from bnn.pruning.snr import bayesian
from bnn.pruning.spaces import Spaces
from tests.support.posteriors import WIDE, Branches, Written, stir

Forward = Callable[[Any, Tensor], Tensor]


def posterior(model: nn.Module, shape: tuple[int, ...], init: PosteriorInit = WIDE) -> GraphNetwork:
    """The graph of a model with Bayesian biases."""
    torch.manual_seed(1)
    twin = convert(stir(model), init=init, biases=True).eval()
    return trace(twin, torch.rand(2, *shape), 0, {})[1]


def plain() -> nn.Module:
    return Written(
        lambda m, x: m.o(torch.relu(m.h(torch.relu(m.n(m.a(x))).flatten(1)))),
        a=nn.Conv2d(2, 6, 3, padding=1), n=nn.BatchNorm2d(6), h=nn.Linear(96, 10), o=nn.Linear(10, 3),
    )  # fmt: skip


def whole(network: GraphNetwork, percent: float, by: str) -> tuple[GraphNetwork, GraphNetwork]:
    """The network after a removal, masked and compacted, all verified."""
    removed = apply(network, select(network, percent=percent, scope="global", by=by), "zero")
    masked = eliminate_dead(removed)
    small = compact(masked)
    verify(removed, masked, small, "zero")
    return removed, small


@settings(max_examples=8, deadline=None)
@given(percent=st.floats(5, 95), by=st.sampled_from(["weight", "unit"]), branches=st.booleans())
def test_whatever_is_removed_all_forms_compute_the_same(percent: float, by: str, branches: bool) -> None:
    network = posterior(Branches(), (2, 4, 4)) if branches else posterior(plain(), (2, 4, 4))
    _, small = whole(network, percent, by)
    if by == "unit":
        assert kernel_weights(small) < kernel_weights(network)


def test_a_unit_goes_with_its_bias() -> None:
    network = posterior(plain(), (2, 4, 4))
    with torch.no_grad():  # of these units no weight and no bias says anything
        for name, units in {"a": [1, 4], "h": [0, 7, 8]}.items():
            for layer in (network.get_submodule(f"{name}.layer"), network.get_submodule(f"{name}.bias_posterior")):
                layer.mu[units] *= 1e-6
    selection = select(network, threshold=1e-3, scope="global", by="unit")
    assert selection.units_removed == 5
    assert {name: (~keep).nonzero()[:, 0].unique().tolist() for name, keep in selection.keep.items()} == {
        "a.layer": [1, 4], "a.bias_posterior": [1, 4], "h.layer": list(range(10)), "h.bias_posterior": [0, 7, 8],
        "o.layer": [0, 1, 2], "o.bias_posterior": [],
    }  # fmt: skip
    removed = apply(network, selection, "zero")
    small = compact(eliminate_dead(removed))
    verify(removed, eliminate_dead(removed), small, "zero")
    shapes = {name: tuple(layer.mu.shape) for name, layer in bayesian(small).items()}
    assert shapes == {
        "a.layer": (4, 2, 3, 3), "a.bias_posterior": (4,), "h.layer": (7, 64), "h.bias_posterior": (7,),
        "o.layer": (3, 7), "o.bias_posterior": (3,),
    }  # fmt: skip
    # by hand: the network with these units' rows at zero, and nothing else changed
    by_hand = posterior(plain(), (2, 4, 4))
    with torch.no_grad():
        for name, layer in bayesian(by_hand).items():
            layer.mu.copy_(bayesian(network)[name].mu)
        for name, units in {"a": [1, 4], "h": [0, 7, 8]}.items():
            for part in ("layer", "bias_posterior"):
                by_hand.get_submodule(f"{name}.{part}").mu[units] = 0
        for parameter in by_hand.get_submodule("n").parameters():
            parameter[[1, 4]] = 0
        x = torch.rand(3, 2, 4, 4)
        with mean_only(by_hand), mean_only(small):
            torch.testing.assert_close(small(x), by_hand(x))


def test_biases_are_weights_that_go_by_their_own_ratio() -> None:
    network = posterior(plain(), (2, 4, 4))
    with torch.no_grad():
        bayesian(network)["h.bias_posterior"].mu.mul_(1e-6)
    few = 100 * 10 / kernel_weights(network)
    removed, _ = whole(network, few, "weight")
    assert not bayesian(removed)["h.bias_posterior"].mu.any()
    assert not bayesian(removed)["h.bias_posterior"].sigma.any()
    left = {name: int((layer.mu == 0).sum()) for name, layer in bayesian(removed).items() if name[0] != "h"}
    assert not any(left.values())


def check_folding(network: GraphNetwork, folded: list[str]) -> None:
    """Draws with folding are those without, and of `folded`, and the last layer, the biases are added within."""
    images = [torch.rand(3, *network.graph.input_shape), torch.rand(2, *network.graph.input_shape)]
    apart = list(Predictor(network, fold=False).logits(3, 0, 3, images))
    for form in ("dense", "csr"):
        predictor = Predictor(network, form=form)
        for ours, theirs in zip(predictor.logits(3, 0, 3, images), apart, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        left = {str(node.layer) for node in predictor.network.graph.nodes if node.op == "layer" and not node.inputs}
        assert not left & {f"{name}.bias_posterior" for name in folded}


def test_a_bias_is_added_within_its_layer_and_what_follows_it_too() -> None:
    network = posterior(plain(), (2, 4, 4))
    check_folding(network, ["a", "h", "o"])
    kinds = [node.type or node.op for node in Predictor(network).network.graph.nodes if node.output_shape is not None]
    assert kinds == [
        "input", "FastFlipoutConv2d", "aten.view.default", "FastFlipoutLinear", "FastFlipoutLinear", "output",
    ]  # fmt: skip


def twice(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.relu(m.b(torch.relu(m.b(torch.relu(m.a(x)))))).flatten(1))


def read_elsewhere(m: Any, x: Tensor) -> Tensor:
    x = torch.relu(m.a(x))
    return m.o((x * m.b.bias.sum()).flatten(1)) + m.p(torch.relu(m.b(x)).flatten(1))


def added_again(m: Any, x: Tensor) -> Tensor:
    x = torch.relu(m.a(x))
    return m.o(torch.relu(m.b(x) + x + m.a.bias.view(-1, 1, 1)).flatten(1))


def along_pixels(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.relu(m.a(x) + m.b.bias).flatten(1)) + m.p(torch.relu(m.b(torch.relu(m.a(x)))).flatten(1))


def as_scale(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.relu(m.a(x) * torch.exp(m.b.bias[:, None, None])).flatten(1))


def divided(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.relu(m.a(x) / (1 + m.b.bias.square()).view(1, 4, 1, 1)).flatten(1))


def largest(m: Any, x: Tensor) -> Tensor:
    return m.o(torch.maximum(m.a(x), m.b.bias.view(4, 1, 1)).flatten(1))


@pytest.mark.parametrize(
    "forward", [twice, read_elsewhere, added_again, along_pixels, as_scale, divided, largest], ids=lambda f: f.__name__
)
def test_biases_that_are_read_in_other_ways_are_followed_or_left(forward: Forward) -> None:
    model = Written(
        forward, a=nn.Conv2d(2, 4, 3, padding=1), b=nn.Conv2d(4, 4, 1), o=nn.Linear(64, 3), p=nn.Linear(64, 3)
    )
    network = posterior(model, (2, 4, 4))
    check_folding(network, ["a"] if forward in (read_elsewhere, twice) else [])
    for percent in (20.0, 60.0, 95.0):
        whole(network, percent, "weight")
        if any(space.frozen is None for space in Spaces(network).groups()):
            whole(network, percent, "unit")
        else:
            with pytest.raises(UserError, match="no unit of this network can be removed"):
                whole(network, percent, "unit")


def test_why_units_stay_is_said_under_the_layers_own_names() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(2), nn.Conv1d(4, 3, 2), nn.Flatten(), nn.Linear(9, 2)
    )
    network = posterior(model, (1, 4, 4))
    reasons = kept_units(network)
    assert [line.partition(":")[0] for line in reasons] == ["0", "3.weight, 3.bias"]
    with pytest.raises(
        UserError, match=r"3\.weight, 3\.bias: units are not followed through what reads the weight"
    ) as error:
        select(network, percent=50, scope="global", by="unit")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", MODES)
def test_draws_of_every_mode_have_the_bias_of_the_posterior(mode: str) -> None:
    """Weights without noise: the logits are those of the means, and the bias's own noise."""
    network = posterior(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2), PosteriorInit(rho_init=-60.0))
    bias = network.get_submodule("1.bias_posterior")
    assert isinstance(bias, BayesianLayer)
    with torch.no_grad():
        bias.rho.copy_(torch.tensor([-2.0, -1.0, 0.5]))
        x = torch.rand(2, 1, 2, 2)
        with mean_only(network):
            means = network(x)
    draws = 800
    noise = torch.stack(list(Predictor(network, mode).logits(3, 0, draws, [x]))).double() - means.double()
    torch.testing.assert_close(noise[:, 0], noise[:, 1], atol=1e-5, rtol=0)  # one bias for all images
    scaled = noise[:, 0] / bias.sigma.detach().double()
    assert float(scaled.mean(0).abs().max()) < 4.5 / draws**0.5
    assert float((scaled.std(0) - 1).abs().max()) < 4.5 / (2 * draws) ** 0.5


def test_the_mean_network_is_exported(tmp_path: Path) -> None:
    network = posterior(plain(), (2, 4, 4))
    save_network(network, tmp_path / "posterior")
    export_posterior(tmp_path / "posterior", tmp_path / "mean.pt2")
    x = torch.rand(3, 2, 4, 4)
    with mean_only(network), torch.no_grad():
        torch.testing.assert_close(torch.export.load(tmp_path / "mean.pt2").module()(x), network(x))
