"""Makes a posterior of a trained TensorFlow Probability model, given as arrays by variable name.

The file has the numbers and the model (one of ours, or a function) has the structure. Layers are paired in order, and
every array is used exactly once. What has only a `kernel` in the file becomes a conventional layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bnn.commands.output import errors_named
from bnn.errors import UserError
from bnn.interop.layout import FeatureOrder
from bnn.interop.match import KERNEL_LAYERS, NORM_LAYERS, find_slots, match
from bnn.interop.names import SourceLayer, read_layers
from bnn.interop.padding import pad_as_tensorflow
from bnn.interop.place import place_kernel, place_norm
from bnn.layers import BayesianLinear, number_layers
from bnn.layers.parameter import SUFFIX
from bnn.models.build import build_model
from bnn.models.describe import INPUT_SHAPES
from bnn.models.ops import Shape
from bnn.posterior import Graph, GraphNetwork
from bnn.posterior.layer_types import layer_arguments
from bnn.posterior.save import save_network
from bnn.posterior.trace import trace
from bnn.records.files import GRAPH_FILE


@dataclass(frozen=True)
class ImportReport:
    """The result of an import. Of `layers` each is (layer of the model, layer of the file, SourceLayer.kind)."""

    sha256: str
    layers: tuple[tuple[str, str, str], ...]
    statements: tuple[str, ...]  # where the file is silent, or means something else than the model


def import_tfp(
    file: Path, model: str, out: Path, *, input_shape: Shape | None = None, classes: int = 10, width: float = 1.0
) -> ImportReport:
    """Write the posterior of the TFP model saved in `file` to the folder `out`, which appears whole or not at all.

    `model`, `input_shape` (C, H, W; by default the paper's for our own models), `classes` and `width` are those of
    `build_model`. Means and biases are the file's. sigma = eps + softplus(untransformed scale), as TFP has it, and rho
    is its inverse softplus in float32, which keeps sigma to a relative 2e-6.

    Raises UserError naming the file and the array, or the model, and what is wrong with it.
    """
    check_out(out)
    source, sha256 = read_layers(file)
    shape = input_shape or INPUT_SHAPES.get(model)
    if shape is None:
        raise UserError(f"model {model}: needs an input shape C,H,W")
    built = build_model(model, "bnn", input_shape=shape, classes=classes, width=width)
    _, network = trace(built, torch.zeros(2, *shape), 0, {})
    try:
        check_applied(network)
        network, padding = pad_as_tensorflow(network)
        network, pairs, statements = fill(network, source)
    except UserError as error:
        raise UserError(f"{file} as model {model}: {error}") from None
    report = ImportReport(sha256, tuple(pairs), (*padding, *statements))
    imported = {
        "from": "TensorFlow Probability",
        "file": file.name,
        "sha256": sha256,
        "model": model,
        "layers": [list(pair) for pair in pairs],
        "statements": list(report.statements),
    }
    network.graph = network.graph.model_copy(update={"extra": {"imported": imported}})
    with errors_named(out):
        save_network(network, out)
    return report


def check_out(out: Path) -> None:
    """Raise UserError unless `out` is free: absent, empty, or an older posterior, which is replaced."""
    if out.exists() and not (out / GRAPH_FILE).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists and is no posterior; it is left alone")


def fill(
    network: GraphNetwork, source: list[SourceLayer]
) -> tuple[GraphNetwork, list[tuple[str, str, str]], list[str]]:
    """`network` with the arrays of `source`; the pairs of layers (see ImportReport) and what is to be said."""
    layers = network.layers
    if network.tensors:
        raise UserError(f"tensor {min(network.tensors)}: used outside of a layer; it cannot be imported")
    for name, layer in layers.items():
        if list(layer.parameters()) and not isinstance(layer, (*KERNEL_LAYERS, *NORM_LAYERS)):
            raise UserError(f"layer {name}: a {type(layer).__name__} cannot be imported")
    kernels = [layer for layer in source if layer.kind != "norm"]
    norms = [layer for layer in source if layer.kind == "norm"]
    matched = match(kernels, find_slots(network, KERNEL_LAYERS)) + match(norms, find_slots(network, NORM_LAYERS))
    orders = input_orders(network.graph, layers)
    said: dict[str, list[str]] = {}
    for from_file, slot in matched:
        name = slot.layer
        if from_file.kind == "norm":
            said[name] = place_norm(name, layers[name], from_file, orders.get(name))
        else:
            layers[name], said[name] = place_kernel(name, layers[name], from_file, orders.get(name))
    filled = GraphNetwork(network.graph, layers, network.tensors).eval()
    number_layers(filled)
    filled.graph = described(network.graph, layers)
    sequence = sorted(matched, key=lambda pair: list(layers).index(pair[1].layer))
    pairs = [(slot.layer, from_file.name, str(from_file.kind)) for from_file, slot in sequence]
    return filled, pairs, [text for name, _, _ in pairs for text in said[name]]


def check_applied(network: GraphNetwork) -> None:
    """Raise UserError for a weight that an operation reads, as a recurrent layer's, or that of a Conv1d or Conv3d."""
    for node in network.graph.nodes:
        if node.op == "layer" and not node.inputs:
            readers = [user.type or user.op for user in network.graph.nodes if node.name in user.reads]
            raise UserError(
                f"layer {str(node.layer).removesuffix(SUFFIX)}: its weight is read by {', '.join(readers)}; only "
                "convolutions of images, dense layers and BatchNorms can be imported"
            )


def input_orders(graph: Graph, layers: dict[str, nn.Module]) -> dict[str, NDArray[np.int64]]:
    """For each layer that reads vectors: where TensorFlow has each of the features that it reads, by layer."""
    order = FeatureOrder(graph)
    orders: dict[str, NDArray[np.int64]] = {}
    for node in graph.nodes:
        if node.layer is not None and isinstance(layers[node.layer], nn.Linear | BayesianLinear | nn.BatchNorm1d):
            here = order(node.inputs[0])
            if not np.array_equal(orders.setdefault(node.layer, here), here):
                raise UserError(f"layer {node.layer}: used on features of different orders")
    return orders


def described(graph: Graph, layers: dict[str, nn.Module]) -> Graph:
    """`graph` with its layers' types and arguments as they are now."""
    nodes = []
    for node in graph.nodes:
        if node.layer is None:
            nodes.append(node)
        else:
            kind, arguments = layer_arguments(node.layer, layers[node.layer])
            nodes.append(node.model_copy(update={"type": kind, "arguments": arguments}))
    return graph.model_copy(update={"nodes": nodes})
