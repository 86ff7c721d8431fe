"""The signal-to-noise ratio of a weight, |mu| / sigma (Graves 2011; the paper, section 4.6), and its distribution."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bnn.layers import BayesianLayer
from bnn.posterior import GraphNetwork
from bnn.records.pruning import SNR

# Edges of the histogram's bins, 20 log10(SNR). A posterior that has not moved lies near 58 dB: mu 0.1, sigma 1.23e-4.
DECIBELS = np.arange(-60.0, 101.0, 2.0)


def bayesian(network: GraphNetwork) -> dict[str, BayesianLayer]:
    """The Bayesian layers by name, in the order in which they are first used."""
    found = {}
    for node in network.graph.nodes:
        layer = network.get_submodule(node.layer) if node.layer else None
        if isinstance(layer, BayesianLayer):
            found[str(node.layer)] = layer
    return found


@torch.no_grad()
def ratio(mu: Tensor, sigma: Tensor) -> Tensor:
    """|mu| / sigma, double precision: 0 for a pruned weight (both are 0), infinite where sigma alone is 0."""
    mu, sigma = mu.double().abs(), sigma.double()
    return torch.where(mu == 0, torch.zeros_like(mu), mu / sigma)


def layer_snr(network: GraphNetwork) -> dict[str, Tensor]:
    """The SNR of every kernel weight, by layer, of the kernel's shape."""
    return {name: ratio(layer.mu, layer.sigma) for name, layer in bayesian(network).items()}


def snr_histogram(network: GraphNetwork) -> pd.DataFrame:
    """The table SNR: for every layer, and for all weights together under the empty name."""
    decibels = {
        name: 20 * np.log10(np.maximum(values.flatten().numpy(), 1e-300)) for name, values in layer_snr(network).items()
    }
    parts = {"": np.concatenate(list(decibels.values())), **decibels}
    rows = []
    for name, values in parts.items():
        counts, _ = np.histogram(np.clip(values, DECIBELS[0], DECIBELS[-1]), DECIBELS)
        rows += [(name, low, high, count) for low, high, count in zip(DECIBELS, DECIBELS[1:], counts, strict=False)]
    return pd.DataFrame(rows, columns=SNR.names)
