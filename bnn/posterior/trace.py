"""From a model to its graph: recorded, its shapes noted, and compared with the model itself."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers import mean_only, numbered_layers
from bnn.layers.base import BayesianLayer, modes_kept
from bnn.layers.noise import NoisyLayer, noisy_layers
from bnn.posterior.arguments import DTYPE_NAMES, UNFITTING
from bnn.posterior.layer_types import is_leaf
from bnn.posterior.network import GraphNetwork, owner_of
from bnn.posterior.reasons import own_line
from bnn.posterior.record import record
from bnn.posterior.schema import Graph
from bnn.posterior.sizes import with_sizes
from bnn.posterior.verify import compare


def trace(model: nn.Module, example_input: Tensor, step: int, extra: dict[str, Any]) -> tuple[Graph, GraphNetwork]:
    """The graph of `model` in evaluation mode, and a network that runs it with the model's own layers and tensors.

    `example_input` (N, ...) gives the shapes. The graph is compared with the model on random inputs (`verify.compare`).
    Parameters, running statistics, noise and modes are left as they are.

    Raises UserError for a model that cannot be recorded, naming the operation; for one that inputs of this shape do not
    go through, or whose predictions depend on the other examples of a batch; for one that changes its weights in place;
    for a dropout or BatchNorm that stays in training mode; for two layers that would draw the same noise; and where the
    graph computes something else than the model.
    """
    model = named(model)
    numbered_layers(model)
    check_norms(model)
    check_compiled(model)
    with evaluating(model), torch.no_grad():
        check_modes(model)
        try:
            with mean_only(model), means_kept(model):
                model(example_input)  # what does not go through is said in the model's own words
        except UserError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())
            shape = ["N", *example_input.shape[1:]]
            where = own_line(traceback.extract_tb(error.__traceback__)[1:])
            raise UserError(
                f"{type(model).__name__}: inputs of shape {shape} do not go through it: {text}{where}"
            ) from error
        with mean_only(model):
            recorded = record(model, example_input)
        graph = Graph(
            step=step,
            input_shape=list(example_input.shape[1:]),
            precision=DTYPE_NAMES[example_input.dtype] if example_input.is_floating_point() else None,
            nodes=recorded.nodes,
            extra=extra,
        )
        try:
            graph.check()
        except ValueError as error:
            raise UserError(f"{type(model).__name__}: {error}") from None
        network = with_sizes(GraphNetwork(graph, recorded.layers, recorded.tensors).eval())
        compare(model, network, example_input)
    return network.graph, network


def current(
    model: nn.Module, network: GraphNetwork, example_input: Tensor, step: int, extra: dict[str, Any]
) -> GraphNetwork:
    """What `trace` gives of `model` now: the network that it gave before the model was trained, where that will do.

    The network's tensors become the model's present ones, and it is compared with the model again. Where it no longer
    computes the same (a number that the model keeps as its attribute has changed), the model is recorded anew. Raises
    UserError as `trace` does.
    """
    whole = named(model)
    check_norms(whole)
    with evaluating(whole), torch.no_grad():
        check_modes(whole)
        refresh(network, whole)
        same = is_same(whole, network, example_input)
    if not same:
        return trace(model, example_input, step, extra)[1]
    network.graph = network.graph.model_copy(update={"step": step, "extra": extra})
    return network


def is_same(model: nn.Module, network: GraphNetwork, example_input: Tensor) -> bool:
    """Whether `compare` finds no difference, and the network runs at all."""
    try:
        compare(model, network, example_input)
    except (UserError, *UNFITTING):
        return False
    return True


def named(model: nn.Module) -> nn.Module:
    """The model as it is recorded: what torch.compile wraps, and a layer with a name."""
    model = getattr(model, "_orig_mod", model)
    return nn.Sequential(model) if is_leaf(model) else model


def refresh(network: GraphNetwork, model: nn.Module) -> None:
    """Put the model's present tensors in the place of those of the same names: a buffer may have become another one."""
    for name, before in network.state_dict(keep_vars=True).items():
        owner, _, key = name.rpartition(".")
        try:
            now = getattr(model.get_submodule(owner), key)
        except AttributeError:  # a constant of the forward pass
            continue
        if isinstance(now, Tensor) and now is not before:
            holder, key = owner_of(network, name)
            (holder._parameters if key in holder._parameters else holder._buffers)[key] = now  # type: ignore[assignment]


def check_norms(model: nn.Module) -> None:
    """Raise UserError for a BatchNorm without running statistics."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise UserError(
                f"layer {name}: a {type(module).__name__} without running statistics; what is predicted for an example "
                "would depend on the others beside it"
            )


def check_compiled(model: nn.Module) -> None:
    """Raise UserError for a part that torch.compile has wrapped: its noise is not that of the graph."""
    for name, module in model.named_modules():
        if name and "_orig_mod" in module._modules and next(noisy_layers(module), None) is not None:
            raise UserError(
                f"layer {name}: made by torch.compile; leave its parts as they are, and compile the whole model (bnn "
                "train --compile true)"
            )


def check_modes(model: nn.Module) -> None:
    """Raise UserError for a layer that stays in training mode in a model that is to evaluate: it would draw noise."""
    for name, module in model.named_modules():
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if module.training and (drops or isinstance(module, nn.modules.batchnorm._BatchNorm)):
            raise UserError(
                f"layer {name}: a {type(module).__name__} that stays in training mode after model.eval(); what a "
                "posterior predicts must depend on its weights' noise and on the example alone"
            )


@contextmanager
def means_kept(model: nn.Module) -> Iterator[None]:
    """Raises UserError where the block changes a mean in place, as a limit on a weight's norm does; it is put back."""
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, BayesianLayer)]
    before = [(name, layer.mu, layer.mu.detach().clone()) for name, layer in layers]
    yield
    changed = [(name, mu, old) for name, mu, old in before if not torch.equal(mu.nan_to_num(), old.nan_to_num())]
    for _, mu, old in changed:
        mu.data.copy_(old)
    if changed:
        raise UserError(
            f"layer {changed[0][0]}: the model's forward pass changes its weight in place, which of a sample would "
            "come to nothing; compute the changed weight in a function of it, and hand that on"
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode while open; afterwards modes and noise are what they were."""
    noise = [(layer, noise_state(layer)) for layer in noisy_layers(model)]
    try:
        with modes_kept(model):
            model.eval()
            yield
    finally:
        for layer, (attributes, generator) in noise:
            for name in [name for name, value in vars(layer).items() if not isinstance(value, dict)]:
                if name not in attributes:
                    del layer.__dict__[name]
            layer.__dict__.update(attributes)
            if layer.generator is not None and generator is not None:
                layer.generator.set_state(generator)


def noise_state(layer: NoisyLayer) -> tuple[dict[str, Any], Tensor | None]:
    """A layer's attributes but for its tensors, and the state of its generator."""
    attributes = {name: value for name, value in vars(layer).items() if not isinstance(value, dict)}
    return attributes, None if layer.generator is None else layer.generator.get_state()
