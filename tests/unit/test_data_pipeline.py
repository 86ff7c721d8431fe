"""Sharding: who trains on what. And the synthetic data set, made for any shape."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bnn.data.pipeline import epoch_indices, normalise, steps_per_epoch
from bnn.errors import UserError

sizes = st.integers(1, 500)
batches = st.integers(1, 20)
rank_counts = st.integers(1, 8)
seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 2**32 - 1)
shardings = st.sampled_from(["disjoint", "unsharded"])


def all_ranks(n, batch, ranks, epoch, seed, sharding):
    assume(n >= batch * ranks)
    return [epoch_indices(n, batch, ranks, rank, epoch, seed, sharding) for rank in range(ranks)]


@given(sizes, batches, rank_counts, epochs, seeds, shardings)
def test_every_rank_has_equal_steps_and_no_example_twice(n, batch, ranks, epoch, seed, sharding):
    shards = all_ranks(n, batch, ranks, epoch, seed, sharding)
    steps = steps_per_epoch(n, batch, ranks, sharding)
    for shard in shards:
        assert shard.shape == (steps, batch)
        assert np.unique(shard).size == shard.size
        assert 0 <= shard.min() <= shard.max() < n


@given(sizes, batches, rank_counts, epochs, seeds)
def test_disjoint_shards_cover_all_but_less_than_one_step(n, batch, ranks, epoch, seed):
    together = np.concatenate([s.ravel() for s in all_ranks(n, batch, ranks, epoch, seed, "disjoint")])
    assert np.unique(together).size == together.size > n - batch * ranks


@given(sizes, batches, rank_counts, epochs, seeds)
def test_a_step_of_several_ranks_sees_what_a_step_of_one_does(n, batch, ranks, epoch, seed):
    shards = all_ranks(n, batch, ranks, epoch, seed, "disjoint")
    alone = epoch_indices(n, batch * ranks, 1, 0, epoch, seed)
    np.testing.assert_array_equal(np.concatenate(shards, axis=1), alone)


@given(sizes, batches, rank_counts, epochs, seeds, shardings)
def test_indices_are_repeatable(n, batch, ranks, epoch, seed, sharding):
    for first, again in zip(*(all_ranks(n, batch, ranks, epoch, seed, sharding) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(first, again)


@given(st.integers(0, 2**20), st.integers(0, 2**20), st.integers(0, 2**20), shardings)
def test_epochs_and_seeds_differ(epoch, other, seed, sharding):
    assume(epoch != other)
    first, later = (epoch_indices(200, 10, 2, 0, number, seed, sharding) for number in (epoch, other))
    assert not np.array_equal(first, later)
    reseeded = epoch_indices(200, 10, 2, 0, epoch, seed + 1, sharding)
    assert not np.array_equal(first, reseeded)


@given(st.integers(0, 2**20), seeds)
def test_unsharded_ranks_shuffle_for_themselves(epoch, seed):
    first, second = (epoch_indices(400, 10, 2, rank, epoch, seed, "unsharded") for rank in range(2))
    assert not np.array_equal(first, second)
    assert np.intersect1d(first, second).size > 0  # halves drawn from the whole: 2^-390 that they do not meet


def test_the_paper_s_largest_runs_have_few_steps_an_epoch():
    # 128 nodes, batch 256, 50,000 images: 1 step; batch 128: 3.
    assert steps_per_epoch(50_000, 256, 128, "unsharded") == 1
    assert steps_per_epoch(50_000, 128, 128, "unsharded") == 3


@pytest.mark.parametrize("sharding", ["disjoint", "unsharded"])
def test_a_training_set_without_a_step_is_refused(sharding):
    with pytest.raises(UserError, match="training set of 1,000 images gives no step for batch 128 on 8 ranks"):
        epoch_indices(1_000, 128, 8, 0, 0, 0, sharding)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="rank 2 of 2"):
        epoch_indices(100, 1, 2, 2, 0, 0)
    with pytest.raises(ValueError, match="batch_size=0"):
        steps_per_epoch(100, 0, 2)
    with pytest.raises(ValueError, match="out of range"):
        epoch_indices(100, 1, 2, 0, 0, -1)
    with pytest.raises(UserError, match="sharding='shared'"):
        steps_per_epoch(100, 1, 2, "shared")


def test_pixels_become_numbers_between_0_and_1():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    numbers = normalise(pixels)
    assert numbers.dtype == np.float32
    np.testing.assert_allclose(numbers.ravel(), np.arange(256) / 255, rtol=1e-6)
