"""Verifies that a pruned network computes the same in all its forms, before any is measured or written.

On random images, in batches of two sizes: the posterior means of the pruned network, of the one without what cannot
influence its output, and of the compacted one; and two draws of each form against draws without folding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from bnn.errors import UserError
from bnn.inference.predictor import Predictor
from bnn.layers import mean_only
from bnn.posterior import GraphNetwork, GraphNode
from bnn.posterior.verify import difference, random_inputs
from bnn.posterior.verify import run as run_at

DRAWS, SEED = 2, 11
# Largest difference, relative to the largest logit. Where float32 rounds more than that, float64 decides.
ALLOWED, ALLOWED_DOUBLE = 1e-5, 1e-10
Run = Callable[[GraphNetwork], Tensor]


@torch.no_grad()
def verify_means(network: GraphNetwork, others: dict[str, GraphNetwork]) -> None:
    """Raise UserError unless each of `others` gives what `network` does, at the posterior mean."""
    for x in inputs_of(network):
        for name, other in others.items():
            if differ(network, other, partial(at_mean, x), partial(at_mean, x)):
                raise UserError(f"pruned network: its {name} form computes something else: {first(network, other, x)}")


@torch.no_grad()
def verify_draws(network: GraphNetwork, others: dict[tuple[str, str], GraphNetwork]) -> None:
    """Raise UserError unless draws of each of `others` are those of `network` without folding.

    `others` by their name and the form (`bnn.inference.draw_layers`) in which they are computed.
    """
    images = inputs_of(network)
    plain = cache(partial(drawn, images, fold=False))  # of `network`, the same for all others
    for (name, form), other in others.items():
        if differ(network, other, plain, partial(drawn, images, form=form)):
            raise UserError(f"pruned network: draws of its {name} form are others: {first(network, other, images[0])}")


def differ(network: GraphNetwork, other: GraphNetwork, run: Run, run_other: Run) -> bool:
    """Whether two networks differ by more than rounding does."""
    if difference(run_other(other), run(network)) <= ALLOWED:
        return False
    return difference(run_other(in_double(other)), run(in_double(network))) > ALLOWED_DOUBLE


def drawn(images: list[Tensor], network: GraphNetwork, form: str = "dense", fold: bool = True) -> Tensor:
    """Logits of a few draws of all images, one after the other; a draw's weights are sampled once for all batches."""
    predictor = Predictor(network, form=form, fold=fold)
    return torch.cat(list(predictor.logits(SEED, 0, DRAWS, images)))


def at_mean(x: Tensor, network: GraphNetwork) -> Tensor:
    y: Tensor = run_at(network, x.to(network.dtype), None)
    return y


def inputs_of(network: GraphNetwork) -> list[Tensor]:
    return list(random_inputs(network.graph.input_shape, next(network.parameters())))


def in_double(network: GraphNetwork) -> GraphNetwork:
    """A copy in double precision, also where the graph names float32."""

    def named(value: Any) -> Any:
        if value == {"dtype": "float32"}:
            return {"dtype": "float64"}
        if isinstance(value, dict):
            return {key: named(item) for key, item in value.items()}
        return [named(item) for item in value] if isinstance(value, list) else value

    nodes = [
        node.model_copy(update={"arguments": named(node.arguments)}) if node.op in ("function", "tensor") else node
        for node in network.graph.nodes
    ]
    graph = network.graph.model_copy(update={"nodes": nodes})
    return copy.deepcopy(GraphNetwork(graph, network.layers, network.tensors)).double().eval()


def first(network: GraphNetwork, other: GraphNetwork, x: Tensor) -> str:
    """The first node, of the same shape in both, whose values differ at the posterior mean."""
    seen: dict[str, Tensor] = {}
    found: list[str] = []

    def keep(node: GraphNode, value: object) -> None:
        if isinstance(value, Tensor):
            seen[node.name] = value.clone()

    def compare(node: GraphNode, value: object) -> None:
        expected = seen.get(node.name)
        if found or not isinstance(value, Tensor) or expected is None or expected.shape != value.shape:
            return
        if difference(value, expected) > ALLOWED:
            found.append(f"node {node.name} ({node.type or node.op}) is the first that differs")

    with mean_only(network), mean_only(other):
        network(x, keep)
        other(x, compare)
    return found[0] if found else "at the posterior mean all nodes agree; their samples, or what is folded, do not"
