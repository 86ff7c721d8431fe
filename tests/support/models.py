"""A user's own model, named in settings as `tests.support.models:small`."""

import torch
from torch import nn


def small(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """One convolution and one dense layer, conventional; `kind: bnn` converts it."""
    channels = input_shape[0]
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


def frozen(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A network whose first layer does not train, and whose dropout draws from torch's own generator."""
    first = nn.Conv2d(input_shape[0], 4, 3).requires_grad_(False)
    return nn.Sequential(first, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, classes))


class Spare(nn.Module):
    """Has a layer that it never uses."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)
        self.dense = nn.Linear(channels, classes)

    def forward(self, x):
        return self.dense(x.mean((2, 3)))


def spare(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A model of which some parameters never get a gradient."""
    return Spare(input_shape[0], classes)


class Branching(nn.Module):
    """Decides by its data, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Identity()

    def forward(self, x):
        return self.dense(x.flatten(1)) if x.sum() > 0 else self.dense(x.flatten(1) * 2)


def branching(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A model that cannot be saved as a posterior."""
    model = Branching()
    channels, height, width = input_shape
    model.dense = nn.Linear(channels * height * width, classes)
    return model


class Strided(nn.Module):
    """The conventional form of tests/data/tfp/make.py's model `strided`, as torch's users would write it."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.main, self.shortcut = nn.Conv2d(2, 3, 3, 2, padding=1), nn.Conv2d(2, 3, 1, 2)
        self.norm1 = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 4, 5, 2, padding=2)
        self.norm2 = nn.BatchNorm2d(4)
        features = 4 * -(-height // 4) * -(-width // 4)
        self.norm3 = nn.BatchNorm1d(features)
        self.dense, self.last = nn.Linear(features, 5), nn.Linear(5, 3)

    def forward(self, x):
        y = torch.relu(self.norm1(self.main(x))) + self.shortcut(x)
        y = torch.relu(self.norm2(self.second(y)))
        return self.last(torch.relu(self.dense(self.norm3(y.flatten(1)))))


def strided(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Stride 2, branches, a normalised vector: what an import from TensorFlow must get right."""
    return Strided(*input_shape[1:])


def small_mnist(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of the reference TFP posterior: one convolution and one dense layer."""
    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 2) * (width // 2), classes),
    )
