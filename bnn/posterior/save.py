"""Writes a posterior."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pydantic_core import to_json
from safetensors.torch import save_file
from torch import Tensor, nn

from bnn.atomic import atomic_folder
from bnn.errors import UserError
from bnn.layers.noise import checked_module
from bnn.posterior.names import layer_names, ops_names
from bnn.posterior.network import GraphNetwork
from bnn.posterior.schema import LAYER_NAMES_FILE, OPS_NAMES_FILE, TENSORS_FILE
from bnn.posterior.trace import trace
from bnn.records.files import GRAPH_FILE
from bnn.regular import file_sha256


def save_posterior(
    model: nn.Module, folder: Path | str, *, example_input: Tensor, step: int, extra: dict[str, Any] | None = None
) -> None:
    """Write `model` as a POSTERIOR to `folder`, which appears whole or not at all; an older one there is replaced.

    `example_input` (N, C, H, W), on the model's device, gives the shapes. `step` counts the training steps done,
    `extra` (JSON values) is kept in graph.json. The model itself is left as it is.

    Raises UserError for a model that cannot be recorded, or uses an operation that is not in the whitelist, naming it
    and its line; where the recorded graph computes something else than the model (`bnn.posterior.trace`); for a
    `folder` that holds something else than a posterior, or cannot be written; and for arguments of another kind.
    """
    check_arguments(model, example_input, step, extra)
    check_target(Path(folder))
    if isinstance(model, GraphNetwork):  # loaded, and perhaps changed
        network = copy.copy(model)
        network.graph = model.graph.model_copy(update={"step": step, "extra": dict(extra or {})})
    else:
        _, network = trace(model, example_input, step, dict(extra or {}))
    try:
        save_network(network, folder)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror or error}") from None


def save_network(network: GraphNetwork, folder: Path | str) -> None:
    """Write a network that runs a graph (one that was loaded, and changed) as a POSTERIOR, as `save_posterior` does."""
    folder, graph = Path(folder), network.graph
    check_target(folder)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    with atomic_folder(folder) as aside:
        save_file(tensors, aside / TENSORS_FILE)
        graph = graph.model_copy(update={"tensors_sha256": file_sha256(aside / TENSORS_FILE)})
        (aside / GRAPH_FILE).write_text(graph.model_dump_json(indent=1) + "\n")
        (aside / LAYER_NAMES_FILE).write_text(layer_names(graph, network))
        (aside / OPS_NAMES_FILE).write_text(ops_names(graph, network))


def check_arguments(model: nn.Module, example_input: Tensor, step: int, extra: dict[str, Any] | None) -> None:
    """Raise UserError for arguments of `save_posterior` of another kind than it takes."""
    checked_module(model, "save_posterior")
    if not isinstance(example_input, Tensor) or example_input.dim() < 2:
        raise UserError(f"save_posterior: example_input is a {type(example_input).__name__}, not a tensor (N, ...)")
    if not example_input.is_floating_point():
        raise UserError(
            f"save_posterior: example_input is of {example_input.dtype}: a posterior takes floating-point numbers; "
            "make indices of them in the model (x.long())"
        )
    if not isinstance(step, int) or step < 0:
        raise UserError(f"save_posterior: step={step!r}: must be a whole number from 0 on")
    try:
        to_json({} if extra is None else dict(extra))
    except (TypeError, ValueError) as error:
        raise UserError(f"save_posterior: extra: must be a mapping of JSON values ({error})") from None


def check_target(folder: Path) -> None:
    """Raise UserError for a folder whose contents are not a posterior's: replacing it would delete them."""
    if folder.is_dir() and not (folder / GRAPH_FILE).is_file() and next(folder.iterdir(), None) is not None:
        raise UserError(f"{folder}: not empty, and no posterior (no {GRAPH_FILE}); it is not replaced")
