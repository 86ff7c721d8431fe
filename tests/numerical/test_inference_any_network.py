"""Draws from networks of every kind: what is folded, computed once, sampled as a parameter, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from bnn.errors import UserError
from bnn.inference.fold import fold_batchnorm, fold_relu
from bnn.inference.predictor import Predictor
from bnn.inference.settings import MODES
from bnn.inference.stem import part
from bnn.layers.convert import convert
from bnn.posterior import GraphNetwork, GraphNode
from bnn.pruning.apply import apply
from bnn.pruning.criterion import select
from tests.support.posteriors import WIDE, Written, traced


def written(forward: Any, shape: tuple[int, int, int] = (3, 6, 6), **layers: nn.Module) -> GraphNetwork:
    torch.manual_seed(0)
    return traced(convert(Written(forward, **layers), init=WIDE), shape)


UNFOLDABLE: dict[str, tuple[Any, dict[str, nn.Module]]] = {
    "norm over pixels": (
        lambda m, x: m.o(m.n(m.a(x)).flatten(1)),
        {"a": nn.Linear(6, 3), "n": nn.BatchNorm2d(3), "o": nn.Linear(54, 2)},
    ),
    "norm over a sequence": (
        lambda m, x: m.o(m.n(m.a(x.flatten(2))).flatten(1)),
        {"a": nn.Linear(36, 3), "n": nn.BatchNorm1d(3), "o": nn.Linear(9, 2)},
    ),
    "reflecting": (
        lambda m, x: m.o(m.n(m.a(x)).mean((2, 3))),
        {"a": nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), "n": nn.BatchNorm2d(4), "o": nn.Linear(4, 2)},
    ),
    "broadcast term": (
        lambda m, x: m.o(m.n(m.a(x) + m.b(functional.adaptive_avg_pool2d(x, 1))).mean((2, 3))),
        {"a": nn.Conv2d(3, 4, 1), "b": nn.Conv2d(3, 4, 1), "n": nn.BatchNorm2d(4), "o": nn.Linear(4, 2)},
    ),
    "scaled term": (
        lambda m, x: m.o(m.n(torch.add(m.a(x), m.b(x), alpha=2)).mean((2, 3))),
        {"a": nn.Conv2d(3, 4, 1), "b": nn.Conv2d(3, 4, 1), "n": nn.BatchNorm2d(4), "o": nn.Linear(4, 2)},
    ),
    "bias read elsewhere": (
        lambda m, x: m.o(m.n(m.a(x)).mean((2, 3)) + m.a.bias),
        {"a": nn.Conv2d(3, 4, 1), "n": nn.BatchNorm2d(4), "o": nn.Linear(4, 2)},
    ),
}


@pytest.mark.parametrize("name", UNFOLDABLE)
def test_a_norm_that_cannot_be_folded_exactly_is_not(name: str) -> None:
    forward, layers = UNFOLDABLE[name]
    network = written(forward, **layers)
    assert not fold_batchnorm(network.graph, network.layers)[1]


def test_a_layer_whose_weight_is_read_is_left_alone() -> None:
    network = written(
        lambda m, x: m.o(torch.relu(m.a(x)).mean((2, 3)) * m.a.weight.mean()), a=nn.Conv2d(3, 4, 1), o=nn.Linear(4, 2)
    )
    assert not fold_relu(network.graph, network.layers)[1]
    images = torch.rand(3, 3, 6, 6)
    for mode in MODES:
        draws = torch.stack(list(Predictor(network, mode).probabilities(1, 0, 3, [images])))
        assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 3
        assert torch.equal(draws[2], next(Predictor(network, mode).probabilities(1, 2, 3, [images])))


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_any_module_are_drawn(mode: str) -> None:
    network = written(
        lambda m, x: m.o(m.a(m.c(x.flatten(2))).mean(1)),
        c=nn.Conv1d(3, 4, 3), a=nn.TransformerEncoderLayer(34, 2, 8, batch_first=True), o=nn.Linear(34, 2),
    )  # fmt: skip
    images = torch.rand(3, 3, 6, 6)
    draws = torch.stack(list(Predictor(network, mode).probabilities(1, 0, 3, [images])))
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 3


def test_what_comes_before_the_first_draw_is_computed_once() -> None:
    network = written(
        lambda m, x: m.o(m.a(x.pow(2).sub(0.5).permute(0, 1, 3, 2)).reshape(x.size(0), -1)),
        a=nn.Conv2d(3, 2, 1), o=nn.Linear(72, 2),
    )  # fmt: skip
    predictor, whole = Predictor(network), Predictor(network)
    assert predictor.stem is not None
    assert {node.type for node in predictor.stem.graph.nodes} >= {"aten.permute.default"}
    assert not any(node.type == "aten.permute.default" for node in predictor.network.graph.nodes)
    images = torch.rand(3, 3, 6, 6)
    whole.stem, whole.network = None, part(network.graph, network.graph.nodes, [3, 6, 6], whole.layers, {})
    for one, other in zip(*(each.logits(1, 0, 2, [images]) for each in (predictor, whole)), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_two_values_before_the_first_draw_leave_the_network_whole() -> None:
    network = written(
        lambda m, x: m.o(m.a(x.sub(0.5)).mul(x.exp()).mean((2, 3))), a=nn.Conv2d(3, 3, 1), o=nn.Linear(3, 2)
    )
    predictor = Predictor(network)
    assert predictor.stem is None
    assert next(predictor.probabilities(1, 0, 1, [torch.rand(2, 3, 6, 6)])).shape == (2, 2)


@pytest.mark.parametrize(
    "end",
    [lambda x: x.softmax(1), lambda x: x.softmax(1)[:, :2], lambda x: x.softmax(1).view(x.size(0), 1, 4).squeeze(1)],
)
def test_a_network_that_ends_in_a_softmax_is_refused(end: Any) -> None:
    network = written(lambda m, x: end(m.o(x.flatten(1))), o=nn.Linear(108, 4))
    with pytest.raises(UserError, match="ends in a softmax"):
        Predictor(network)


def test_dropout_that_stays_on_is_refused() -> None:
    network = written(lambda m, x: m.o(x.flatten(1)), o=nn.Linear(108, 4))
    *nodes, output = network.graph.nodes
    drop = GraphNode(
        name="drop", op="function", type="dropout", arguments={"x": {"node": nodes[-1].name}}, inputs=[nodes[-1].name],
        output_shape=nodes[-1].output_shape,
    )  # fmt: skip
    nodes += [drop, output.model_copy(update={"inputs": ["drop"]})]
    network.graph = network.graph.model_copy(update={"nodes": nodes})
    with pytest.raises(UserError, match=r"drop .* no key names this noise"):
        Predictor(network)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_are_taken_in_any_precision(dtype: torch.dtype) -> None:
    network = written(lambda m, x: m.o(x.flatten(1)), o=nn.Linear(108, 4)).to(dtype)
    made = next(Predictor(network).probabilities(1, 0, 1, [torch.rand(2, 3, 6, 6)]))
    assert made.dtype == torch.float32
    assert torch.allclose(made.sum(1), torch.ones(2), atol=1e-2)


def test_a_weight_that_is_read_is_whole_in_the_sparse_form() -> None:
    """As attention's output projection is read by torch."""
    network = written(
        lambda m, x: torch.relu(m.a(x.flatten(1))) @ m.o.weight.t() + m.o.bias, a=nn.Linear(108, 8), o=nn.Linear(8, 3)
    )
    pruned = apply(network, select(network, percent=40.0, scope="global", by="weight"), "zero")
    x = torch.rand(4, 3, 6, 6)
    dense, sparse = (next(Predictor(pruned, form=form).probabilities(1, 0, 1, [x])) for form in ("dense", "csr"))
    torch.testing.assert_close(sparse, dense)
