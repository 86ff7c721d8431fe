"""Noise is named by (seed, step, layer, rank): the same key draws the same noise, any other key other noise."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bnn.layers import FlipoutConv2d, FlipoutLinear, NoiseKey, PosteriorInit, bayesian_layers, number_layers, set_noise
from bnn.layers.noise import layer_seed, splitmix64

WIDE = PosteriorInit(rho_init=0.0)
KEY = NoiseKey(seed=7, step=3, rank=1)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(FlipoutConv2d(1, 4, 3, init=WIDE), nn.ReLU(), nn.Flatten(), FlipoutLinear(64, 5, init=WIDE))
    number_layers(model)
    return model


def output(model: nn.Module, key: NoiseKey) -> torch.Tensor:
    set_noise(model, key)
    with torch.no_grad():
        return model(torch.linspace(-1, 1, 72).reshape(2, 1, 6, 6))


def test_the_same_key_gives_the_same_output_and_any_other_another() -> None:
    model = network()
    first = output(model, KEY)
    assert torch.equal(output(model, KEY), first)
    assert torch.equal(output(copy.deepcopy(model), KEY), first)
    for change in ({"seed": 8}, {"step": 4}, {"rank": 0}, {"seed": 3, "step": 7}):
        assert not torch.equal(output(model, replace(KEY, **change)), first)
    *_, last = bayesian_layers(model)
    last.layer_index = 2
    assert not torch.equal(output(model, KEY), first)


def test_every_layer_has_its_own_noise() -> None:
    model = nn.Sequential(FlipoutLinear(6, 6, init=WIDE), FlipoutLinear(6, 6, init=WIDE))
    number_layers(model)
    set_noise(model, KEY)
    first, second = (layer.standard_normal() for layer in bayesian_layers(model))
    assert not torch.equal(first, second)


def test_noise_does_not_depend_on_the_default_generator_nor_touch_it() -> None:
    model = network()
    first = output(model, KEY)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(output(model, KEY), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_key_layers_draw_from_the_default_generator() -> None:
    layer, x = FlipoutLinear(6, 6, init=WIDE), torch.ones(2, 6)
    torch.manual_seed(5)
    first = layer(x)
    second = layer(x)
    torch.manual_seed(5)
    assert torch.equal(layer(x), first)
    assert not torch.equal(second, first)


def test_a_second_pass_without_a_new_key_draws_anew() -> None:
    model = network()
    first = output(model, KEY)
    with torch.no_grad():
        assert not torch.equal(model(torch.linspace(-1, 1, 72).reshape(2, 1, 6, 6)), first)


def test_generators_are_kept() -> None:
    model = network()
    set_noise(model, KEY)
    before = [id(layer.generator) for layer in bayesian_layers(model)]
    set_noise(model, NoiseKey(1))
    assert [id(layer.generator) for layer in bayesian_layers(model)] == before


def test_memory_format_leaves_the_noise_alone() -> None:
    model = network()
    expected = output(model, KEY)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(output(model, KEY), expected)


def test_splitmix64_gives_the_published_sequence() -> None:
    """The first outputs for the seed 1234567, as in the reference implementations."""
    state, outputs = 1234567, []
    for _ in range(3):
        outputs.append(splitmix64(state))
        state = (state + 0x9E3779B97F4A7C15) % 2**64
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_no_two_keys_of_a_run_share_a_seed() -> None:
    keys = itertools.product(range(3), range(40), range(20), range(16))
    seeds = {layer_seed(NoiseKey(seed, step, rank), layer) for seed, step, layer, rank in keys}
    assert len(seeds) == 3 * 40 * 20 * 16


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**70), st.integers(0, 1000), st.integers(0, 10**6))
def test_any_key_is_a_valid_seed(seed: int, step: int, layer: int, rank: int) -> None:
    mixed = layer_seed(NoiseKey(seed, step, rank), layer)
    assert 0 <= mixed < 2**64
    torch.Generator().manual_seed(mixed)


@pytest.mark.parametrize("field", ["seed", "step", "rank"])
def test_keys_are_immutable(field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(KEY, field, 0)
