"""Compares networks that must compute the same: a recorded graph with its model, a pruned network with the masked one.

Both are run on random inputs, in batches of two sizes, at the posterior mean and for two samples of the weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers import NoiseKey, mean_only, set_noise
from bnn.posterior.arguments import UNFITTING
from bnn.posterior.network import GraphNetwork
from bnn.posterior.schema import GraphNode

BATCHES = (2, 3)
KEYS = (NoiseKey(11, 0), NoiseKey(11, 1))
# Largest difference between two orders of the same sums, relative to the largest output.
ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


def random_inputs(shape: list[int], like: Tensor) -> Iterator[Tensor]:
    """Values in [0, 1), as images are scaled, in batches of two sizes; the first examples are the same in both."""
    images = torch.rand(max(BATCHES), *shape, generator=torch.Generator().manual_seed(7))
    for batch in BATCHES:
        yield images[:batch].to(device=like.device, dtype=like.dtype)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two outputs, relative to the largest of theirs; infinite where shapes or NaN differ."""
    if ours.shape != theirs.shape or not torch.equal(torch.isnan(ours), torch.isnan(theirs)):
        return float("inf")
    ours, theirs = torch.nan_to_num(ours.double()), torch.nan_to_num(theirs.double())
    largest = float(theirs.abs().max()) if theirs.numel() else 0.0
    apart = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
    return apart / largest if largest else apart


def compare(model: nn.Module, network: GraphNetwork, example: Tensor) -> None:
    """Raise UserError, naming the first layer that differs, unless `network` computes what `model` does.

    Both are in evaluation mode; their layers are the same. Their noise is keyed anew.
    """
    name = type(model).__name__
    alone: Tensor | None = None  # what the first examples give without the others
    for x in random_inputs(network.graph.input_shape, example):
        for what, key in (("at the posterior mean", None), *((f"for sample {key.step}", key) for key in KEYS)):
            theirs, seen = outputs_of(model, x, key)
            if not isinstance(theirs, Tensor):
                raise UserError(f"{name}: must return one tensor of logits, and returns a {type(theirs).__name__}")
            if theirs.dim() < 2 or len(theirs) != len(x):
                raise UserError(f"{name}: of {len(x)} examples it makes {list(theirs.shape)}: not (N, classes)")
            if key is None:
                if alone is not None and differs(theirs[: len(alone)], alone):
                    raise UserError(f"{name}: what it gives for an example depends on the other examples beside it")
                alone = theirs
            if differs(run(network, x, key), theirs):
                raise UserError(
                    f"{name}: its recorded graph computes something else than the model itself ({what}, {len(x)} "
                    f"examples): {first_difference(network, x, key, seen)}"
                )
    check_one(model, network, x[:1])


def check_one(model: nn.Module, network: GraphNetwork, x: Tensor) -> None:
    """Raise UserError for a model that gives a single example other logits than the graph does.

    Torch's exporter takes every batch for one of several. Of a model that loses the batch's axis then (`x.squeeze()`)
    the values are compared; one that a single example does not go through gives none.
    """
    try:
        theirs, ours = run(model, x, None), run(network, x, None)
    except UNFITTING:
        return
    if not isinstance(theirs, Tensor) or theirs.numel() != ours.numel() or differs(ours, theirs.reshape(ours.shape)):
        raise UserError(
            f"{type(model).__name__}: what it gives for a single example is not what it gives for the same one among "
            "others; a posterior computes alike for any number of examples"
        )


def differs(ours: Tensor, theirs: Tensor) -> bool:
    return difference(ours, theirs) > ALLOWED.get(theirs.dtype, 0.0)


def run(network: Callable[..., Any], x: Tensor, key: NoiseKey | None, **more: Any) -> Any:
    """The output of a network for an input, at the posterior mean (no key) or for the sample of a key."""
    assert isinstance(network, nn.Module)
    if key is None:
        with mean_only(network):
            return network(x.clone(), **more)
    set_noise(network, key)
    return network(x.clone(), **more)


def outputs_of(model: nn.Module, x: Tensor, key: NoiseKey | None) -> tuple[Any, dict[int, list[Tensor]]]:
    """A model's output, and those of all its modules, in the order of their calls, by the module's identity."""
    seen: dict[int, list[Tensor]] = defaultdict(list)
    with watched(model, seen):
        return run(model, x, key), seen


@contextmanager
def watched(model: nn.Module, seen: dict[int, list[Tensor]]) -> Iterator[None]:
    def keep(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen[id(module)].append(output.clone())

    # (what torch.jit.script made takes no hooks)
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    hooks = [module.register_forward_hook(keep, prepend=True) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def first_difference(network: GraphNetwork, x: Tensor, key: NoiseKey | None, seen: dict[int, list[Tensor]]) -> str:
    """Where the graph's values first differ from those of the model's layers."""
    calls: dict[str, int] = defaultdict(int)
    found: list[str] = []
    last = "the input"

    def observe(node: GraphNode, value: Any) -> None:
        nonlocal last
        if found or node.layer is None or not node.inputs:
            return
        theirs = seen.get(id(network.get_submodule(node.layer)), [])
        call, calls[node.layer] = calls[node.layer], calls[node.layer] + 1
        if call >= len(theirs) or differs(value, theirs[call]):
            found.append(f"layer {node.layer} (node {node.name}) is the first that differs; {last} agrees")
        last = f"layer {node.layer}"

    run(network, x, key, observe=observe)
    return found[0] if found else f"every layer agrees; what follows {last} does not"
