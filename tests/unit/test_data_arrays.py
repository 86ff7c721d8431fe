"""Arrays of one's own: what they say is what is trained on, and what they cannot mean is refused by name."""

import contextlib
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.numpy import save_file

from bnn.data import dataset_name, load_dataset, prepare_dataset
from bnn.data.mapped import open_mapped
from bnn.data.own import FACTS, PREPARED
from bnn.data.tensors import arrays_of
from bnn.errors import UserError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (12, 3, 5, 6), dtype=np.uint8)
LABELS = np.arange(12) % 3
GOOD = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:6], "test_labels": LABELS[:6]}


def saved(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)
    else:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def prepared(path: Path, data_dir: Path | None = None, **options):
    folder = data_dir or path.parent / "data"
    prepare_dataset("arrays", folder, console=Console(file=io.StringIO()), path=path, **options)
    return load_dataset("arrays", folder, **{"name": dataset_name("arrays", {"path": path, **options})})


def test_what_is_meant_must_be_one_thing(tmp_path):
    both = saved(tmp_path / "both.npz", GOOD | {"x_train": IMAGES})
    assert "has train_images and x_train" in refused(both)
    one = saved(tmp_path / "one.npz", {"images": IMAGES, "labels": LABELS})
    (tmp_path / "link.npz").symlink_to(one)
    for again in (one, tmp_path / "link.npz"):
        assert "is for training and, by test_path, for testing" in refused(one, test_path=again)


def test_files_of_somebody_else_are_not_replaced(tmp_path):
    path = saved(tmp_path / "set.npz", GOOD)
    folder = tmp_path / "data" / "set" / PREPARED
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"has 'thesis\.tex', which no prepared data set has"):
        prepared(path)
    assert (folder / "thesis.tex").read_text() == "mine"


def refused(path: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        prepare_dataset("arrays", path.parent / "data", console=Console(file=io.StringIO()), path=path, **options)
    assert "\n" not in str(caught.value)
    assert not list((path.parent / "data").glob(f"*/{PREPARED}"))
    return str(caught.value)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_all_forms_of_the_same_images_are_the_same_data_set(tmp_path, ending):
    last = {name: a.transpose(0, 2, 3, 1) if a.ndim == 4 else a.astype(np.uint8) for name, a in GOOD.items()}
    keras = {"xy"["labels" in name] + "_" + name.split("_")[0]: array for name, array in last.items()}
    floats = {name: (a / 255).astype(np.float32) if a.ndim == 4 else a for name, a in GOOD.items()}
    made = []
    for number, arrays in enumerate((GOOD, last, keras | {"names": np.array([1, 2])}, floats)):
        (tmp_path / str(number)).mkdir()
        made.append(prepared(saved(tmp_path / str(number) / f"set.{ending}", arrays)))
    train, test = ({n.split("_")[1]: a for n, a in GOOD.items() if n.startswith(part)} for part in ("train", "test"))
    one = saved(tmp_path / f"set.{ending}", train)
    made.append(prepared(one, test_path=saved(tmp_path / f"test.{ending}", test)))
    assert len({data.checksum for data in made}) == 1
    np.testing.assert_array_equal(made[0].train.images, IMAGES)
    np.testing.assert_array_equal(made[0].test.labels, LABELS[:6])
    assert (made[0].name, made[0].classes, made[0].input_shape) == ("set", 3, (3, 5, 6))


def test_a_share_for_testing_is_of_each_class_and_leaves_rows_together(tmp_path):
    images = np.arange(60, dtype=np.uint8).repeat(4).reshape(60, 2, 2)
    labels = np.arange(60) % 3
    data = prepared(saved(tmp_path / "set.npz", {"images": images, "labels": labels}), test_share=0.25)
    assert np.bincount(data.test.labels).tolist() == [5, 5, 5]
    assert len(data.train) == 45
    for split in (data.train, data.test):
        numbers = split.images[:, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(numbers % 3, split.labels)
        assert (np.diff(numbers) > 0).all()
    assert data.input_shape == (1, 2, 2)


def test_segmentations_and_regressions(tmp_path):
    pixels = RANDOM.integers(0, 4, (12, 5, 6))
    pixels[0, 0, 0] = 3
    one = prepared(saved(tmp_path / "pixels.npz", GOOD | {"train_labels": pixels, "test_labels": pixels[:6]}))
    assert (one.task, one.classes) == ("segmentation", 4)
    np.testing.assert_array_equal(one.train.labels, pixels)
    values = RANDOM.normal(size=(12, 2))
    two = prepared(saved(tmp_path / "values.npz", GOOD | {"train_labels": values, "test_labels": values[:6]}))
    assert (two.task, two.classes) == ("regression", 2)
    np.testing.assert_array_equal(two.test.labels, values[:6].astype(np.float32))


def test_floats_become_256_steps_and_that_is_said(tmp_path):
    images = np.linspace(0, 1, IMAGES.size).reshape(IMAGES.shape)
    path = saved(tmp_path / "set.npz", GOOD | {"train_images": images, "test_images": images[:6]})
    data = prepared(path)
    assert np.abs(data.train.images / 255 - images).max() < 0.5 / 255 + 1e-9
    assert (
        "floats became 256 steps; the largest change is 0.002" in (tmp_path / "data/set" / PREPARED / FACTS).read_text()
    )


def of(name: str, array: object) -> dict[str, object]:
    return {name: np.asarray(array)}


FLOATS = (IMAGES / 255).astype(np.float32)


def with_value(value: float) -> np.ndarray:
    images = FLOATS.copy()
    images[7, 1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        (of("train_images", with_value(np.nan)), {}, ["train_images", "image 7 has nan", "not in [0, 1]"]),
        (of("train_images", with_value(np.inf)), {}, ["train_images", "image 7 has inf"]),
        (of("train_images", with_value(-0.1)), {}, ["train_images", "image 7 has -0.1"]),
        (of("train_images", IMAGES.astype(np.float32)), {}, ["train_images", "image 0 has", "not in [0, 1]"]),
        (of("train_images", IMAGES.astype(np.int64)), {}, ["train_images: int64", "uint8, or floats"]),
        (of("train_images", IMAGES[0, 0]), {}, ["train_images", "(5, 6)"]),
        (of("train_images", IMAGES[:, :, :4]), {}, ["train_images (12, 3, 4, 6)", "test_images (6, 3, 5, 6)", "alike"]),
        (of("train_images", IMAGES[:, :, :, :3]), {}, ["(12, 3, 5, 3)", "option layout"]),
        (of("train_images", IMAGES[:0]), {}, ["(0, 3, 5, 6)"]),
        (of("train_images", IMAGES[:, :2]), {}, ["(12, 2, 5, 6)", "option layout"]),
        (of("train_labels", LABELS[:11]), {}, ["train_labels", "11 rows for 12 images"]),
        (of("train_labels", LABELS - 1), {}, ["train_labels", "label -1 of row 0", "out of range"]),
        (of("train_labels", LABELS * 10**9), {}, ["train_labels", "label 1000000000 of row 1"]),
        (of("test_labels", LABELS[:6] + 1), {}, ["test_labels", "label 3 of row 2 is out of range: 0 to 2"]),
        ({}, {"classes": 2}, ["train_labels", "label 2 of row 2 is out of range: 0 to 1"]),
        ({}, {"classes": 5}, ["train_labels", "class 3 has no images for train"]),
        (of("train_labels", LABELS * 2), {}, ["train_labels", "class 1 has no images for train; the"]),
        (of("test_labels", LABELS[:6] * 0), {}, ["test_labels", "class 1 has no images for test"]),
        (of("train_labels", LABELS * 0), {}, ["train_labels", "one class alone"]),
        (of("train_labels", LABELS * 1.0), {}, ["train_labels: float64 (12,)", "neither whole numbers"]),
        (of("train_labels", np.eye(3)[LABELS]), {}, ["not alike"]),
        (of("train_labels", LABELS.astype(object)), {}, ["values of type object, not numbers"]),
        (of("train_labels", LABELS.astype(str)), {}, ["not numbers"]),
        (of("train_images", np.asfortranarray(IMAGES)), {}, ["Fortran"]),
        ({"train_labels": None}, {}, ["no array train_labels (only test_images, test_labels, train_images)"]),
        ({"train_images": None}, {}, ["no array train_images", "test_path"]),
        ({}, {"test_share": 0.5}, ["test_share are for files without"]),
    ],
    ids=str,
)  # fmt: skip
def test_arrays_that_cannot_be_meant_are_refused_by_name(tmp_path, changes, options, words):
    arrays = {name: array for name, array in (GOOD | changes).items() if array is not None}
    text = refused(saved(tmp_path / "set.npz", arrays), **options)
    assert text.startswith(str(tmp_path / "set.npz"))
    assert all(word in text for word in words), text


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=118) | st.text("{}[]()'\",: \n\\ab1", min_size=1, max_size=118).map(str.encode))
def test_a_prepared_file_with_any_header_is_read_or_refused(tmp_path_factory, header):
    path = tmp_path_factory.mktemp("mapped") / "some.npy"
    np.save(path, IMAGES)
    content = bytearray(path.read_bytes())
    content[10 : 10 + len(header)] = header  # after numpy's magic string and the length
    path.write_bytes(content)
    said = ""
    try:
        assert open_mapped(path, IMAGES.shape, np.uint8).shape == IMAGES.shape
    except UserError as error:
        said = str(error)
    assert not said or (said.startswith(str(path)) and "\n" not in said)


def test_values_of_a_regression_must_be_finite(tmp_path):
    for value in (np.nan, np.inf, 1e300):
        values = np.zeros((12, 2))
        values[4, 1] = value
        text = refused(
            saved(
                tmp_path / "set.npz",
                GOOD | {"train_labels": values, "test_labels": values[:4, :]} | {"test_images": IMAGES[:4]},
            )
        )
        assert "row 4 has NaN, infinity" in text


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = saved(tmp_path / "set.npz", GOOD | {"train_labels": np.array([Trap()], dtype=object)})
    assert "type object, not numbers" in refused(path)
    path.write_bytes(pickle.dumps(Trap()))
    refused(path)
    assert not (tmp_path / "sprung").exists()


def test_a_path_must_lead_to_a_file_of_arrays(tmp_path):
    assert "does not exist" in refused(tmp_path / "set.npz")
    for name in ("a.npz", "a.safetensors", "a.npy"):
        os.mkfifo(tmp_path / name)
        assert "a named pipe" in refused(tmp_path / name)
    np.save(tmp_path / "b.npy", IMAGES)
    assert "neither a .npz nor a .safetensors file" in refused(tmp_path / "b.npy")
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    assert "truncated, damaged or another kind" in refused(tmp_path / "b.npz")
    one = saved(tmp_path / "c.npz", {"images": IMAGES, "labels": LABELS})
    assert "no such file" in refused(one, test_path=tmp_path / "missing.npz").lower()


def test_a_bomb_is_refused_by_its_header(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (2**30, 2**12, 1, 1)}
    )
    for claimed in (b"", bytes(100_000)):
        with zipfile.ZipFile(tmp_path / "set.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("train_images.npy", stream.getvalue() + claimed)
        assert "its header asks for 4,398,046,511" in refused(tmp_path / "set.npz")
    header = b'{"train_images":{"dtype":"U8","shape":[1099511627776,4,4],"data_offsets":[0,17592186044416]}}'
    (tmp_path / "set.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "truncated, damaged or another kind" in refused(tmp_path / "set.safetensors")


def whole(ending: str, folder: Path) -> bytes:
    return saved(folder / f"whole.{ending}", GOOD).read_bytes()


@settings(max_examples=60)
@given(st.sampled_from(["npz", "safetensors"]), st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path_factory, ending, share):
    folder = tmp_path_factory.mktemp("cut")
    content = whole(ending, folder)
    (folder / f"set.{ending}").write_bytes(content[: int(share * len(content))])
    refused(folder / f"set.{ending}")


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_a_changed_byte_of_an_npz_is_noticed_or_harmless(tmp_path_factory, place, change):
    folder = tmp_path_factory.mktemp("changed")
    damaged = bytearray(whole("npz", folder))
    damaged[place % len(damaged)] ^= change
    (folder / "set.npz").write_bytes(damaged)
    with contextlib.suppress(UserError):
        np.testing.assert_array_equal(prepared(folder / "set.npz").train.images, IMAGES)


HEADERS = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda descr, order, shape: repr({"descr": descr, "fortran_order": order, "shape": shape}).encode(),
        st.sampled_from(["|u1", "<f4", "|O", "<U3", ">i8", "V8", [("a", "<i4")], "nonsense"]),
        st.booleans(),
        st.one_of(st.lists(st.integers(-2, 2**70), max_size=5).map(tuple), st.just("x"), st.just((1.5,))),
    ),
)


@given(HEADERS, st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]), st.binary(max_size=50))
def test_any_header_of_an_npz_is_read_or_refused(tmp_path_factory, header, version, content):
    path = tmp_path_factory.mktemp("header") / "set.npz"
    length = struct.pack("<H", len(header)) if version[0] == 1 else struct.pack("<I", len(header))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY" + version + length + header + content)
    with contextlib.suppress(UserError):
        (array,) = arrays_of(path, {"images"}).values()
        assert sum(piece.nbytes for _, piece in array.pieces()) <= len(content)


@given(st.binary(max_size=300), st.sampled_from(["npz", "safetensors"]))
def test_any_bytes_are_refused(tmp_path_factory, content, ending):
    path = tmp_path_factory.mktemp("any") / f"set.{ending}"
    path.write_bytes(content)
    refused(path)
