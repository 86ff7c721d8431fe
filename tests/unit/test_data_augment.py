"""Augmentation: what becomes of an example depends on seed, step and example alone, and is what its name says."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.data import load_dataset
from bnn.data.augment import PADDING, augmented, key_bits
from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.settings import SettingsError, TrainSettings, parse_settings
from bnn.training.build import make_trainer

IMAGES = np.random.default_rng(1).integers(1, 256, (50, 2, 9, 7), dtype=np.uint8)


def one_by_one(image: np.ndarray, how: str, seed: int, step: int, example: int) -> np.ndarray:
    """The definition, an image at a time."""
    bits = int(key_bits(seed, step, np.array([example]))[0])
    if "flip" in how and bits & 1:
        image = image[:, :, ::-1]
    if "crop" in how:
        down, right = divmod((bits >> 1) % 81, 9)
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        image = padded[:, down : down + image.shape[1], right : right + image.shape[2]]
    return image


@given(
    st.sampled_from(["flip", "crop", "flip-crop"]), st.integers(0, 2**64 - 1), st.integers(0, 2**31),
    st.lists(st.integers(0, 49), min_size=1, max_size=8),
)  # fmt: skip
def test_an_example_is_augmented_by_its_key_alone(how, seed, step, examples):
    some = np.array(examples)
    result = augmented(IMAGES[some], some, how, seed, step)
    assert result.dtype == np.uint8
    for image, example in zip(result, examples, strict=True):
        np.testing.assert_array_equal(image, one_by_one(IMAGES[example], how, seed, step, example))


def test_all_outcomes_are_equally_likely_and_change_from_step_to_step():
    examples = np.arange(81 * 200)
    bits = key_bits(3, 5, examples)
    shifts = np.bincount(((bits >> np.uint64(1)) % np.uint64(81)).astype(int), minlength=81)
    assert shifts.min() > 200 - 5 * 200**0.5
    assert shifts.max() < 200 + 5 * 200**0.5
    assert abs((bits & np.uint64(1)).mean() - 0.5) < 5 * 0.5 / len(bits) ** 0.5
    for other in (key_bits(3, 6, examples), key_bits(4, 5, examples), key_bits(3, 5, examples + 1)):
        assert abs(((bits ^ other) & np.uint64(1)).mean() - 0.5) < 0.02
    assert Counter(key_bits(0, 0, examples).tolist()).most_common(1)[0][1] == 1
    assert PADDING == 4


def test_a_trainer_augments_its_batches_and_nothing_else():
    options = {"shape": [3, 8, 8], "size": 40, "test_size": 4, "classes": 3}
    data = load_dataset("synthetic", **options)
    common = {
        "dataset": "synthetic", "dataset_options": options, "model": "fc", "width": 0.05, "batch_size": 8,
        "engine": "single", "seed": 9,
    }  # fmt: skip
    schedule = Schedule(len(data.train), 8, 1, 1, 9)
    plain, changed = (
        make_trainer(TrainSettings(**common, augmentation=how), data, SingleEngine(), schedule)
        for how in ("none", "flip-crop")
    )
    images, labels = plain.batch(data.train, 2)
    moved, same = changed.batch(data.train, 2)
    indices = schedule.indices(2, 0)
    expected = augmented(data.train.images[indices], indices, "flip-crop", 9, 2)
    np.testing.assert_array_equal(np.rint(moved.numpy() * 255), expected)
    np.testing.assert_array_equal(np.rint(images.numpy() * 255), data.train.images[indices])
    np.testing.assert_array_equal(labels, same)
    assert not np.array_equal(images, moved)


def test_without_it_hashes_are_those_of_before_and_targets_are_never_left_behind():
    assert "augmentation" not in TrainSettings().science()
    assert TrainSettings(augmentation="flip").fingerprint() != TrainSettings().fingerprint()
    with pytest.raises(SettingsError, match="augmentation: flip would move images"):
        parse_settings({"model": "mine:net", "task": "segmentation", "augmentation": "flip"}, "settings")
