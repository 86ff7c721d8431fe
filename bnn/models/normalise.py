"""Images normalised by the mean and the standard deviation of each channel, as a part of the model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from bnn.data.base import Split

MOST_IMAGES = 10_000  # whose pixels are counted: enough for two numbers per channel
VALUES = 256


class ChannelNorm(nn.Module):
    """(x - mean) / std of images (N, C, H, W) in [0, 1], by channel. `mean` and `std` are (C,), and are not trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(-1, 1, 1))
        self.register_buffer("std", std.view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def channel_norm(split: Split) -> ChannelNorm:
    """That of a training set: all its pixels, or those of `MOST_IMAGES` images that are evenly spread over it.

    A channel that has one value only is centred, and not divided.
    """
    chosen = np.linspace(0, len(split) - 1, min(MOST_IMAGES, len(split))).round().astype(np.int64)
    counts = np.zeros((split.images.shape[1], VALUES), np.int64)
    for index in chosen:
        for channel, pixels in enumerate(split.images[index]):
            counts[channel] += np.bincount(pixels.ravel(), minlength=VALUES)
    values, shares = np.arange(VALUES) / (VALUES - 1), counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return ChannelNorm(*(torch.from_numpy(each).float() for each in (mean, np.where(std > 0, std, 1.0))))


def normalised(model: nn.Module, norm: ChannelNorm) -> nn.Module:
    """`model` behind `norm`: its submodule `network`."""
    return nn.Sequential(OrderedDict(normalise=norm, network=model)).train(model.training)


def running_statistics(model: nn.Module) -> Iterator[Tensor]:
    """The buffers of `model` that training changes: all but those of its norm of the images."""
    fixed = {id(buffer) for module in model.modules() if isinstance(module, ChannelNorm) for buffer in module.buffers()}
    return (buffer for buffer in model.buffers() if id(buffer) not in fixed)
