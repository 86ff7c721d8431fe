"""Reads a posterior and makes it runnable. Runs no code from it and unpickles nothing."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers.base import BayesianLayer
from bnn.layers.kept_features import Select
from bnn.posterior.arguments import filled
from bnn.posterior.layer_types import make_layer
from bnn.posterior.network import GraphNetwork
from bnn.posterior.schema import TENSORS_FILE, Graph, read_graph
from bnn.posterior.sizes import sizes
from bnn.records.files import GRAPH_FILE
from bnn.regular import file_sha256, require_regular

PRECISIONS = (torch.float32, torch.float64)


def load_posterior(folder: Path | str) -> GraphNetwork:
    """The model saved in `folder`, on the CPU and in evaluation mode; its graph, step and notes are `.graph`.

    Raises UserError naming the file if one is missing, damaged or of another version, if an operation is not in the
    whitelist, or if the tensors are not those of the graph's layers (missing, left over, of another shape, not finite)
    or other bytes than were saved with the graph.
    """
    if not isinstance(folder, Path | str):
        raise UserError(f"load_posterior: a {type(folder).__name__} is no path of a folder")
    folder = Path(folder)
    graph = read_graph(folder)
    try:
        network = GraphNetwork(graph, make_layers(graph), make_tensors(graph)).eval()
    except UserError as error:
        raise UserError(f"{folder / GRAPH_FILE}: {error}") from None
    path = folder / TENSORS_FILE
    try:
        check_digest(path, graph)
        tensors = load_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: damaged or no safetensors file ({error})") from None
    check_tensors(path, network.state_dict(), tensors)
    check_precisions(path, network, tensors)
    network.load_state_dict(tensors, assign=True)
    for name, layer in network.named_modules():
        if isinstance(layer, Select) and not bool(((layer.index >= 0) & (layer.index < layer.features)).all()):
            raise UserError(f"{path}: {name}.index: not among {layer.features} features")
    try:
        check_shapes(network)
    except UserError as error:
        raise UserError(f"{folder / GRAPH_FILE}: {error}") from None
    return network


def make_layers(graph: Graph) -> dict[str, nn.Module]:
    """The graph's layers by name, without memory. Raises UserError for one that is unknown or described in two ways."""
    layers: dict[str, nn.Module] = {}
    described = {}
    for node in graph.nodes:
        if node.op != "layer":
            continue
        if not node.layer:
            raise UserError(f"node {node.name}: a layer without a name")
        if node.layer not in layers:
            layers[node.layer] = make_layer(node.type, node.arguments)
            described[node.layer] = (node.type, node.arguments)
        elif described[node.layer] != (node.type, node.arguments):
            raise UserError(f"layer {node.layer}: described in two ways")
    return layers


def make_tensors(graph: Graph) -> dict[str, Tensor]:
    """The graph's tensors outside of layers by name, without memory. Raises UserError for an impossible description."""
    tensors: dict[str, Tensor] = {}
    for node in graph.nodes:
        if node.op != "tensor":
            continue
        shape = node.output_shape
        if shape is None or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise UserError(f"node {node.name}: a tensor's shape must be numbers, not {shape}")
        try:
            dtype = filled(node.arguments.get("dtype"), {})
            tensors[str(node.tensor)] = torch.empty(shape, dtype=dtype, device="meta")  # type: ignore[arg-type]
        except (RuntimeError, TypeError, KeyError) as error:
            raise UserError(f"node {node.name}: {' '.join(str(error).split())}") from None
    return tensors


def check_shapes(network: GraphNetwork) -> None:
    """Run the graph on shapes alone. Raises UserError if its operations do not fit together as it says.

    A graph of schema 1, which took the first axis of everything for that of the batch, is one of schema 2 afterwards.
    """
    graph, found = network.graph, sizes(network)
    for node in graph.nodes:
        shape = found[node.name]
        if shape and graph.schema_version == 1:
            shape = [None, *shape[1:]]
        if shape != node.output_shape:
            raise UserError(f"node {node.name}: output shape {shape}, recorded as {node.output_shape}")
    nodes = [node.model_copy(update={"output_shape": found[node.name]}) for node in graph.nodes]
    network.graph = graph.model_copy(update={"schema_version": 2, "nodes": nodes})


def check_digest(path: Path, graph: Graph) -> None:
    """Raise UserError for tensors that are not those that were saved with the graph; older graphs do not say."""
    require_regular(path)
    if graph.tensors_sha256 is not None and file_sha256(path) != graph.tensors_sha256:
        raise UserError(f"{path}: damaged, or of another posterior (its SHA-256 is not what {GRAPH_FILE} states)")


def check_tensors(path: Path, expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Raise UserError unless `tensors` has exactly the network's names, shapes and kinds of numbers, and no NaN."""
    if missing := expected.keys() - tensors.keys():
        raise UserError(f"{path}: no tensor {min(missing)}")
    if unexpected := tensors.keys() - expected.keys():
        raise UserError(f"{path}: unexpected tensor {min(unexpected)}")
    for name, tensor in tensors.items():
        want = expected[name]
        if tensor.shape != want.shape:
            raise UserError(f"{path}: {name} has shape {list(tensor.shape)}, expected {list(want.shape)}")
        if tensor.is_floating_point() != want.is_floating_point():
            raise UserError(f"{path}: {name} is {tensor.dtype}, expected {want.dtype}")
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            raise UserError(f"{path}: {name} contains NaN")


def check_precisions(path: Path, network: GraphNetwork, tensors: dict[str, Tensor]) -> None:
    """Raise UserError for layers in several precisions, and for posteriors that none was saved with.

    Means must be finite, as sigma must be, and in float32 or float64: in half precision no posterior is saved.
    """
    precisions: dict[str, set[str]] = defaultdict(set)
    for key, tensor in tensors.items():
        if tensor.is_floating_point():
            precisions[key.rpartition(".")[0]].add(str(tensor.dtype))
    for name in network.layers:
        if len(precisions[name]) > 1:
            raise UserError(f"{path}: {name} is in several precisions ({', '.join(sorted(precisions[name]))})")
    for name, layer in network.named_modules():
        if isinstance(layer, BayesianLayer):
            mu, rho = (tensors[f"{name}.{part}"] for part in ("mu", "rho"))
            if mu.dtype not in PRECISIONS:
                raise UserError(f"{path}: {name}: mu is {mu.dtype}, neither float32 nor float64")
            if not bool(torch.isfinite(mu).all()) or bool(torch.isposinf(rho).any()):  # (-inf: a sigma of 0)
                raise UserError(f"{path}: {name}: mu or sigma is infinite")
