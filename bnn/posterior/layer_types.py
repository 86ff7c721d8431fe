"""The whitelist of layers a posterior's graph may consist of, and how they are written down."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bnn.errors import UserError
from bnn.layers import ESTIMATORS, BayesianConv2d, BayesianLayer, PosteriorInit
from bnn.layers.dropout import KeyedDropout
from bnn.layers.kept_features import Select
from bnn.layers.noise import NoisyLayer
from bnn.layers.parameter import BayesianParameter
from bnn.posterior.arguments import UNFITTING, plain

CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias")
LINEAR = ("in_features", "out_features", "bias")
NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
BAYESIAN: dict[str, type[BayesianLayer]] = {
    layer.__name__: layer for layer in (*(layer for pair in ESTIMATORS.values() for layer in pair), BayesianParameter)
}

# Conventional layers: class and the constructor's arguments, which the layer keeps as attributes.
STANDARD: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "Conv2d": (nn.Conv2d, (*CONV, "padding_mode")),
    "Linear": (nn.Linear, LINEAR),
    "BatchNorm1d": (nn.BatchNorm1d, NORM),
    "BatchNorm2d": (nn.BatchNorm2d, NORM),
    "LayerNorm": (nn.LayerNorm, ("normalized_shape", "eps", "elementwise_affine", "bias")),
    "GroupNorm": (nn.GroupNorm, ("num_groups", "num_channels", "eps", "affine")),
    "MaxPool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    "AvgPool2d": (nn.AvgPool2d, ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d, ("output_size",)),
    "ZeroPad2d": (nn.ZeroPad2d, ("padding",)),
    "Flatten": (nn.Flatten, ("start_dim", "end_dim")),
    "Select": (Select, ("features", "kept")),
    "Identity": (nn.Identity, ()),
    "Dropout": (nn.Dropout, ("p", "inplace")),
    "KeyedDropout": (KeyedDropout, ("p", "channels", "layer_index")),
    "ReLU": (nn.ReLU, ("inplace",)),
    "ReLU6": (nn.ReLU6, ("inplace",)),
    "LeakyReLU": (nn.LeakyReLU, ("negative_slope", "inplace")),
    "ELU": (nn.ELU, ("alpha", "inplace")),
    "SiLU": (nn.SiLU, ("inplace",)),
    "GELU": (nn.GELU, ("approximate",)),
    "Hardswish": (nn.Hardswish, ("inplace",)),
    "Sigmoid": (nn.Sigmoid, ()),
    "Tanh": (nn.Tanh, ()),
    "Softplus": (nn.Softplus, ("beta", "threshold")),
    "Softmax": (nn.Softmax, ("dim",)),
    "LogSoftmax": (nn.LogSoftmax, ("dim",)),
}


def is_leaf(layer: nn.Module) -> bool:
    """Whether a graph holds this layer whole: a Bayesian one, or one that is wholly described by its type's arguments.

    A conventional one is not where it is of a subclass, changes its input in place, has a method that was replaced on
    the object, or a setting that the arguments leave out; a graph then holds the operations that it consists of.
    """
    if isinstance(layer, NoisyLayer):
        return True
    kind = type(layer).__name__
    if STANDARD.get(kind, (None,))[0] is not type(layer) or getattr(layer, "inplace", False) or replaced_method(layer):
        return False
    try:
        made = make_layer(*layer_arguments("", layer))
    except UserError:
        return False
    shapes = {name: tensor.shape for name, tensor in layer.state_dict().items()}
    if {name: tensor.shape for name, tensor in made.state_dict().items()} != shapes:
        return False
    return all(layer.__dict__.get(name) == value for name, value in vars(made).items() if is_setting(name))


def replaced_method(layer: nn.Module) -> str | None:
    """The name of a method, such as `forward`, for which the object has something else than its class; None: none."""
    return next((name for name in vars(layer) if callable(getattr(type(layer), name, None))), None)


def is_setting(name: str) -> bool:
    """Whether an attribute of a layer may change what it computes: not its mode, nor what torch keeps of a module."""
    return not name.startswith("_") and name != "training"


def layer_arguments(name: str, layer: nn.Module) -> tuple[str, dict[str, Any]]:
    """A layer's type and arguments as they are written. Raises UserError for a type that is not in the whitelist."""
    kind = type(layer).__name__
    if isinstance(layer, BayesianLayer) and BAYESIAN.get(kind) is type(layer):
        names = (*bayesian_arguments(layer), "prior_scale", "layer_index")
    elif STANDARD.get(kind, (None,))[0] is type(layer):
        names = STANDARD[kind][1]
    else:
        raise UserError(f"operation {kind} (layer {name}): a posterior cannot hold it")
    values = {key: getattr(layer, key, None) for key in names}
    if "bias" in values:
        values["bias"] = values["bias"] is not None
    return kind, {key: plain(value) for key, value in values.items()}


def bayesian_arguments(layer: BayesianLayer) -> tuple[str, ...]:
    """The arguments that describe a Bayesian layer's linear map."""
    if isinstance(layer, BayesianParameter):
        return ("shape",) if layer.fixed_row is None else ("shape", "fixed_row")
    return CONV if isinstance(layer, BayesianConv2d) else LINEAR


def make_layer(kind: str, arguments: dict[str, Any]) -> nn.Module:
    """The layer of that type on the meta device (shapes without memory).

    Raises UserError for an unknown type or arguments that do not fit it.
    """
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()
    }
    try:
        if kind in BAYESIAN:
            init = PosteriorInit(prior_scale=float(values.pop("prior_scale")))
            return BAYESIAN[kind](**values, init=init, device="meta")
        if kind in STANDARD and set(values) <= set(STANDARD[kind][1]):
            with torch.device("meta"):
                return STANDARD[kind][0](**values)
    except UNFITTING as error:
        raise UserError(f"operation {kind}: arguments do not fit: {' '.join(str(error).split())[:300]}") from None
    raise UserError(f"operation {kind}: unknown, or with unknown arguments {sorted(arguments)}")
