"""Shifted images against other programs (colorsys, torch, Pillow, plain convolution), by hand, and byte for byte."""

from __future__ import annotations

import colorsys
import hashlib
import io
import itertools
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bnn.data import load_dataset
from bnn.errors import UserError
from bnn.inference.heldout import HeldOut
from bnn.inference.severities import KINDS, SEVERITIES, Shift
from bnn.inference.shift import rotated, shifted, shifted_pixels

DIGESTS = {
    "rotation": "81449736a4babe85",
    "blur": "c9ae0b5c332d4f19",
    "noise": "90e42d4a2a702dca",
    "contrast": "b11ba2f29424ba8a",
    "brightness": "298a50a7dfee3411",
}
ALL = [Shift(kind, severity) for kind in KINDS for severity in SEVERITIES]


def smooth(count: int = 6, channels: int = 3, side: int = 32) -> np.ndarray:
    """Images of a few waves each, of the whole range of values."""
    y, x = np.mgrid[0:side, 0:side] / side
    images = np.empty((count, channels, side, side), np.uint8)
    for image in range(count):
        for channel in range(channels):
            wave = np.sin(6 * x * (1 + image) + channel) * np.cos(5 * y + image)
            images[image, channel] = np.rint(127.5 * (1 + wave))
    return images


def apply(images: np.ndarray, shift: Shift, indices: np.ndarray | None = None) -> np.ndarray:
    return shifted_pixels(images, np.arange(len(images)) if indices is None else indices, shift)


@pytest.mark.parametrize("shift", ALL, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_the_same_bytes_in_any_company(
    shift: Shift, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = smooth(7, channels)
    before = images.tobytes()
    indices = np.array([3, 50, 7, 0, 9999, 8, 11])
    whole = apply(images, shift, indices)
    assert (whole.dtype, whole.shape) == (np.uint8, images.shape)
    order = [4, 1, 6]
    assert apply(images[order], shift, indices[order]).tobytes() == whole[order].tobytes()
    monkeypatch.setattr("bnn.inference.shift.BLOCK", 2)
    assert apply(images, shift, indices).tobytes() == whole.tobytes()
    assert images.tobytes() == before
    assert whole.tobytes() != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_changes_more(kind: str) -> None:
    """Of real digits, and, but for a rotation, which soon turns a wave into another one, of waves."""
    digits = load_dataset("mnist-sample").test.images[::10]
    for images in (digits,) if kind == "rotation" else (digits, smooth()):
        changes = [np.abs(apply(images, Shift(kind, s)).astype(int) - images).mean() for s in SEVERITIES]
        assert all(low < high for low, high in itertools.pairwise(changes)), changes


def test_the_severities_of_cifar_10_c() -> None:
    """As its make_cifar_c.py (hendrycks/robustness, revision ca360085) has them."""
    assert KINDS["noise"].values == (0.04, 0.06, 0.08, 0.09, 0.10)
    assert KINDS["blur"].values == (0.4, 0.6, 0.7, 0.8, 1)
    assert KINDS["contrast"].values == (0.75, 0.5, 0.4, 0.3, 0.15)
    assert KINDS["brightness"].values == (0.05, 0.1, 0.15, 0.2, 0.3)
    assert KINDS["jpeg"].values == (80, 65, 58, 50, 40)


COLOURS = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=9)


@given(COLOURS, st.sampled_from(SEVERITIES))
def test_brightness_is_that_of_colorsys(colours: list[tuple[int, int, int]], severity: int) -> None:
    """Python's own conversion to hue, saturation and value and back, pixel by pixel."""
    shift = Shift("brightness", severity)
    images = np.array(colours, np.uint8).T.reshape(1, 3, 1, -1)
    found = apply(images, shift)[0, :, 0].T
    for colour, got in zip(colours, found.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
        expected = [255 * part for part in colorsys.hsv_to_rgb(hue, saturation, min(1.0, value + shift.value))]
        assert np.abs(np.array(got) - expected).max() <= 0.5 + 1e-9


@given(st.lists(st.integers(0, 255), min_size=1, max_size=12), st.sampled_from(SEVERITIES))
def test_contrast_by_its_formula(values: list[int], severity: int) -> None:
    shift = Shift("contrast", severity)
    mean = sum(values) / len(values)
    found = apply(np.array(values, np.uint8).reshape(1, 1, 1, -1), shift).ravel()
    assert np.abs(found - [(value - mean) * shift.value + mean for value in values]).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_is_a_plain_convolution(severity: int) -> None:
    """Weights of a Gaussian up to four deviations, sum 1, along rows and columns of the image with repeated edges."""
    images, sigma = smooth(2), Shift("blur", severity).value
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(images.astype(float), ((0, 0), (0, 0), (radius, radius), (radius, radius)), mode="edge")
    side = images.shape[-1]
    rows = sum(w * padded[:, :, k : k + side] for k, w in enumerate(weights))
    expected = sum(w * rows[..., k : k + side] for k, w in enumerate(weights))
    assert np.abs(apply(images, Shift("blur", severity)) - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_its_size_and_is_its_images_own(severity: int) -> None:
    sigma = 255 * Shift("noise", severity).value
    grey = np.full((400, 3, 16, 16), 128, np.uint8)
    noise = apply(grey, Shift("noise", severity)).astype(float) - 128
    count = noise.size
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(count)
    assert noise.std() == pytest.approx(np.sqrt(sigma**2 + 1 / 12), rel=5 / np.sqrt(2 * count))  # and the rounding's
    pairs = np.corrcoef(noise.reshape(400, -1))[np.triu_indices(400, 1)]
    assert np.abs(pairs).max() < 6 / np.sqrt(3 * 16 * 16)


def test_a_quarter_turn_is_numpys() -> None:
    images = smooth()
    np.testing.assert_allclose(rotated(images, np.arange(6), 90), np.rot90(images, axes=(2, 3)), atol=1e-9)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_rotation_is_torchs_within_the_image(severity: int) -> None:
    """grid_sample, bilinear, on the pixels that come from inside; 0 where they come from outside."""
    images, shift = smooth(), Shift("rotation", severity)
    angle = torch.deg2rad(torch.tensor(float(shift.value), dtype=torch.float64))
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0]], dtype=torch.float64)
    grid = torch.nn.functional.affine_grid(turn.expand(len(images), 2, 3), list(images.shape), align_corners=True)
    expected = torch.nn.functional.grid_sample(torch.from_numpy(images).double(), grid, align_corners=True).numpy()
    inside = (grid.abs() <= 1 - 1e-9).all(-1).numpy()[:, None] & np.ones(3, bool)[:, None, None]
    outside = (grid.abs() > 1 + 1e-9).any(-1).numpy()[:, None] & np.ones(3, bool)[:, None, None]
    found = apply(images, shift)
    assert inside.mean() > 0.5
    assert np.abs(found - expected)[inside].max() <= 0.5 + 1e-6
    assert (found[outside] == 0).all()
    assert outside.any()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_jpeg_is_pillows(channels: int, mode: str) -> None:
    images = smooth(3, channels)
    found = apply(images, Shift("jpeg", 5))
    for image, got in zip(images, found, strict=True):
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(file, format="JPEG", quality=40)
        read = Image.open(file)
        assert read.mode == mode
        assert np.array_equal(np.asarray(read).reshape(32, 32, channels).transpose(2, 0, 1), got)


def test_bytes_are_what_they_were() -> None:
    """Records of before compare with those of today only while this holds. (JPEG's bytes are its library's.)"""
    images = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (6, 3, 16, 16), np.uint8)
    digests = {
        kind: hashlib.sha256(b"".join(apply(images, Shift(kind, s)).tobytes() for s in SEVERITIES)).hexdigest()[:16]
        for kind in KINDS
        if kind != "jpeg"
    }
    assert digests == DIGESTS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fog:1", "no kind 'fog'; give KIND:SEVERITY, KIND one of rotation, blur, noise, contrast, brightness, jpeg"),
        ("blur", "no severity ''; give blur:1 to blur:5"),
        ("blur:0", "no severity '0'"),
        ("blur:6", "no severity '6'"),
        ("blur:1:2", "no severity '1:2'"),
        ("", "no kind ''"),
    ],
)
def test_what_is_no_shift_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"give") as caught:
        Shift.parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("shift", ALL, ids=str)
def test_a_shift_is_read_as_it_is_written(shift: Shift) -> None:
    assert Shift.parse(str(shift)) == shift


def held(images: np.ndarray) -> HeldOut:
    count = len(images)
    return HeldOut(images, np.zeros(count, np.int64), np.arange(count), 2, "shapes", "made up", None)


def test_images_that_jpeg_cannot_hold_are_named() -> None:
    with pytest.raises(UserError, match=r"--shift jpeg:2: JPEG holds images of 1 or 3 channels, these have 4"):
        shifted(held(smooth(2, 4)), Shift("jpeg", 2))


def test_only_jpeg_needs_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "PIL" or name.startswith("PIL.")]:
        monkeypatch.setitem(sys.modules, name, None)
    for kind in KINDS:
        if kind != "jpeg":
            shifted(held(smooth(2)), Shift(kind, 1))
    with pytest.raises(UserError, match=r"--shift jpeg:1: Pillow, which reads and writes JPEG, cannot be loaded"):
        shifted(held(smooth(2)), Shift("jpeg", 1))


def test_the_source_says_what_was_done() -> None:
    assert shifted(held(smooth(2)), Shift("blur", 3)).source == (
        "made up; shifted by blur, severity 3: 0.7, standard deviation of a Gaussian in pixels, edges repeated"
    )
    assert (
        "40, quality of a JPEG file that is written and read (libjpeg"
        in shifted(held(smooth(2)), Shift("jpeg", 5)).source
    )
