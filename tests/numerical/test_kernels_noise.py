"""Philox and the normals: published answers, an independent implementation, and the statistics of many draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from bnn.layers.noise import NoiseKey, layer_seed
from tests.support.kernels import OPS, need_kernels, threads

need_kernels()

SEEDS = [0, 1, 2**32 + 5, -1, -(2**63), 2**63 - 1, 0x0123456789ABCDEF]
EPSILON, SIGNS_IN, SIGNS_OUT = 0, 1, 2
MANY = 16_000_000
BOUND = 4.5  # standard deviations

Words = NDArray[np.uint64]


def philox(counter: tuple[Words, ...], key: tuple[int, int]) -> tuple[Words, ...]:
    """Philox4x32-10 of Salmon, Moraes, Dror, Shaw (2011), vectorised over the counters."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = x0 * np.uint64(0xD2511F53), x2 * np.uint64(0xCD9E8D57)
        x0, x1, x2, x3 = (
            (second >> half) ^ x1 ^ np.uint64(k0),
            second & low,
            (first >> half) ^ x3 ^ np.uint64(k1),
            first & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return x0, x1, x2, x3


def blocks(seed: int, stream: int, count: int) -> NDArray[np.uint64]:
    """The words of blocks 0, 1, ... of a stream: (count, 4)."""
    index = np.arange(count, dtype=np.uint64)
    zero = np.zeros_like(index)
    key = (seed % 2**32, (seed % 2**64) >> 32)
    return np.stack(philox((index, zero, zero + np.uint64(stream), zero), key), axis=1)


def normals(seed: int, count: int) -> NDArray[np.float64]:
    """Box and Muller in float64, from uniforms as the kernels round them; in the order that random.h documents."""
    groups = -(-count // 64)
    words = blocks(seed, EPSILON, groups * 16).reshape(groups, 16, 4)
    pairs = []
    for first in (0, 2):
        uniform = words[:, :, first].astype(np.uint32).astype(np.float32) * np.float32(2**-32) + np.float32(2**-33)
        angle = words[:, :, first + 1].astype(np.uint32).view(np.int32).astype(np.float32).astype(np.float64)
        radius = np.sqrt(-2 * np.log(uniform.astype(np.float64)))
        pairs += [radius * np.cos(2 * np.pi * angle / 2**32), radius * np.sin(2 * np.pi * angle / 2**32)]
    return np.stack(pairs, axis=1).reshape(-1)[:count]


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_reference_here_gives_random123s_known_answers(counter: str, key: str, answer: str) -> None:
    words = tuple(np.array([int(word, 16)], dtype=np.uint64) for word in counter.split())
    first, second = (int(word, 16) for word in key.split())
    assert [f"{int(word[0]):08x}" for word in philox(words, (first, second))] == answer.split()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("images", "channels"), [(1, 1), (3, 17), (128, 512)])
def test_signs_are_the_bits_of_philox(seed: int, images: int, channels: int) -> None:
    for output, stream in ((False, SIGNS_IN), (True, SIGNS_OUT)):
        words = blocks(seed, stream, -(-images * channels // 128)).astype("<u4")
        bits = np.unpackbits(words.reshape(-1).view(np.uint8), bitorder="little")[: images * channels]
        expected = np.where(bits, 1.0, -1.0).reshape(images, channels)
        assert np.array_equal(OPS.signs(seed, output, images, channels).numpy(), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_normals_are_those_of_box_and_muller(seed: int) -> None:
    expected = normals(seed, 1_000_000 if seed == 0 else 5_000)
    got = OPS.normal(seed, len(expected)).numpy().astype(np.float64)
    # relative: 2 ulp of the logarithm and some for root and sine; near zero: the rounding of the angle's fold
    assert (np.abs(got - expected) <= 6e-7 * np.abs(expected) + 4e-7).all()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 4095, 4096, 4097, 100_003])
def test_a_part_equals_the_whole_and_threads_change_nothing(count: int) -> None:
    whole = OPS.normal(7, 200_000)
    signs = OPS.signs(7, False, 200_000, 1)
    mu, rho = torch.zeros(count), torch.linspace(-3, 3, count)
    perturbed = OPS.perturb(mu, rho, 7, 1.0)
    for number in (1, 2, 3):
        with threads(number):
            assert torch.equal(OPS.normal(7, count), whole[:count])
            assert torch.equal(OPS.signs(7, False, count, 1), signs[:count])
            assert all(map(torch.equal, OPS.perturb(mu, rho, 7, 1.0), perturbed))
    # the layers' perturbation is made of this very noise
    torch.testing.assert_close(perturbed[0], torch.nn.functional.softplus(rho) * whole[:count], rtol=1e-6, atol=0)


@pytest.fixture(scope="module")
def many() -> NDArray[np.float64]:
    return OPS.normal(layer_seed(NoiseKey(11), 3) - 2**63, MANY).numpy().astype(np.float64)


def test_moments(many: NDArray[np.float64]) -> None:
    squares = many * many
    scores = {
        "mean": many.mean() * MANY**0.5,
        "variance": (squares.mean() - 1) * (MANY / 2) ** 0.5,
        "skewness": (squares * many).mean() * (MANY / 15) ** 0.5,
        "kurtosis": ((squares * squares).mean() - 3) * (MANY / 96) ** 0.5,
    }
    assert max(map(abs, scores.values())) < BOUND, scores


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("sigmas", [1, 2, 3, 4, 4.5, 5])
def test_tails(many: NDArray[np.float64], side: int, sigmas: float) -> None:
    count, probability = int((side * many > sigmas).sum()), stats.norm.sf(sigmas)
    assert stats.binomtest(count, MANY, probability).pvalue > 1e-5, (count, MANY * probability)


def test_the_largest_values_are_far_out_and_finite(many: NDArray[np.float64]) -> None:
    assert many.max() > 5
    assert many.min() < -5
    assert np.abs(many).max() <= 6.77  # u >= 2^-33


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 128, 512, 4096])
def test_no_autocorrelation(many: NDArray[np.float64], lag: int, power: int) -> None:
    """Not of the values, and not of their squares (the two of a Box-Muller pair share a radius and lie 16 apart)."""
    values = many[:4_000_000] if power == 1 else (many[:4_000_000] ** 2 - 1) / 2**0.5
    assert abs((values[lag:] * values[:-lag]).mean()) * (len(values) - lag) ** 0.5 < BOUND


def test_seeds_layers_steps_and_ranks_draw_independently() -> None:
    count = 200_000
    seeds = [0, 1, 2, 3, 2**32, 2**33]
    seeds += [
        layer_seed(NoiseKey(1, step, rank), layer) - 2**63 for step in (0, 1) for rank in (0, 1) for layer in range(3)
    ]
    drawn = torch.stack([OPS.normal(seed, count) for seed in seeds]).double()
    for values in (drawn, (drawn.square() - 1) / 2**0.5):
        correlation = values @ values.T / count - torch.eye(len(seeds)) * values.square().mean(1)
        assert correlation.abs().max() * count**0.5 < 5


def test_signs_are_fair_and_independent_of_each_other_and_of_the_normals() -> None:
    count = 2_000_000
    seed = layer_seed(NoiseKey(5), 2) - 2**63
    drawn = [OPS.normal(seed, count), OPS.signs(seed, False, count, 1)[:, 0], OPS.signs(seed, True, count, 1)[:, 0]]
    drawn += [values.roll(shift) for values in drawn[1:] for shift in (1, 31, 32, 128)]
    together = torch.stack(drawn).double()
    correlation = together @ together.T / count
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() * count**0.5 < 5
    assert together.mean(1).abs().max() * count**0.5 < BOUND


def test_kolmogorov_and_smirnov(many: NDArray[np.float64]) -> None:
    assert stats.kstest(many[:2_000_000], "norm").pvalue > 1e-3
    # many small samples: their p-values are uniform
    small = [stats.kstest(OPS.normal(seed, 2_000).numpy().astype(np.float64), "norm").pvalue for seed in range(300)]
    assert stats.kstest(small, "uniform").pvalue > 1e-3


def test_pairs_point_in_all_directions(many: NDArray[np.float64]) -> None:
    pairs = many[:6_400_000].reshape(-1, 2, 2, 16)
    angle = np.arctan2(pairs[:, :, 1], pairs[:, :, 0]).reshape(-1)
    counts, _ = np.histogram(angle, bins=360, range=(-np.pi, np.pi))
    assert stats.chisquare(counts).pvalue > 1e-3
