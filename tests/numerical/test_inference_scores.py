"""The debiased calibration error and selective prediction: by hand, by enumeration, and against others' programs."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.inference.reliability import debiased_calibration_error, reliability, squared_calibration_error
from bnn.inference.selective import accuracy_at_coverage, area_under_risks, risks

TENTHS = st.tuples(st.integers(0, 10).map(lambda k: k / 10), st.booleans())


def sure(confidence: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of classes 0 and 1 (not normalized) whose largest is `confidence`, and labels."""
    return np.stack([confidence, np.full(len(confidence), -1.0)], axis=1), np.where(right, 0, 1)


@pytest.mark.parametrize(
    ("seed", "images", "squared"),
    [(0, 200, 0.01520470314185592), (1, 40, 0.036559080046705425), (2, 1000, 0.010867662330340854)],
)
def test_the_debiased_error_is_that_of_kumars_program(seed: int, images: int, squared: float) -> None:
    """`unbiased_square_ce` of uncertainty-calibration 0.1.4 (the authors' package) with 15 equal bins."""
    generator = np.random.default_rng(seed)
    confidence = np.round(generator.uniform(0.35, 1, images), 6)
    right = generator.uniform(size=images) < confidence**1.5
    table = reliability(*sure(confidence.tolist(), right.tolist()))
    assert squared_calibration_error(table) == pytest.approx(squared, rel=1e-9)
    assert debiased_calibration_error(table) == pytest.approx(math.sqrt(squared), rel=1e-9)


@pytest.mark.parametrize(("images", "confidence", "chance"), [(2, 0.75, 0.5), (3, 0.75, 0.75), (5, 1.0, 0.25)])
def test_the_square_has_no_bias(images: int, confidence: float, chance: float) -> None:
    """Over all outcomes of one bin's images, weighted by their probability."""
    expected = 0.0
    for outcome in itertools.product([False, True], repeat=images):
        weight = math.prod(chance if right else 1 - chance for right in outcome)
        expected += weight * squared_calibration_error(reliability(*sure([confidence] * images, list(outcome))))
    assert expected == pytest.approx((confidence - chance) ** 2, abs=1e-12)


def test_debiased_errors_by_hand() -> None:
    """Bin of 0.9: four images, three right: (0.15^2 - 0.25 * 0.75 / 3) < 0. A bin of one image counts as 0."""
    four = sure([0.9] * 4, [True, True, True, False])
    assert squared_calibration_error(reliability(*four)) == pytest.approx(0.0225 - 0.0625)
    assert debiased_calibration_error(reliability(*four)) == 0
    with_one = sure([1.0, 1.0, 0.5], [False, False, False])
    assert debiased_calibration_error(reliability(*with_one)) == pytest.approx(math.sqrt(2 / 3))


def test_risks_by_hand() -> None:
    """Most confident first: right, then a wrong and a right one alike, then a wrong one."""
    risk = risks(*sure([0.6, 0.9, 0.6, 0.2], [False, True, True, False]))
    np.testing.assert_allclose(risk, [0, 1 / 4, 1 / 3, 1 / 2])
    assert area_under_risks(risk) == pytest.approx((0 + 1 / 4 + 1 / 3 + 1 / 2) / 4)
    assert accuracy_at_coverage(risk, 50) == pytest.approx(3 / 4)
    assert accuracy_at_coverage(risk) == pytest.approx(1 / 2)  # 90% of four images are all of them
    assert accuracy_at_coverage(risk, 75) == pytest.approx(2 / 3)


def test_90_percent_of_any_number_of_images() -> None:
    """As few as are at least that share, in whole numbers: 0.9 * 70 is a little more than 63 in floating point."""
    for images in range(1, 400):
        risk = np.arange(images, dtype=float)
        assert 1 - accuracy_at_coverage(risk) == math.ceil(Fraction(9, 10) * images) - 1


@given(st.lists(TENTHS, min_size=1, max_size=6))
def test_images_alike_count_as_their_random_orders_do_on_average(cases: list[tuple[float, bool]]) -> None:
    """The curve of every order of the images that their confidence allows, one by one, and the mean of all."""
    confidence, right = (list(column) for column in zip(*cases, strict=True))
    curves = []
    for order in itertools.permutations(range(len(cases))):
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order)):
            wrong = np.array([not right[place] for place in order], dtype=float)
            curves.append(np.cumsum(wrong) / np.arange(1, len(order) + 1))
    np.testing.assert_allclose(risks(*sure(confidence, right)), np.mean(curves, axis=0), atol=1e-12)


@given(st.lists(TENTHS, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_images_plays_no_part(cases: list[tuple[float, bool]], random: object) -> None:
    other = list(cases)
    random.shuffle(other)  # type: ignore[attr-defined]
    one, again = (risks(*sure(*(list(column) for column in zip(*given_, strict=True)))) for given_ in (cases, other))  # type: ignore[arg-type]
    assert one.tolist() == again.tolist()
    assert one[-1] == pytest.approx(np.mean([not right for _, right in cases]))


@given(st.integers(2, 60), st.integers(0, 2**32))
def test_the_curve_is_torch_uncertaintys_where_no_images_are_alike(images: int, seed: int) -> None:
    """Its AURC is trapz(cumsum(errors) / k over k / n) / (1 - 1 / n): ours has the halves of both ends, too."""
    generator = np.random.default_rng(seed)
    confidence, right = generator.permutation(images) / images, generator.uniform(size=images) < 0.7
    errors = ~right[np.argsort(-confidence)]
    curve = np.cumsum(errors) / np.arange(1, images + 1)
    theirs = np.trapezoid(curve, np.arange(1, images + 1) / images) / (1 - 1 / images)
    ours = area_under_risks(risks(*sure(confidence.tolist(), right.tolist())))
    assert ours * images == pytest.approx(theirs * (images - 1) + (curve[0] + curve[-1]) / 2)
