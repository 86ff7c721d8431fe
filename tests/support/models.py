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
