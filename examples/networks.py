"""Two networks of one's own, as `bnn train --model examples.networks:FUNCTION` takes them: plain torch.

`vit` is a small vision transformer (Dosovitskiy et al. 2021), `unet` a small U-Net (Ronneberger et al. 2015) for
`--task segmentation`. Both are called with the shape of an image (C, H, W) and the number of classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class VisionTransformer(nn.Module):
    """Patches of `patch` x `patch` pixels, a class token, `depth` encoder blocks and a linear head: (N, classes)."""

    def __init__(
        self, shape: tuple[int, int, int], classes: int, patch: int = 4, dim: int = 96, depth: int = 4, heads: int = 4
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.patches = nn.Conv2d(channels, dim, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, (height // patch) * (width // patch) + 1, dim) * 0.02)
        block = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x)[:, 0]))


def convolutions(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with BatchNorm and ReLU; height and width stay."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two levels down and up again, with concatenated skips: logits (N, classes, H, W); H and W divide by 4."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 16) -> None:
        super().__init__()
        self.first, self.second = convolutions(shape[0], width), convolutions(width, 2 * width)
        self.bottom = convolutions(2 * width, 4 * width)
        self.up_second = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up_first = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join_second, self.join_first = convolutions(4 * width, 2 * width), convolutions(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(functional.max_pool2d(first, 2))
        x = self.bottom(functional.max_pool2d(second, 2))
        x = self.join_second(torch.cat([self.up_second(x), second], 1))
        x = self.join_first(torch.cat([self.up_first(x), first], 1))
        return self.head(x)


def vit(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return VisionTransformer(shape, classes)


def unet(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return UNet(shape, classes)
