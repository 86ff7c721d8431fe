"""Gives BatchNorms that a model computes by an operation (torch's functional one, as subclasses do) back their layer.

So they are folded, imported and pruned like all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

TYPES: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
OPERATION = "aten._native_batch_norm_legit_no_training.default"
PARTS = ("weight", "bias", "running_mean", "running_var")


def norm_layer(
    axes: int, arguments: Mapping[str, Any], tensors: Mapping[str, tuple[str, Tensor]]
) -> tuple[str, nn.BatchNorm1d | nn.BatchNorm2d] | None:
    """(path, layer) for the arguments of the operation; None where no whole BatchNorm is behind them.

    `axes` is how many the input has, `tensors` holds by argument the name of a tensor in the model, and the tensor. The
    layer shares the model's tensors.
    """
    names = [tensors[part][0] if part in tensors else "" for part in PARTS]
    owner = names[2].rpartition(".")[0]
    if axes not in TYPES or not owner or names != [f"{owner}.{part}" for part in PARTS]:
        return None
    momentum, eps = arguments["momentum"], arguments["eps"]
    if not isinstance(momentum, float) or not isinstance(eps, float):
        return None
    values = {part: tensors[part][1] for part in PARTS}
    layer = TYPES[axes](len(values["running_mean"]), eps=eps, momentum=momentum)
    for part in PARTS[:2]:
        parameter = values[part]
        layer._parameters[part] = parameter if isinstance(parameter, nn.Parameter) else nn.Parameter(parameter)
    for part in PARTS[2:]:
        layer._buffers[part] = values[part]
    return owner, layer.eval()
