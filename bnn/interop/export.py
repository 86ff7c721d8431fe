"""Writes the mean model of a posterior for other programs: by torch.export (.pt2) or as ONNX (.onnx)."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from bnn.atomic import atomic_file
from bnn.commands.output import errors_named
from bnn.errors import UserError
from bnn.layers import BayesianLayer
from bnn.layers.dropout import KeyedDropout
from bnn.posterior import GraphNetwork, load_posterior

ONNX_PACKAGES = ("onnx", "onnxscript")
ONNX_LIMIT = 2**31 - 2**24  # bytes of tensors: an ONNX file is one protobuf message, which holds less than 2 GiB
INPUT, OUTPUT = "images", "logits"
NOTES = "bnn.json"  # the posterior's step, input shape and notes: an extra file of a .pt2, metadata of an .onnx


def export_posterior(posterior: Path, out: Path) -> None:
    """Write the mean model of the posterior in folder `posterior` to `out`, which appears whole or not at all.

    The suffix of `out` decides: .pt2, which torch.export.load reads without any code of ours, or .onnx. Kernels are the
    posterior means, norms use their running statistics. The model maps images (N, C, H, W) to logits (N, classes) for
    any N >= 1.

    Raises UserError for another suffix, no posterior, a model that cannot be exported, an absent package, a file that
    cannot be written.
    """
    writers: dict[str, Callable[[GraphNetwork], bytes]] = {".pt2": torch_program, ".onnx": onnx_model}
    if out.suffix not in writers:
        raise UserError(f"{out}: a model is exported to .pt2 (torch.export) or .onnx")
    if out.suffix == ".onnx":
        check_packages()
    network = mean_network(load_posterior(posterior))
    try:
        content = writers[out.suffix](network)
    except UserError as error:
        raise UserError(f"{posterior}: {error}") from None
    except Exception as error:  # whatever torch's exporters make of an operation they do not know
        text = str(error).strip().partition("\n")[0]
        raise UserError(f"{posterior}: cannot be exported to {out.suffix}: {text}") from error
    with errors_named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as aside:
            aside.write_bytes(content)


def check_packages() -> None:
    """Raise UserError unless what torch.onnx needs is installed."""
    for name in ONNX_PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"ONNX needs the package {name}: pip install 'bnn-at-scale[onnx]'")


def mean_network(network: GraphNetwork) -> GraphNetwork:
    """`network` in evaluation mode with conventional layers in place of its Bayesian ones, weights equal to mu.

    It shares its tensors and its other layers with `network`, under their names, but for those that a GraphNetwork has
    for something else (`layers`, `graph`): torch.export looks layers up as attributes. These get a `_` more.
    """
    layers = {name: mean_layer(layer) for name, layer in network.layers.items()}
    tensors = network.tensors
    names = free_names([*layers, *tensors])
    nodes = [
        node.model_copy(
            update={key: names[path] for key in ("layer", "tensor") if isinstance(path := getattr(node, key), str)}
        )
        for node in network.graph.nodes
    ]
    return GraphNetwork(
        network.graph.model_copy(update={"nodes": nodes}),
        {names[name]: layer for name, layer in layers.items()},
        {names[name]: tensor for name, tensor in tensors.items()},
    ).eval()


def free_names(paths: Sequence[str]) -> dict[str, str]:
    """New paths of layers and tensors, the same but for a first part that names an attribute of GraphNetwork."""
    firsts = {path: path.partition(".")[0] for path in paths}
    new = {first: first for first in firsts.values() if not is_attribute(first)}
    for first in sorted(set(firsts.values()) - set(new)):
        free = f"{first}_"
        while is_attribute(free) or free in new or free in firsts.values():
            free += "_"
        new[first] = free
    return {path: new[first] + path.removeprefix(first) for path, first in firsts.items()}


def is_attribute(name: str) -> bool:
    """Whether a GraphNetwork has something else of that name."""
    return name in ("graph", "_steps") or hasattr(GraphNetwork, name)


def mean_layer(layer: nn.Module) -> nn.Module:
    """What takes the place of a layer that draws noise; any other layer itself."""
    if isinstance(layer, BayesianLayer):
        return MeanLayer(layer)
    return nn.Identity() if isinstance(layer, KeyedDropout) else layer


class MeanLayer(nn.Module):
    """A Bayesian layer of any kind at its posterior mean: a conventional layer whose weight is mu."""

    def __init__(self, layer: BayesianLayer) -> None:
        super().__init__()
        self.affine = layer.affine
        self.weight = nn.Parameter(layer.mu.detach())
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return self.affine(x, self.weight, self.bias)


def traced_program(network: GraphNetwork) -> torch.export.ExportedProgram:
    """`network` as torch.export records it, for any batch size and without the paths of our source files."""
    example = torch.zeros(2, *network.graph.input_shape, dtype=network.dtype)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def notes(network: GraphNetwork) -> str:
    return network.graph.model_dump_json(include={"step", "input_shape", "extra"})


def torch_program(network: GraphNetwork) -> bytes:
    """A .pt2 file."""
    buffer = io.BytesIO()
    torch.export.save(traced_program(network), buffer, extra_files={NOTES: notes(network)})
    return buffer.getvalue()


def onnx_model(network: GraphNetwork) -> bytes:
    """An ONNX model with the input `images` and the output `logits`. Raises UserError for 2 GiB of tensors and more."""
    size = sum(value.nbytes for value in network.state_dict().values())
    if size > ONNX_LIMIT:
        raise UserError(f"{size:,} bytes of tensors: an ONNX file holds less than 2 GiB")
    logger = logging.getLogger("torch.onnx")  # it reports absent packages that this export does not need
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                traced_program(network),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: "batch"},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    program.model.metadata_props[NOTES] = notes(network)
    return program.model_proto.SerializeToString()
