"""Sharding: who trains on what. And how pixels become numbers."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bnn.data.pipeline import Schedule
from bnn.errors import UserError
from bnn.inference.heldout import HeldOut

SHARDINGS = ["disjoint", "unsharded"]


@st.composite
def schedules(draw, sharding=None):
    n, batch, ranks = draw(st.integers(1, 300)), draw(st.integers(1, 20)), draw(st.integers(1, 6))
    epochs, seed = draw(st.integers(1, 4)), draw(st.integers(0, 2**64 - 1))
    sharding = sharding or draw(st.sampled_from(SHARDINGS))
    samples = n if sharding == "disjoint" else n // batch * batch
    assume(epochs * samples >= batch * ranks)
    return Schedule(n, batch, ranks, epochs, seed, sharding)


def stream(schedule):
    """Indices of all ranks, step after step: (steps, ranks, batch)."""
    return np.stack([[schedule.indices(s, r) for r in range(schedule.ranks)] for s in range(schedule.steps)])


@given(schedules("disjoint"))
def test_disjoint_epochs_hold_every_example_once_and_drop_less_than_a_step(schedule):
    flat = stream(schedule).ravel()
    assert schedule.epochs * schedule.n - flat.size < schedule.step_samples
    for start in range(0, flat.size, schedule.n):
        part = flat[start : start + schedule.n]
        assert np.unique(part).size == part.size
        assert 0 <= part.min() <= part.max() < schedule.n


@given(schedules("disjoint"))
def test_a_step_of_several_ranks_sees_what_a_step_of_one_does(schedule):
    alone = Schedule(schedule.n, schedule.step_samples, 1, schedule.epochs, schedule.seed)
    np.testing.assert_array_equal(stream(schedule).reshape(alone.steps, -1), stream(alone)[:, 0])


@given(schedules("unsharded"))
def test_unsharded_ranks_see_no_example_twice_within_their_own_pass(schedule):
    mine = stream(schedule)[:, 0].ravel()
    for start in range(0, mine.size, schedule.epoch_samples):
        part = mine[start : start + schedule.epoch_samples]
        assert np.unique(part).size == part.size


@given(schedules())
def test_epochs_follow_one_another_and_the_last_step_ends_the_last(schedule):
    epochs = [schedule.epoch(step) for step in range(schedule.steps)]
    assert epochs == sorted(epochs)
    assert epochs[-1] < schedule.epochs
    assert epochs[-1] == schedule.epochs - 1 or schedule.step_samples > schedule.epoch_samples
    assert schedule.completed(schedule.steps) == schedule.epochs
    done_before = [schedule.completed(step) for step in range(schedule.steps)]
    assert done_before == sorted(done_before)
    assert all(done <= epoch for done, epoch in zip(done_before, epochs, strict=True))
    if schedule.step_samples <= schedule.epoch_samples:
        assert done_before == epochs  # a step that begins an epoch has left less than one step of the one before
    assert schedule.ends_epoch(schedule.steps - 1)
    done = sum(schedule.ends_epoch(step) for step in range(schedule.steps))
    assert done <= schedule.epochs


@given(schedules())
def test_indices_do_not_depend_on_the_order_of_asking(schedule):
    last = schedule.indices(schedule.steps - 1, schedule.ranks - 1)
    stream(schedule)
    np.testing.assert_array_equal(schedule.indices(schedule.steps - 1, schedule.ranks - 1), last)


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_epochs_seeds_and_unsharded_ranks_differ(sharding):
    base, reseeded = Schedule(200, 10, 2, 3, 0, sharding), Schedule(200, 10, 2, 3, 1, sharding)
    per_pass = base.steps // 3 if sharding == "disjoint" else 20
    assert not np.array_equal(base.indices(0, 0), base.indices(per_pass, 0))
    assert not np.array_equal(base.indices(0, 0), reseeded.indices(0, 0))
    assert not np.array_equal(base.indices(0, 0), base.indices(0, 1))


@pytest.mark.parametrize(("batch", "steps"), [(256, 97), (128, 195)])
def test_the_paper_s_largest_runs_have_few_steps(batch, steps):
    # 64 epochs of CIFAR-10 on 128 nodes
    assert Schedule(50_000, batch, 128, 64, 0, "unsharded").steps == steps
    assert Schedule(50_000, batch, 128, 64, 0).steps == 64 * 50_000 // (batch * 128)


def test_a_step_may_be_larger_than_an_epoch():
    # batch 1,024 on 128 nodes of 100,000 images: nine steps make twelve epochs
    schedule = Schedule(100_000, 1024, 128, 12, 0)
    assert schedule.steps == 9
    assert schedule.epoch(8) == 11


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_a_training_set_without_a_step_is_refused(sharding):
    with pytest.raises(UserError, match="training set of 1,000 images gives no step in 1 epochs for batch 128 on 8"):
        Schedule(1_000, 128, 8, 1, 0, sharding)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Schedule(100, 1, 2, 1, 0).indices(0, 2)
    with pytest.raises(ValueError, match="batch_size=0"):
        Schedule(100, 0, 2, 1, 0)
    with pytest.raises(ValueError, match="out of range"):
        Schedule(100, 1, 2, 1, -1).indices(0, 0)
    with pytest.raises(UserError, match="sharding='shared'"):
        Schedule(100, 1, 2, 1, 0, "shared")


def test_pixels_become_numbers_between_0_and_1():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    (numbers,) = HeldOut(pixels, np.zeros(1, np.int64), np.zeros(1, np.int64), 1, "grey", "made up", None).blocks(1)
    assert numbers.numpy().dtype == np.float32
    np.testing.assert_allclose(numbers.numpy().ravel(), np.arange(256) / 255, rtol=1e-6)
