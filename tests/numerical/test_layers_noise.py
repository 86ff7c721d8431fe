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

from bnn.errors import UserError
from bnn.inference.predict import predict
from bnn.layers import (
    FlipoutConv2d,
    FlipoutLinear,
    NoiseKey,
    PosteriorInit,
    bayesian_layers,
    kl_divergence,
    number_layers,
    set_noise,
)
from bnn.layers.noise import layer_seed, splitmix64
from bnn.posterior.trace import trace

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


def by_hand(layer: type[nn.Module] = FlipoutLinear) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(layer(6, 6, init=WIDE), nn.ReLU(), layer(6, 6, init=WIDE))


def test_layers_made_by_hand_draw_independently_and_as_numbered_ones_do() -> None:
    model, numbered = by_hand(), by_hand()
    number_layers(numbered)
    for one in (model, numbered):
        set_noise(one, KEY)
    (first, second), expected = (
        [layer.standard_normal() for layer in bayesian_layers(one)] for one in (model, numbered)
    )
    assert not torch.equal(first, second)
    assert torch.equal(first, expected[0])
    assert torch.equal(second, expected[1])


def test_a_layer_added_by_hand_gets_the_next_free_noise_and_the_others_keep_theirs() -> None:
    body = by_hand()
    number_layers(body)
    set_noise(nn.Sequential(FlipoutLinear(6, 6), body), KEY)
    assert [layer.layer_index for layer in bayesian_layers(body)] == [0, 1]
    model = nn.Sequential(FlipoutLinear(6, 6), body)
    set_noise(model, KEY)
    assert [layer.layer_index for layer in bayesian_layers(model)] == [2, 0, 1]


def test_layers_that_would_draw_the_same_noise_are_refused_by_name() -> None:
    model = nn.Sequential(by_hand(), by_hand())
    number_layers(model[0])
    number_layers(model[1])
    x = torch.ones(2, 6)
    for draw in (
        lambda: set_noise(model, KEY),
        lambda: predict(model, x, draws=2),
        lambda: predict(model, x, draws=2, mode="flipout"),
        lambda: trace(model, x, 0, {}),
    ):
        with pytest.raises(UserError, match=r"layers 0\.0 and 1\.0: both have layer_index 0 .* bnn\.number_layers"):
            draw()
    number_layers(model)
    set_noise(model, KEY)
    shared = FlipoutLinear(6, 6)
    set_noise(nn.Sequential(shared, shared), KEY)


def test_seeds_are_those_of_the_key_s_parts_in_turn() -> None:
    state = 0
    for part in (KEY.seed, KEY.step, 5, KEY.rank):
        state = splitmix64(state ^ part)
    assert layer_seed(KEY, 5) == state


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prior", [1.0, 0.002])
def test_the_kl_of_half_precision_is_that_of_its_values(dtype: torch.dtype, prior: float) -> None:
    layer = FlipoutLinear(300, 300, init=PosteriorInit(prior_scale=prior), dtype=dtype)
    with torch.no_grad():
        layer.mu.mul_(10)
        layer.rho[0] = -20.0  # below float16's smallest number
    wide = copy.deepcopy(layer).double()
    torch.testing.assert_close(layer.kl().double(), wide.kl(), rtol=1e-5, atol=0.0)
    assert kl_divergence(layer).dtype == torch.float32
    layer.kl().backward()
    assert layer.rho.grad is not None
    assert bool(layer.rho.grad.isfinite().all())
