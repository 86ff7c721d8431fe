"""The Bayesian twin of any conventional model."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Literal

import torch
from torch import nn

from bnn.errors import UserError
from bnn.layers import BayesianLayer, PosteriorInit, estimator_layers, number_layers
from bnn.layers.base import checked_init


def convert(
    module: nn.Module,
    estimator: str = "flipout",
    init: PosteriorInit | None = None,
    mean_from: Literal["module", "random"] = "module",
) -> nn.Module:
    """A deep copy of `module` in which every `nn.Conv2d` and `nn.Linear` is a Bayesian layer of that estimator.

    With mean_from="module" a layer's weight becomes its posterior mean and its bias is kept (so pretrained weights
    are); with "random" both start as in `init`. rho always starts as in `init`, drawn from torch's default generator.
    A module used in several places stays shared. Layers are numbered in module order. Inputs and outputs keep their
    shapes; devices, precisions, modes and frozen parameters stay. `estimator`: flipout (Wen et al. 2018),
    flipout-reference (the same in plain torch), reparameterization (Kingma and Welling 2014; Blundell et al. 2015) or
    local-reparameterization (Kingma, Salimans, Welling 2015). `init`: the prior and the posterior's start, by default
    the paper's (appendix A).

    Raises UserError, naming the layer, where a silent conversion would change or lose something: no layer to convert,
    subclasses (parametrized, lazy, quantized layers), hooks, padding other than with zeros, tied weights. Raises it too
    for an unknown estimator, and for what is no module.
    """
    if not isinstance(module, nn.Module):
        raise UserError(f"convert: a {type(module).__name__} is no torch module")
    estimator_layers(estimator)
    if mean_from not in ("module", "random"):
        raise UserError(f"mean_from {mean_from!r}: must be 'module' or 'random'")
    checked_init(init)
    check_hooks(module)
    twin = copy.deepcopy(module)
    found = {name: layer for name, layer in twin.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    if not found:
        raise UserError(f"{type(module).__name__} has no Conv2d or Linear layer to convert")
    check_tied(twin, found)
    replaced = {id(layer): bayesian_twin(name, layer, estimator, init, mean_from) for name, layer in found.items()}
    for parent in list(twin.modules()):
        for name, child in parent._modules.items():  # (named_children would list a child with two names only once)
            if child is not None and id(child) in replaced:
                parent._modules[name] = replaced[id(child)]
    twin = replaced.get(id(twin), twin)
    number_layers(twin)
    return twin


def bayesian_twin(
    name: str, layer: nn.Conv2d | nn.Linear, estimator: str, init: PosteriorInit | None, mean_from: str
) -> BayesianLayer:
    """The Bayesian layer that takes the place of one conventional layer."""
    conv_class, linear_class = estimator_layers(estimator)
    if type(layer) not in (nn.Conv2d, nn.Linear):
        raise UserError(f"layer {name}: a {type(layer).__name__} cannot be converted, only Conv2d and Linear")
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise UserError(f"layer {name}: it has forward hooks (weight or spectral normalisation?), which would be lost")
    if layer._backward_hooks or layer._backward_pre_hooks:
        raise UserError(f"layer {name}: it has backward hooks, which would be lost")
    bias, weight = layer.bias is not None, layer.weight
    if isinstance(layer, nn.Linear):
        twin: BayesianLayer = linear_class(
            layer.in_features, layer.out_features, bias, init=init, device=weight.device, dtype=weight.dtype
        )
    else:
        if layer.padding_mode != "zeros":
            raise UserError(f"layer {name}: padding_mode {layer.padding_mode!r} is not supported, only 'zeros'")
        try:
            twin = conv_class(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]  # torch declares tuple[int, ...]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                layer.groups,
                bias,
                init=init,
                device=weight.device,
                dtype=weight.dtype,
            )
        except ValueError as error:
            raise UserError(f"layer {name}: {error}") from None
    if mean_from == "module":
        with torch.no_grad():
            twin.mu.copy_(weight)
            if twin.bias is not None and layer.bias is not None:
                twin.bias.copy_(layer.bias)
    for parameter in (twin.mu, twin.rho):
        parameter.requires_grad_(weight.requires_grad)  # a frozen layer stays frozen, its noise too
    if twin.bias is not None and layer.bias is not None:
        twin.bias.requires_grad_(layer.bias.requires_grad)
    return twin.train(layer.training)


def check_tied(model: nn.Module, found: dict[str, nn.Conv2d | nn.Linear]) -> None:
    """Raise UserError if a weight to convert, or its bias, is also a parameter of another module."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    for name, layer in found.items():
        for kind, parameter in layer.named_parameters(recurse=False):
            if owners[id(parameter)] > 1:
                raise UserError(f"layer {name}: its {kind} is tied to another layer's, which a conversion would undo")


def check_hooks(module: nn.Module) -> None:
    """Raise UserError if a parameter has hooks on its gradient: a copy of a parameter has none."""
    for name, parameter in module.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise UserError(f"parameter {name}: it has hooks on its gradient, which would be lost")
