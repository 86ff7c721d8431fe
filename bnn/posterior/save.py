"""Writes a posterior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from bnn.atomic import atomic_folder
from bnn.posterior.names import layer_names, ops_names
from bnn.posterior.network import GraphNetwork
from bnn.posterior.schema import GRAPH_FILE, LAYER_NAMES_FILE, OPS_NAMES_FILE, TENSORS_FILE
from bnn.posterior.trace import trace


def save_posterior(
    model: nn.Module, folder: Path | str, *, example_input: Tensor, step: int, extra: dict[str, Any] | None = None
) -> None:
    """Write `model` as a POSTERIOR to `folder`, which appears whole or not at all; an older one there is replaced.

    `example_input` (N, C, H, W), on the model's device, gives the shapes. `step` counts the training steps done,
    `extra` (JSON values) is kept in graph.json. The model itself is left as it is.

    Raises UserError for a model that cannot be traced or uses an operation that is not in the whitelist, naming it.
    """
    _, network = trace(model, example_input, step, extra or {})
    save_network(network, folder)


def save_network(network: GraphNetwork, folder: Path | str) -> None:
    """Write a network that runs a graph (one that was loaded, and changed) as a POSTERIOR, as `save_posterior` does."""
    folder, graph = Path(folder), network.graph
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    with atomic_folder(folder) as aside:
        save_file(tensors, aside / TENSORS_FILE)
        (aside / GRAPH_FILE).write_text(graph.model_dump_json(indent=1) + "\n")
        (aside / LAYER_NAMES_FILE).write_text(layer_names(graph, network))
        (aside / OPS_NAMES_FILE).write_text(ops_names(graph, network))
