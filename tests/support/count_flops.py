"""FLOPs of any module, counted while it runs: library operations by torch's own counter, our kernels by formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bnn import kernels
from bnn.errors import UserError
from bnn.flops.formulae import FORMED, SUMMED

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Counted:
    """FLOPs of one pass over a batch of `images`; `operations` says how many each library operation did."""

    images: int
    forward: int
    backward: int
    operations: dict[str, int]

    @property
    def total_per_image(self) -> float:
        return (self.forward + self.backward) / self.images


def count_flops(model: nn.Module, inputs: Tensor, loss: Loss = torch.sum) -> Counted:
    """Run `model` once on `inputs` (N, ...) forward and backward and count matrix products, convolutions, attention.

    The backward pass is that of `loss` (of the output, a 0-dim tensor) for all trainable parameters; as in training,
    `inputs` need no gradient unless they ask for it. Gradients that the parameters hold and running statistics stay
    as they were; a Bayesian layer's generator goes on.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wanted = [*parameters, inputs] if inputs.requires_grad else parameters
    ours = kernel_formulae()
    with FlopCounterMode(display=False, custom_mapping=ours) as forward:
        value = loss(model(inputs))
    with FlopCounterMode(display=False, custom_mapping=ours) as backward:
        torch.autograd.grad(value, wanted, allow_unused=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    operations: Counter[str] = Counter()
    for counter in (forward, backward):
        operations.update({str(name): flops for name, flops in counter.get_flop_counts().get("Global", {}).items()})
    return Counted(len(inputs), forward.get_total_flops(), backward.get_total_flops(), dict(operations))


def _forward(x: Any, mu: Any, delta: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return _flops(out_shape, prod(mu), FORMED.per_weight if delta is not None else 0)


def _input_gradient(gradient: Any, mu: Any, delta: Any, *_: Any, **__: Any) -> int:
    return _flops(gradient, prod(mu), FORMED.per_weight if delta is not None else 0)


def _weight_gradient(x: Any, gradient: Any, signs: Any, _: Any, size: Any, *__: Any, **___: Any) -> int:
    return _flops(gradient, x[1] * gradient[1] * prod(size), SUMMED.per_weight if signs is not None else 0)


def _flops(output: Any, weights: int, per_weight: int) -> int:
    """Of all images: `output` (N, C_out, H', W') is the shape of the layer's output."""
    images, _, *map_size = output
    return images * weights * (2 * prod(map_size) + per_weight)


# By operator; tensors come as their shapes, images (N, C, H, W) and kernels (C_out, C_in, k, k).
OPERATOR_FLOPS: dict[str, Callable[..., int]] = {
    "conv": _forward,
    "conv_input_gradient": _input_gradient,
    "conv_weight_gradient": _weight_gradient,
}


def kernel_formulae() -> dict[Any, Callable[..., int]]:
    """FLOPs of the operators of bnn.kernels as torch's counter wants them; none where they are not built."""
    try:
        kernels.load()
    except UserError:
        return {}
    return {getattr(torch.ops.bnn_kernels, name): formula for name, formula in OPERATOR_FLOPS.items()}
