"""Models as users bring them to `bnn train`, named in settings as `tests.support.own_models:NAME`."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int]


class Lenet(nn.Module):
    """`view` behind a convolution."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], 6, 5)
        self.head = nn.Linear(6 * ((shape[1] - 4) // 2) * ((shape[2] - 4) // 2), classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.head(x.view(x.size(0), -1))


class Auxiliary(nn.Module):
    """Two outputs in training, one otherwise."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv, self.head, self.other = nn.Conv2d(shape[0], 8, 3), nn.Linear(8, classes), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.conv(x).mean((2, 3))
        return (self.head(x), self.other(x)) if self.training else self.head(x)


class Volume(nn.Module):
    """A convolution in three dimensions."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv3d(1, 4, 3), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x.unsqueeze(1)).mean((2, 3, 4)))


class ReadsWeight(nn.Module):
    """Asks a layer's weight for its precision, as torchvision's and timm's models do."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1).to(self.head.weight.dtype))


class Branching(nn.Module):
    """One output where another is asked for by an argument, and an argument that nobody gives."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor, mask: Tensor | None = None, features: bool = False) -> Tensor:
        x = x.flatten(1)
        return x if features else self.head(x if mask is None else x * mask)


class AlwaysDrops(nn.Module):
    """F.dropout as it is called without its third argument: in evaluation, too."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(shape[0], 8, 3, bias=False), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(F.relu(self.conv(x)), 0.5).mean((2, 3)))


class TokensFirst(nn.Module):
    """The batch is the second axis between two layers: (L, N, C)."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv, self.mix, self.head = nn.Conv2d(shape[0], 8, 3), nn.Linear(8, 8), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.conv(x).flatten(2).permute(2, 0, 1)).mean(0))


class PoolsWithIndices(nn.Module):
    """A pooling layer of two outputs, of which one is used."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(shape[0], 8, 3), nn.Linear(8, classes)
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.conv(x))[0].mean((2, 3)))


def plain(shape: Shape, classes: int, *, colours: int | None = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(colours or shape[0], 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, classes),
    )  # fmt: skip


def size(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]


def lenet(shape: Shape, classes: int) -> nn.Module:
    return Lenet(shape, classes)


def auxiliary(shape: Shape, classes: int) -> nn.Module:
    return Auxiliary(shape, classes)


def in_eval_mode(shape: Shape, classes: int) -> nn.Module:
    """As it is after a checkpoint has been loaded."""
    return plain(shape, classes).eval()


def rgb(shape: Shape, classes: int) -> nn.Module:
    return plain(shape, classes, colours=3)


def segmentation(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(shape[0], 8, 3), nn.ReLU(), nn.Conv2d(8, classes, 1))


def too_few(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(size(shape), classes // 2))


def too_many(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(size(shape), 1000))


def volume(shape: Shape, classes: int) -> nn.Module:
    return Volume(classes)


def weight_norm(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(size(shape), classes)))


def no_statistics(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size(shape), 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, classes)
    )


def reads_weight(shape: Shape, classes: int) -> nn.Module:
    return ReadsWeight(size(shape), classes)


def always_drops(shape: Shape, classes: int) -> nn.Module:
    return AlwaysDrops(shape, classes)


def tokens_first(shape: Shape, classes: int) -> nn.Module:
    return TokensFirst(shape, classes)


def pools_with_indices(shape: Shape, classes: int) -> nn.Module:
    return PoolsWithIndices(shape, classes)


def norm_without_bias(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3), nn.GroupNorm(2, 8, bias=False), nn.BatchNorm2d(8, bias=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )  # fmt: skip


def ends_in_softmax(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes), nn.Softmax(1))


class FrozenNorm(nn.Sequential):
    """Its norm stays in evaluation mode, by a `train` as many write it."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)
        self[1].eval()


def train_returns_nothing(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    layers = nn.Conv2d(input_shape[0], 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return FrozenNorm(*layers, nn.Linear(4, classes))
