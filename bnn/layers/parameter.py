"""A weight of any module that is sampled: attention's projections, recurrent weights, embeddings, other convolutions.

The module keeps its code. What it reads as its weight is a sample, one for the whole batch (Kingma and Welling 2014;
Blundell et al. 2015): for a module that is no single linear map of its input there is no Flipout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers.base import BayesianLayer, PosteriorInit

SUFFIX = "_posterior"  # of the name of the layer that holds a parameter's posterior


class BayesianParameter(BayesianLayer):
    """The posterior of one tensor of shape `shape`. It is called without input, and gives the weight."""

    channel_dim = 0

    def __init__(
        self,
        shape: Sequence[int],
        *,
        init: PosteriorInit | None = None,
        layer_index: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(tuple(shape), False, init, layer_index, device, dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        return tuple(self.mu.shape)

    def forward(self) -> Tensor:  # type: ignore[override]
        return self.weight

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


def make_sampled(
    owner: nn.Module, name: str, init: PosteriorInit | None, mean_from: str = "module"
) -> BayesianParameter:
    """Put a posterior, whose mean is the parameter (or random, as in `init`), in the place of the parameter `name`.

    `owner` becomes an instance of a subclass of its class, of which `name` is a property.
    """
    parameter = owner._parameters[name]
    assert parameter is not None
    if hasattr(owner, f"{name}{SUFFIX}"):
        raise UserError(f"{type(owner).__name__}: the name {name}{SUFFIX} is taken; a posterior needs it")
    posterior = BayesianParameter(parameter.shape, init=init, device=parameter.device, dtype=parameter.dtype)
    if mean_from == "module":
        with torch.no_grad():
            posterior.mu.copy_(parameter)
    for part in (posterior.mu, posterior.rho):
        part.requires_grad_(parameter.requires_grad)
    posterior.train(owner.training)
    del owner._parameters[name]
    owner.add_module(f"{name}{SUFFIX}", posterior)
    known = getattr(type(owner), "sampled", ())
    base = type(owner).__mro__[1] if known else type(owner)
    owner.__class__ = sampled_class(base, (*known, name))
    return posterior


@cache
def sampled_class(base: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """`base` with properties that give samples of the parameters `names`."""

    def weight_of(name: str) -> property:
        def read(self: nn.Module) -> Tensor:
            posterior = self._modules[f"{name}{SUFFIX}"]
            assert isinstance(posterior, BayesianParameter)
            return posterior.weight

        return property(read)

    members: dict[str, Any] = {name: weight_of(name) for name in names} | {"sampled": names}
    if issubclass(base, nn.RNNBase):
        members["_flat_weights"] = property(flat_weights, lambda self, value: None)

    def reduce(self: nn.Module, protocol: Any) -> Any:  # pickle would look for the class under the name of `base`
        state: Any = super(kind, self).__reduce_ex__(protocol)
        return restored, (base, names), state[2]

    members |= {"__module__": base.__module__, "__qualname__": base.__qualname__, "__reduce_ex__": reduce}
    kind: type[nn.Module] = type(base.__name__, (base,), members)
    return kind


def restored(base: Any, names: tuple[str, ...]) -> nn.Module:
    """An empty module of the class, for pickle and copy to fill."""
    kind = sampled_class(base, names)
    return kind.__new__(kind)


def flat_weights(self: Any) -> list[Tensor]:
    """What torch's recurrent layers pass on: all weights, as they are now."""
    return [getattr(self, name) for name in self._flat_weights_names]
