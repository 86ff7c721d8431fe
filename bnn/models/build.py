"""Builds models: the paper's four from their descriptions, and a user's own from `package.module:function`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers import PosteriorInit, estimator_layers, number_layers
from bnn.layers.chosen import Where
from bnn.layers.convert import convert
from bnn.layers.dropout import KeyedDropout, key_dropout
from bnn.model_names import is_own
from bnn.models.architectures import Node, resolve, with_dropout
from bnn.models.describe import KINDS
from bnn.models.ops import Add, BatchNorm, Conv, Dense, Dropout, Flatten, GlobalAveragePool, MaxPool, Relu, Shape
from bnn.models.own import line_of, told, user_code
from bnn.models.same import check_same

# Keras' values, which the paper used. A momentum of 0.99 there is 0.01 in torch: running statistics need some hundred
# steps to settle, so very short runs should not be evaluated with them.
BATCHNORM_EPS = 1e-3
BATCHNORM_MOMENTUM = 0.01

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Sum(nn.Module):
    """Adds its two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Network(nn.Module):
    """A model that walks a list of operations; every operation is a submodule of its own name.

    Input (N, C, H, W), output logits (N, classes). torch.fx can trace it: the walk depends on no data.
    """

    def __init__(self, nodes: list[Node], kind: str, estimator: str, init: PosteriorInit | None) -> None:
        super().__init__()
        for node in nodes[1:]:
            self.add_module(node.op.name, build_layer(node, kind, estimator, init))
        last_use = {name: index for index, node in enumerate(nodes) for name in node.inputs}
        # (submodule, its inputs, the values no later step reads: dropped, so that inference holds no old activations)
        self.steps = [
            (node.op.name, node.inputs, tuple(name for name in node.inputs if last_use[name] == index))
            for index, node in enumerate(nodes)
            if index > 0
        ]
        self.input_name = nodes[0].op.name
        number_layers(self)

    def forward(self, x: Tensor) -> Tensor:
        values = {self.input_name: x}
        del x
        for name, inputs, finished in self.steps:
            values[name] = getattr(self, name)(*[values[source] for source in inputs])
            for source in finished:
                del values[source]
        return values[name]


def build_layer(node: Node, kind: str, estimator: str, init: PosteriorInit | None) -> nn.Module:
    """The torch module of one operation. A cnn's kernels start as Keras' do: Glorot uniform, biases zero."""
    op, channels = node.op, node.in_shapes[0][0]
    match op:
        case Conv():
            if kind == "bnn":
                conv_class = estimator_layers(estimator)[0]
                return conv_class(channels, op.channels, op.kernel, op.stride, op.padding, init=init)
            return glorot(nn.Conv2d(channels, op.channels, op.kernel, op.stride, op.padding))
        case Dense():
            if kind == "bnn":
                return estimator_layers(estimator)[1](channels, op.units, init=init)
            return glorot(nn.Linear(channels, op.units))
        case BatchNorm():
            return nn.BatchNorm2d(channels, eps=BATCHNORM_EPS, momentum=BATCHNORM_MOMENTUM)
        case Relu():
            return nn.ReLU(inplace=True)  # no other operation, and no gradient, reads its input
        case MaxPool():
            return nn.MaxPool2d(op.size, ceil_mode=op.ceil)
        case GlobalAveragePool():
            return nn.AdaptiveAvgPool2d(1)
        case Add():
            return Sum()
        case Flatten():
            return nn.Flatten()
        case Dropout():
            return KeyedDropout(op.rate, channels=True)
    raise TypeError(f"no module for {op}")


def glorot(layer: Layer) -> Layer:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def build_model(
    name: str,
    kind: str,
    *,
    input_shape: Shape,
    classes: int,
    width: float = 1.0,
    estimator: str = "flipout",
    init: PosteriorInit | None = None,
    where: Where | None = None,
    biases: bool = False,
    dropout: float | None = None,
) -> nn.Module:
    """A new model for inputs (N, C, H, W) with `input_shape` = (C, H, W); its output is logits (N, classes).

    `name` is vgg16, resnet18, conv, fc, or `package.module:function`, which is imported (from the current folder too)
    and called as function(input_shape, classes); it returns a conventional model, which kind bnn converts: its weights
    are the posterior means, so `init.mu_init_std` plays no part, `where` chooses its layers and `biases` makes their
    biases Bayesian as in `bnn.convert`. `dropout` (kind cnn) is the share of channels that is dropped before each layer
    with weights but the first, in prediction, too; a model of one's own keeps its shares, and its layers of dropout
    become such.
    Parameters start from torch's default generator.

    Raises UserError naming the model and what is wrong with it.
    """
    if kind not in KINDS:
        raise UserError(f"kind {kind}: unknown; there are {', '.join(KINDS)}")
    estimator_layers(estimator)
    if not is_own(name):
        if where is not None:
            raise UserError(f"model {name}: where applies to models of one's own only")
        if biases:
            raise UserError(f"model {name}: biases applies to models of one's own only")
        nodes = resolve(name, input_shape, classes, width)
        return Network(nodes if dropout is None else with_dropout(nodes, dropout), kind, estimator, init)
    if width != 1.0:
        raise UserError(f"model {name}: width {width:g} applies to the built-in models only")
    module = call_user_model(name, input_shape, classes)
    if kind == "cnn":
        if dropout is not None:
            with user_code(name):
                key_dropout(module)
        return module
    with user_code(name):
        twin = convert(module, estimator, init, where=where, biases=biases)
        check_same(module, twin, input_shape)
    return twin


def call_user_model(name: str, input_shape: Shape, classes: int) -> nn.Module:
    """Import `package.module:function` and call it. Raises UserError for whatever it raises, naming the place."""
    function = import_function(name)
    try:
        inspect.signature(function).bind(input_shape, classes)
    except TypeError as error:
        raise UserError(f"model {name}: cannot be called as function(input_shape, classes): {error}") from None
    with user_code(name):
        module = function(input_shape, classes)
    if not isinstance(module, nn.Module):
        raise UserError(f"model {name}: returned a {type(module).__name__}, not a torch.nn.Module")
    return module


def import_function(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that it hides no installed package
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise UserError(f"model {name}: no module {missing}") from None
        raise UserError(f"model {name}: module {module_name} needs {missing}, which is not installed") from None
    except (ValueError, TypeError) as error:
        if error.__traceback__ and line_of(error):  # the module's own
            raise UserError(f"model {name}: {told(error)}") from error
        raise UserError(f"model {name}: {module_name!r} is not the name of a module") from None
    except Exception as error:  # whatever the module does when it is imported
        raise UserError(f"model {name}: {told(error)}") from error
    function = getattr(module, function_name, None)
    if function is None:
        raise UserError(f"model {name}: module {module_name} has no {function_name!r}")
    if not callable(function):
        raise UserError(f"model {name}: {function_name} is a {type(function).__name__}, not a function")
    return function


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(total, trainable) as the paper counts: parameters and the running statistics of batch normalisation."""
    parameters = list(model.parameters())
    statistics = sum(buffer.numel() for buffer in model.buffers() if buffer.is_floating_point())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return sum(parameter.numel() for parameter in parameters) + statistics, trainable
