"""Finds a posterior's folder, and sums a posterior up in numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from bnn.errors import UserError
from bnn.layers import bayesian_layers, sigma_median
from bnn.posterior.network import GraphNetwork
from bnn.posterior.schema import TENSORS_FILE
from bnn.records.files import GRAPH_FILE
from bnn.records.inference import PosteriorFacts
from bnn.regular import file_sha256


def find_posterior(path: Path, step: int | None = None) -> Path:
    """The posterior's folder: `path` itself, or the newest `step-N` in it (or in its `posterior`), or that of `step`.

    Raises UserError if there is no such posterior.
    """
    if (path / GRAPH_FILE).exists() and step is None:
        return path
    folders = {}
    for folder in (path, path / "posterior"):
        for found in folder.glob("step-*") if folder.is_dir() else ():
            number = found.name.removeprefix("step-")
            if number.isascii() and number.isdecimal():
                folders[int(number)] = found
    if step is not None and step not in folders:
        there = ", ".join(str(number) for number in sorted(folders)) or "none"
        raise UserError(f"{path}: no posterior of step {step} (there are: {there})")
    if not folders:
        raise UserError(f"{path}: no posterior there (no {GRAPH_FILE}, no step-N)")
    return folders[max(folders) if step is None else step]


def tensors_sha256(folder: Path, network: GraphNetwork) -> str:
    """Of the tensors that `network` was loaded from: what its graph states and loading has compared, else computed."""
    return network.graph.tensors_sha256 or file_sha256(folder / TENSORS_FILE)


def posterior_facts(folder: Path, network: GraphNetwork) -> PosteriorFacts:
    """Facts of a loaded posterior. The start of sigma is softplus(rho_init) of the settings noted in the graph.

    Raises UserError if it has no Bayesian layer.
    """
    layers = list(bayesian_layers(network))
    if not layers:
        raise UserError(f"{folder}: no Bayesian layer in it, and so nothing to draw")
    noted = network.graph.extra.get("settings")
    settings: dict[str, Any] = noted if isinstance(noted, dict) else {}
    start = settings.get("rho_init")
    if isinstance(start, bool) or not isinstance(start, int | float) or not math.isfinite(start):
        start = None
    with torch.no_grad():
        mu = torch.cat([layer.mu.flatten() for layer in layers]).double()
        sigma = torch.cat([layer.sigma.flatten() for layer in layers]).double()
        left = (mu != 0) | (sigma != 0)
        bits = torch.log2(1 + mu[left].abs() / sigma[left])
    return PosteriorFacts(
        path=str(folder),
        sha256=tensors_sha256(folder, network),
        step=network.graph.step,
        kernel_weights=mu.numel(),
        nonzeros=int(left.sum()),
        sigma_median=sigma_median(network),
        sigma_median_start=float(functional.softplus(torch.tensor(float(start)))) if start is not None else None,
        effective_bits=float(bits.median()) if len(bits) and bool(bits.median().isfinite()) else None,
        settings=settings,
    )
