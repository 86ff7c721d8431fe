"""A network whose passes take a time of their own, without a core: for measurements where cores are shared.

It sleeps in its forward and in its backward pass. Its parameters are as many as make a few messages.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

FORWARD, BACKWARD = 0.100, 0.100  # seconds
WIDTH, LAYERS = 256, 6


class Pace(torch.autograd.Function):
    """Passes a tensor on, and its gradient, each after so many seconds."""

    @staticmethod
    def forward(context: Any, x: Tensor, forward: float, backward: float) -> Tensor:
        context.backward_seconds = backward
        time.sleep(forward)
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        time.sleep(context.backward_seconds)
        return gradients[0], None, None


class Paced(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        self.last = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        for layer in self.layers:
            x = layer(x)
            if self.training:
                x = Pace.apply(x, FORWARD / LAYERS, BACKWARD / LAYERS)
        return self.last(x)


def paced(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Paced(input_shape[0] * input_shape[1] * input_shape[2], classes)
