"""Dropout whose noise has a key, in prediction, too: MC dropout (Gal and Ghahramani 2016).

A prediction's draw is one set of masks, which all inputs share: as with a sample of weights, a draw is one network.
While a model trains, every example has masks of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.layers.noise import NoisyLayer
from bnn.layers.references import replace_layers

# Of torch's layers of dropout: whether whole channels are dropped.
KNOWN: dict[type[nn.Module], bool] = {nn.Dropout: False, nn.Dropout1d: True, nn.Dropout2d: True, nn.Dropout3d: True}


class KeyedDropout(NoisyLayer):
    """Sets a share `p` of its inputs (N, ...) to zero and divides the others by 1 - p.

    `channels`: whole channels, (N, C, ...) by n and c; else every value by itself. In evaluation mode the mask is the
    same for all n. Within `mean_only` the input is given back. Raises ValueError for a share that is not in [0, 1).
    """

    def __init__(self, p: float = 0.5, channels: bool = False, layer_index: int | None = None) -> None:
        super().__init__()
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1:
            raise ValueError(f"p={p!r}: must be a share, from 0 on and below 1")
        if not isinstance(channels, bool) or not (layer_index is None or type(layer_index) is int):
            raise ValueError(f"channels={channels!r}, layer_index={layer_index!r}: a truth value, and a number or None")
        self.p, self.channels, self.layer_index = float(p), channels, layer_index
        self._seed: int | None = None

    @property
    def key_seed(self) -> int | None:
        return self._seed

    def seed_noise(self, seed: int) -> None:
        self._seed, self.generator, self._calls = seed, None, 0

    def noise_state(self) -> dict[str, Any]:
        return {"_seed": self._seed, "generator": self.generator, "_calls": self._calls}

    def unkeyed(self) -> None:
        self._seed, self.generator, self._calls = None, None, 0

    def forward(self, input: Tensor) -> Tensor:  # torch's name for it, by which it may be called
        x = input
        if self.mean_only or self.p == 0 or x.is_meta:
            return x
        return self.noisy(self.sample, x)

    def sample(self, x: Tensor) -> Tensor:
        """The input under a new mask."""
        if self._seed is not None and (self.generator is None or self.generator.device != x.device):
            self.generator = torch.Generator(device=x.device).manual_seed(self._seed)
        return x * self.mask(x, len(x) if self.training else 1, self.generator)

    def mask(self, x: Tensor, examples: int, generator: torch.Generator | None) -> Tensor:
        """0 or 1 / (1 - p), shaped to multiply `x` (N, ...): one for each of so many examples."""
        shape = [examples, *x.shape[1:]]
        if self.channels:
            shape[2:] = [1] * len(shape[2:])
        kept = torch.empty(shape, device=x.device, dtype=x.dtype).bernoulli_(1 - self.p, generator=generator)
        return kept.div_(1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}, channels={self.channels}"


def key_dropout(model: nn.Module) -> list[str]:
    """Put a `KeyedDropout` in the place of each layer of dropout of `model`; their names.

    A layer that is used in several places stays shared. Dropout by a function, and that of attention's weights, is none
    of these layers: it is off in evaluation mode. Raises UserError for a model without such a layer of p > 0, and for a
    layer of another kind of dropout (alpha dropout, a subclass): its noise would have no key.
    """
    names = {layer: name for name, layer in model.named_modules() if drops(layer)}
    for layer, name in names.items():
        if type(layer) not in KNOWN:
            known = ", ".join(kind.__name__ for kind in KNOWN)
            raise UserError(f"layer {name}: the noise of a {type(layer).__name__} has no key; mc-dropout knows {known}")
    if not names:
        raise UserError(
            f"{type(model).__name__}: no layer of dropout with p > 0 in it, and so nothing that mc-dropout could draw"
        )
    keyed = {id(layer): KeyedDropout(layer.p, KNOWN[type(layer)]).train(layer.training) for layer in names}
    replace_layers(model, keyed)
    return list(names.values())


def drops(layer: nn.Module) -> bool:
    """Whether it is one of torch's layers of dropout, or a subclass, with p > 0."""
    return isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0


def dropout_text(model: nn.Module) -> str:
    """A line that says what predictions draw, and what stays off in them."""
    keyed = [module for module in model.modules() if isinstance(module, KeyedDropout)]
    shares = ", ".join(f"{share:g}" for share in sorted({layer.p for layer in keyed}))
    text = f"predictions draw the masks of {len(keyed)} layers of dropout (p = {shares})"
    attentions = sum(isinstance(module, nn.MultiheadAttention) and module.dropout > 0 for module in model.modules())
    off = f"; dropout of the weights of {attentions} layers of attention is off in them" if attentions else ""
    return text + off
