"""Reading the archive: whatever the file is, it is either read or refused in one line; nothing in it is run."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from bnn.interop.names import read_layers

Arrays = dict[str, np.ndarray]


def contents(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


GOOD = contents({"a/kernel:0": floats(2, 3), "b/moving_mean": floats(3), "b/moving_variance": floats(3)})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive") / "model.npz"


def refused(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_layers(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    return text


def test_layers_come_in_the_order_of_the_file(file: Path) -> None:
    file.write_bytes(contents({"z/kernel": floats(2, 3), "a/b/kernel:0": floats(1, 1, 2, 3), "z/bias": floats(3)}))
    layers, _ = read_layers(file)
    assert [(layer.name, layer.shape, sorted(layer.arrays)) for layer in layers] == [
        ("z", (2, 3), ["bias", "kernel"]),
        ("a/b", (1, 1, 2, 3), ["kernel"]),
    ]


@given(st.integers(0, len(GOOD) - 1))
def test_truncated_files_are_refused(file: Path, length: int) -> None:
    refused(file, GOOD[:length])


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(file: Path, place: int, change: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] ^= change
    file.write_bytes(damaged)
    layers = []
    with contextlib.suppress(UserError):
        layers, _ = read_layers(file)
    # the archive's checksums cover all values
    assert all((array == 1).all() for layer in layers for array in layer.arrays.values())


@given(st.binary(max_size=200))
def test_other_files_are_refused(file: Path, content: bytes) -> None:
    refused(file, content)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('a pickle was run')",))


def test_pickles_are_not_run(file: Path) -> None:
    refused(file, pickle.dumps(Bomb()))
    inner = io.BytesIO()
    np.save(inner, np.array([Bomb()], dtype=object), allow_pickle=True)
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("dense/kernel.npy", inner.getvalue())
    assert "dense/kernel" in refused(file, outer.getvalue())


POSTERIOR = {"c/kernel_posterior_loc": floats(2, 3), "c/kernel_posterior_untransformed_scale": floats(2, 3)}
NORM = {"n/moving_mean": floats(3), "n/moving_variance": floats(3)}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "holds no arrays"),
        ({"a/kernel": floats(2, 3), "a/kernel:0": floats(2, 3)}, "a/kernel: there are two"),
        ({"a/bias": floats(3)}, "no array a/kernel"),
        ({"a/kernel": floats(2, 3).astype(np.float16)}, "a/kernel is float16"),
        ({"a/kernel": np.full((2, 3), 1e39)}, "a/kernel contains infinity, or numbers too large"),
        ({"a/kernel": floats(1, 2, 3)}, r"a/kernel has shape (1, 2, 3), as no layer known here"),
        ({"a/kernel": floats(0, 3)}, "as no layer known here"),
        ({"a/depthwise_kernel": floats(3, 3, 2, 1)}, "a/depthwise_kernel: left over"),
        ({**POSTERIOR, "c/bias_posterior_untransformed_scale": floats(3)}, "a bias with a distribution"),
        ({**POSTERIOR, "c/kernel": floats(2, 3)}, "c/kernel: left over"),
        ({**POSTERIOR, "c/kernel_posterior_untransformed_scale": floats(3, 2)}, "has shape (3, 2), expected (2, 3)"),
        ({"n/gamma": floats(3), "n/beta": floats(3)}, "no array n/moving_mean"),
        ({**NORM, "n/gamma": floats(4)}, "n/gamma has shape (4,), expected (3,)"),
        ({**NORM, "n/moving_variance": -floats(3)}, "n/moving_variance contains negative values"),
    ],
)
def test_arrays_that_make_no_layer_are_named(file: Path, arrays: Arrays, words: str) -> None:
    assert words in refused(file, contents(arrays))
