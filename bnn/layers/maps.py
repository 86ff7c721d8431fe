"""Convolutions that stay torch's (1-d, 3-d, transposed, other paddings), trained by Flipout or local sampling.

Their weight is a Bayesian parameter (`bnn.layers.parameter`): a posterior holds, draws and prunes it as any other. Only
while the layer trains is its output drawn as its estimator does, every example apart; in evaluation mode one sample of
the weight serves the whole batch, as Monte-Carlo inference takes it. Plain torch: the kernels know 2-d convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from bnn.layers.base import BayesianLayer
from bnn.layers.flipout import flipped
from bnn.layers.local_reparameterization import locally_sampled

MAPS: tuple[type[_ConvNd], ...] = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
# How an estimator draws the output of any linear map. (Reparameterization is one sample per pass anyway.)
DRAWS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "flipout": flipped,
    "flipout-reference": flipped,
    "local-reparameterization": locally_sampled,
}
TRANSPOSED: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.ConvTranspose1d: functional.conv_transpose1d,
    nn.ConvTranspose2d: functional.conv_transpose2d,
    nn.ConvTranspose3d: functional.conv_transpose3d,
}


def standard_map(kind: type[nn.Module]) -> type[_ConvNd] | None:
    """Which of torch's convolutions a class is, if its forward pass is that one's; None: none."""
    standard = next((known for known in MAPS if issubclass(kind, known)), None)
    same = standard is not None and all(
        getattr(kind, name, None) is getattr(standard, name, None) for name in ("forward", "_conv_forward", "__call__")
    )
    return standard if same else None


class TrainedMap:
    """A convolution of torch's and the posterior of its weight, as a `LinearMap`."""

    def __init__(self, layer: _ConvNd, posterior: BayesianLayer, output_size: list[int] | None) -> None:
        self.layer, self.posterior, self.output_size = layer, posterior, output_size
        self.mu, self.sigma, self.bias = posterior.mu, posterior.sigma, layer.bias
        self.generator, self.standard_normal = posterior.generator, posterior.standard_normal

    def random_signs(self, x: Tensor) -> Tensor:
        return self.posterior.random_signs(x, channel_dim=1)

    def affine(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        layer: Any = self.layer
        run = next((run for kind, run in TRANSPOSED.items() if isinstance(layer, kind)), None)
        if run is None:
            y: Tensor = layer._conv_forward(x, kernel, bias)
            return y
        padding = layer._output_padding(
            x, self.output_size, layer.stride, layer.padding, layer.kernel_size, x.dim() - 2, layer.dilation
        )
        return run(x, kernel, bias, layer.stride, layer.padding, padding, layer.groups, layer.dilation)


def drawn(layer: Any, posterior: Any, x: Tensor, output_size: list[int] | None = None) -> Tensor | None:
    """The output of a layer that trains, drawn by its estimator; None where it is to run as its class does."""
    draw = DRAWS.get(posterior.estimator)
    if draw is None or not layer.training or posterior.mean_only or posterior.recorded is not None:
        return None
    if not isinstance(x, Tensor) or x.dim() != posterior.mu.dim():  # one example without a batch, or a mistake
        return None

    def sample(x: Tensor) -> Tensor:
        return draw(TrainedMap(layer, posterior, output_size), x)

    y: Tensor = posterior.noisy(sample, x)
    return y


def forward_of(base: Any, name: str) -> Callable[..., Tensor]:
    """The forward pass of a subclass of `base`, the posterior of whose weight is its layer `name`."""

    def forward(self: nn.Module, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        y = drawn(self, self._modules[name], input, output_size)
        if y is None:  # (only transposed convolutions take a size)
            y = base.forward(self, input) if output_size is None else base.forward(self, input, output_size)
        return y

    return forward
