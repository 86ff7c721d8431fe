"""Which noise a Bayesian layer draws: keyed by (seed, step, layer, rank), so that a run can be repeated and resumed."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from torch import nn

from bnn.errors import UserError
from bnn.layers.base import checked_module, numbered_layers

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
