"""Removes what was selected, in one of three meanings of "removed"."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from bnn.errors import UserError
from bnn.posterior import GraphNetwork
from bnn.pruning.criterion import Selection
from bnn.pruning.snr import bayesian
from bnn.pruning.spaces import Spaces

# What becomes of rho (sigma = softplus(rho)); the mean is 0 in all of them.
RHO = {
    "zero": -math.inf,  # sigma is exactly 0: the weight is gone
    "bprune": 0.0,  # as the original package does: the untransformed scale is set to 0, so that sigma is 0.693
    "mean-only": None,  # sigma stays as it was
}


@torch.no_grad()
def apply(network: GraphNetwork, selection: Selection, semantics: str) -> GraphNetwork:
    """A copy of `network` in which the selected weights are removed.

    A removed unit is gated to 0: its bias and the BatchNorm behind it too. Raises UserError for units with semantics
    other than "zero".
    """
    if selection.units is not None and semantics != "zero":
        raise UserError(f"semantics {semantics}: a removed unit's weights are zero; use zero")
    pruned = copy.deepcopy(network)
    rho = RHO[semantics]
    for name, layer in bayesian(pruned).items():
        gone = ~selection.keep[name]
        layer.mu.masked_fill_(gone, 0.0)
        if rho is not None:
            layer.rho.masked_fill_(gone, rho)
    for space, units in zip(Spaces(pruned).groups(), selection.units or [], strict=False):
        for name in space.producers:
            bias = pruned.get_submodule(name).bias
            if isinstance(bias, nn.Parameter):
                bias[units] = 0.0
        for name, first in space.norms:
            norm = pruned.get_submodule(name)
            for parameter in (norm.weight, norm.bias):
                if isinstance(parameter, nn.Parameter):
                    parameter[first : first + space.units][units] = 0.0
    return pruned
