"""A user's own model, named in settings as `tests.support.models:small`."""

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
