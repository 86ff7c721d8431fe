"""Layers that draw noise, and which noise it is: keyed by (seed, step, layer, rank), so that a run can be repeated and
resumed.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from bnn.errors import UserError
from bnn.kernels import traced
from bnn.layers.repeated import mark_pass, noise_of, repeated_mark

MASK = 2**64 - 1


@dataclass(frozen=True)
class NoiseKey:
    """Names the noise of one step on one rank. For Monte-Carlo inference `step` is the index of the draw.

    Whole numbers, taken modulo 2^64. Raises UserError for anything else.
    """

    seed: int
    step: int = 0
    rank: int = 0

    def __post_init__(self) -> None:
        for name, value in (("seed", self.seed), ("step", self.step), ("rank", self.rank)):
            try:
                operator.index(value)
            except TypeError:
                raise UserError(f"noise of {name} {value!r}: must be a whole number") from None


def splitmix64(state: int) -> int:
    """One step of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit integers that mixes every bit."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def layer_seed(key: NoiseKey, layer_index: int) -> int:
    """64-bit seed of one layer's generator. (torch's CPU generator uses the low 32 bits, which are as well mixed.)"""
    return seed_from(step_state(key), layer_index, key.rank)


def step_state(key: NoiseKey) -> int:
    """What the seeds of all layers start from: seed and step, mixed."""
    return splitmix64(splitmix64(key.seed & MASK) ^ (key.step & MASK))


def seed_from(state: int, layer_index: int, rank: int) -> int:
    """One layer's seed from its step's state."""
    return splitmix64(splitmix64(state ^ (layer_index & MASK)) ^ (rank & MASK))


def set_noise(model: nn.Module, key: NoiseKey) -> None:
    """Make the next forward pass of `model` draw the noise named by `key`; call it once before every forward pass.

    Every layer that draws noise keeps one generator on its own device, seeded anew here from `key` and its index by
    SplitMix64 (Steele, Lea, Flood 2014); nothing is copied from or to a GPU. A second forward pass without a new key
    goes on from where the first stopped. Layers that never got a key draw from torch's default generator, which
    `torch.manual_seed` seeds. Noise is the same for the same key on one kind of device and with the same kernels.

    Raises UserError for anything but a module and a NoiseKey, and for two layers of the same index (`number_layers`).
    """
    if not isinstance(key, NoiseKey):
        raise UserError(f"set_noise: {key!r} is no NoiseKey(seed, step, rank)")
    state = step_state(key)
    for layer in numbered_layers(checked_module(model, "set_noise")):
        assert layer.layer_index is not None
        layer.seed_noise(seed_from(state, layer.layer_index, key.rank))


def checked_module(model: nn.Module, function: str) -> nn.Module:
    """`model`. Raises UserError, naming the function that was called, for what is no module."""
    if not isinstance(model, nn.Module):
        raise UserError(f"{function}: a {type(model).__name__} is no torch module")
    return model


class NoisyLayer(nn.Module):
    """A layer that draws noise, in evaluation, too, but not inside `mean_only(model)`.

    `layer_index` names its noise within its model (`number_layers`), None: not numbered so far.
    """

    layer_index: int | None = None
    mean_only = False
    generator: torch.Generator | None = None  # None: torch's default generator; see `set_noise`
    _calls = 0  # forward passes since the last key

    @property
    def key_seed(self) -> int | None:
        """The seed of this layer's key, None without a key."""
        raise NotImplementedError

    def seed_noise(self, seed: int) -> None:
        """Make the next forward pass draw the noise of this 64-bit seed."""
        raise NotImplementedError

    def noise_state(self) -> dict[str, Any]:
        """What says which noise comes next."""
        raise NotImplementedError

    def unkeyed(self) -> None:
        """Draw from torch's default generator from now on."""
        raise NotImplementedError

    def noisy(self, sample: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`sample(x)`, a pass whose noise a checkpoint of activations repeats."""
        if traced():
            return sample(x)
        if in_backward():
            with noise_of(self, repeated_mark(self)):
                return sample(x)
        self._calls += 1
        y = sample(x)
        if within_checkpoint():
            mark_pass(self, self.key_seed, self._calls, y)
        return y


def noisy_layers(model: nn.Module) -> Iterator[NoisyLayer]:
    """The layers of `model` that draw noise, in module order; a shared layer comes once."""
    return (module for module in model.modules() if isinstance(module, NoisyLayer))


def in_backward() -> bool:
    """Whether this is within a backward pass."""
    return torch._C._current_graph_task_id() != -1


def within_checkpoint() -> bool:
    """Whether torch.utils.checkpoint is what calls: only then is a pass worth a mark (bnn.layers.repeated)."""
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        if caller.f_code.co_filename == checkpoint.__file__:
            return True
        frame = caller
    return False


def number_layers(model: nn.Module) -> None:
    """Give the layers of `model` that draw noise their `layer_index`, 0, 1, 2, ... in module order.

    The index names a layer's noise: no two layers of a model may share one. `convert` numbers what it makes; layers
    made by hand are numbered when the model first needs it. To be called where models that are numbered already are put
    together to one. Raises UserError for what is no module.
    """
    for index, layer in enumerate(noisy_layers(checked_module(model, "number_layers"))):
        layer.layer_index = index


def numbered_layers(model: nn.Module) -> list[NoisyLayer]:
    """The layers of `model` that draw noise in module order, each with an index of its own.

    Layers without one get the next free ones. Raises UserError for two layers that share an index: they would draw the
    same noise.
    """
    layers = list(noisy_layers(model))
    indices = {layer.layer_index for layer in layers}
    if None in indices or len(indices) < len(layers):
        complete_indices(model, layers)
    return layers


def complete_indices(model: nn.Module, layers: list[NoisyLayer]) -> None:
    names = {id(module): name for name, module in model.named_modules()}
    owners: dict[int, NoisyLayer] = {}
    for layer in layers:
        if layer.layer_index is None:
            continue
        if layer.layer_index in owners:
            pair = " and ".join(names[id(one)] or type(one).__name__ for one in (owners[layer.layer_index], layer))
            raise UserError(
                f"layers {pair}: both have layer_index {layer.layer_index} and would draw the same noise; "
                "call bnn.number_layers(model)"
            )
        owners[layer.layer_index] = layer
    following = max(owners, default=-1) + 1
    for layer in layers:
        if layer.layer_index is None:
            layer.layer_index, following = following, following + 1
