"""AUROC, AUPR and FPR95 against scikit-learn and SciPy, with ties, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from bnn.inference.detection import detection

# Few values: ties within and between; and any.
SCORES = st.one_of(
    st.lists(st.integers(0, 3).map(float), min_size=1, max_size=40),
    st.lists(st.floats(0, 3, allow_subnormal=False), min_size=1, max_size=40),
)


@given(SCORES, SCORES)
def test_all_measures_are_those_of_scikit_learn(inside: list[float], outside: list[float]) -> None:
    found = detection(np.array(inside), np.array(outside))
    scores, is_outside = np.array(inside + outside), np.repeat([0, 1], [len(inside), len(outside)])
    assert found.auroc == pytest.approx(roc_auc_score(is_outside, scores), abs=1e-12)
    assert found.aupr_out == pytest.approx(average_precision_score(is_outside, scores), abs=1e-12)
    assert found.aupr_in == pytest.approx(average_precision_score(1 - is_outside, -scores), abs=1e-12)
    wrong, right, _ = roc_curve(1 - is_outside, -scores, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(wrong[np.argmax(right >= 0.95 - 1e-12)], abs=1e-12)
    pairs = mannwhitneyu(outside, inside).statistic
    assert found.auroc == pytest.approx(pairs / (len(inside) * len(outside)), abs=1e-12)


def test_by_hand() -> None:
    """Inside 0 and 1, outside 1 and 2: of four pairs three are right and one is a tie."""
    found = detection(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    assert found.auroc == 3.5 / 4
    assert found.fpr95 == 0.5  # both inside pass at 1, and with them one of the others
    assert found.aupr_out == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert found.aupr_in == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_extremes() -> None:
    low, high = np.linspace(0, 1, 50), np.linspace(2, 3, 20)
    apart = detection(low, high)
    assert (apart.auroc, apart.aupr_in, apart.aupr_out, apart.fpr95) == (1, 1, 1, 0)
    assert (detection(high, low).auroc, detection(high, low).fpr95) == (0, 1)
    alike = detection(np.zeros(30), np.zeros(10))
    assert (alike.auroc, alike.aupr_in, alike.aupr_out, alike.fpr95) == (0.5, 0.75, 0.25, 1)
