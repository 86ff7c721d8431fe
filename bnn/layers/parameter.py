"""A weight of any module that is sampled: attention's projections, recurrent weights, embeddings, other convolutions.

The module keeps its code. What it reads as its weight is a sample, one for the whole batch (Kingma and Welling 2014;
Blundell et al. 2015): for a module that is no single linear map of its input there is no Flipout. Convolutions are,
and are trained by it (`bnn.layers.maps`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.errors import UserError
from bnn.layers.base import BayesianLayer, PosteriorInit, mean_only
from bnn.layers.maps import forward_of, standard_map

SUFFIX = "_posterior"  # of the name of the layer that holds a parameter's posterior


class BayesianParameter(BayesianLayer):
    """The posterior of one tensor of shape `shape`. It is called without input, and gives the weight.

    The row `fixed_row` (of an embedding's padding), if any, is no weight: always its mean, without noise, gradient and
    KL. Raises ValueError for a row that is not there.
    """

    channel_dim = 0
    estimator = ""  # by which the layer that has it draws its output while it trains (bnn.layers.maps)

    def __init__(
        self,
        shape: Sequence[int],
        fixed_row: int | None = None,
        *,
        init: PosteriorInit | None = None,
        layer_index: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(tuple(shape), False, init, layer_index, device, dtype)
        if fixed_row is not None and not (type(fixed_row) is int and len(shape) > 1 and 0 <= fixed_row < shape[0]):
            raise ValueError(f"fixed_row={fixed_row!r}: there is no such row in {tuple(shape)}")
        self.fixed_row = fixed_row

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        return tuple(self.mu.shape)

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of the posterior, of the weight's shape; 0 in the fixed row."""
        return without_row(functional.softplus(self.rho), self.fixed_row)  # (not super's: torch.compile would stop)

    def sampled_weight(self) -> Tensor:
        weight = super().sampled_weight()
        return weight if self.fixed_row is None else with_row(weight, self.mu.detach(), self.fixed_row)

    def kl(self) -> Tensor:
        if self.fixed_row is None:
            return super().kl()
        rows = [slice(self.fixed_row), slice(self.fixed_row + 1, None)]
        return self.divergence(*(torch.cat([part[row] for row in rows]) for part in (self.mu, self.rho)))

    def forward(self) -> Tensor:  # type: ignore[override]
        return self.weight

    def extra_repr(self) -> str:
        return f"shape={self.shape}" + ("" if self.fixed_row is None else f", fixed_row={self.fixed_row}")


def without_row(values: Tensor, row: int | None) -> Tensor:
    """`values` with zeros in a row, whose gradient is 0."""
    return values if row is None else with_row(values, torch.zeros_like(values), row)


def with_row(values: Tensor, others: Tensor, row: int) -> Tensor:
    """`values` with the row of `others`."""
    mask = torch.zeros(len(values), *[1] * (values.dim() - 1), dtype=torch.bool, device=values.device)
    mask[row] = True
    return torch.where(mask, others, values)


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
    fixed = owner.padding_idx if isinstance(owner, nn.Embedding | nn.EmbeddingBag) else None
    posterior = BayesianParameter(parameter.shape, fixed, init=init, device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad():
        if mean_from == "module":
            posterior.mu.copy_(parameter)
        elif fixed is not None:
            posterior.mu[fixed] = parameter[fixed]
    for part in (posterior.mu, posterior.rho):
        part.requires_grad_(parameter.requires_grad)
    posterior.train(owner.training)
    del owner._parameters[name]
    owner.add_module(f"{name}{SUFFIX}", posterior)
    known = getattr(type(owner), "sampled", ())
    base = type(owner).__mro__[1] if known else type(owner)
    owner.__class__ = sampled_class(base, (*known, name))
    for key in ("_flat_weights", "_flat_weight_refs"):  # a recurrent layer's, of its parameters as they were
        owner.__dict__.pop(key, None)
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
        members |= RECURRENT
    if standard_map(base):
        members["forward"] = forward_of(base, f"weight{SUFFIX}")

    def extra_repr(self: nn.Module) -> str:  # torch's asks whether there is a bias: printing must draw no noise
        with mean_only(self):
            return base.extra_repr(self)

    if "bias" in names:
        members["extra_repr"] = extra_repr

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


# Of torch's recurrent layers: they keep a list of their parameters, which here would be one of samples, or of what the
# parameters were.
RECURRENT: dict[str, Any] = {
    "_flat_weights": property(flat_weights, lambda self, value: None),
    "_flat_weight_refs": property(lambda self: [], lambda self, value: None),
    "_init_flat_weights": lambda self: None,
    "_update_flat_weights": lambda self: None,
    "flatten_parameters": lambda self: None,
    "__getstate__": lambda self: dict(self.__dict__),
    "__setstate__": nn.Module.__setstate__,
}
