"""Predictive statistics against plain float64 formulas over all draws at once, and worked by hand."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassCalibrationError

from bnn.errors import UserError
from bnn.inference.measures import PredictiveStatistics
from bnn.inference.reliability import BINS, calibration_error, reliability
from bnn.records.columns import read_table, write_table
from bnn.records.inference import DRAWS, IMAGES, PREDICTIONS, RELIABILITY, InferenceSummary

LN2 = math.log(2)
EDGES = torch.linspace(0, 1, BINS + 1, dtype=torch.float64).tolist()
close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)


@st.composite
def predictions(draw: st.DrawFn, most: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities float32 (draws, images, classes), labels): from nearly uniform to one-hot, zeros among them."""
    draws, images, classes = draw(st.integers(1, most)), draw(st.integers(1, 7)), draw(st.integers(2, 20))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = generator.normal(size=(draws, images, classes)) * draw(st.sampled_from([0, 1e-6, 1, 30, 1000]))
    probabilities = np.exp(logits - logits.max(axis=2, keepdims=True))
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    return probabilities.astype(np.float32), generator.integers(classes, size=images)


def added(probabilities: np.ndarray, labels: np.ndarray, cuts: tuple[int, ...] = ()) -> PredictiveStatistics:
    """The statistics of draws that are added in pieces, cut before the draws `cuts`."""
    _, images, classes = probabilities.shape
    statistics = PredictiveStatistics(images, classes, labels)
    for piece in np.split(probabilities, sorted(cuts)):
        statistics.add(statistics.count, piece)
    return statistics


@given(predictions(), st.data())
def test_the_same_bits_however_the_draws_are_divided(case: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    probabilities, labels = case
    cuts = data.draw(st.lists(st.integers(0, len(probabilities)), max_size=6))
    whole, pieces = added(*case), added(probabilities, labels, tuple(cuts))
    other_layout = added(np.asfortranarray(probabilities), labels)
    for other in (pieces, other_layout):
        for table in ("images", "predictions", "draws"):
            expected, actual = getattr(whole, table)(), getattr(other, table)()
            pd.testing.assert_frame_equal(actual, expected, check_exact=True)
        assert other.summary() == whole.summary()


@given(predictions())
def test_agrees_with_the_plain_formulas(case: tuple[np.ndarray, np.ndarray]) -> None:
    p, labels = case[0].astype(np.float64), case[1]
    draws, images, classes = p.shape
    statistics = added(*case)
    mean, truth = p.mean(axis=0), p[:, np.arange(images), labels]

    def entropies(q: np.ndarray) -> np.ndarray:
        return -(q * np.log(np.where(q > 0, q, 1))).sum(axis=-1)

    votes = p.argmax(axis=2)
    right = (votes == labels).astype(float)
    most = np.array([np.bincount(column).max() for column in votes.T])
    table = statistics.images()
    close(statistics.probability, mean)
    close(table["probability_label"], truth.mean(axis=0))
    close(table["predictive_entropy"], entropies(mean))
    close(table["mutual_information"], entropies(mean) - entropies(p).mean(axis=0))
    close(table["variation_ratio"], 1 - most / draws)
    close(table["accuracy_single_draw"], right.mean(axis=0))
    nll = -np.log(np.maximum(truth, 1e-300))
    close(statistics.draws()["nll"], nll.mean(axis=1))
    so_far = np.cumsum(truth, axis=0) / np.arange(1, draws + 1)[:, None]
    close(statistics.draws()["nll_so_far"], -np.log(np.maximum(so_far, 1e-300)).mean(axis=1))
    close(statistics.draws()["accuracy"], right.mean(axis=1))
    summary = statistics.summary()
    expected = {
        "accuracy": (statistics.probability.argmax(axis=1) == labels).mean(),
        "accuracy_single_draw": right.mean(),
        "nll": -np.log(np.maximum(truth.mean(axis=0), 1e-300)).mean(),
        "nll_single_draw": nll.mean(),
        "brier": ((mean - np.eye(classes)[labels]) ** 2).sum(axis=1).mean(),
        "variation_ratio": 1 - most.mean() / draws,
        "predictive_entropy": entropies(mean).mean(),
        "mutual_information": (entropies(mean) - entropies(p).mean(axis=0)).mean(),
    }
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert summary["log_probability"] == -summary["nll"]
    if draws == 1:
        assert summary["softmax_spread"] is None
        assert summary["accuracy_single_draw_std"] is None
        assert statistics.predictions()["probability_std"].isna().all()
    else:
        close(statistics.probability_std, p.std(axis=0, ddof=1))
        assert summary["softmax_spread"] == pytest.approx(truth.std(axis=0, ddof=1).mean(), rel=1e-9, abs=1e-12)
        assert summary["accuracy_single_draw_std"] == pytest.approx(right.mean(axis=1).std(ddof=1), abs=1e-12)


@given(predictions())
def test_measures_keep_their_bounds(case: tuple[np.ndarray, np.ndarray]) -> None:
    statistics = added(*case)
    table, summary, classes = statistics.images(), statistics.summary(), case[0].shape[2]
    tiny = 1e-6  # float32 probabilities add up to 1 to that
    assert (table["mutual_information"] >= 0).all()
    assert (table["mutual_information"] <= table["predictive_entropy"] + tiny).all()
    assert (table["predictive_entropy"] <= math.log(classes) + tiny).all()
    assert table["variation_ratio"].between(0, 1 - 1 / classes).all()
    assert 0 <= summary["brier"] <= 2 + tiny
    assert 0 <= summary["calibration_error"] <= 1
    assert summary["nll"] <= summary["nll_single_draw"] + tiny  # Jensen: the mean is never worse


@given(predictions(), st.data())
def test_images_in_another_order_are_the_same_rows(case: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    probabilities, labels = case
    order = data.draw(st.permutations(range(len(labels))))
    one, other = added(probabilities, labels), added(probabilities[:, order], labels[order])
    expected = one.images().loc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(other.images(), expected, check_exact=True)
    close(pd.Series(other.summary(), dtype=float), pd.Series(one.summary(), dtype=float))


def test_two_draws_of_two_images_by_hand() -> None:
    """Image 0: two sure draws that disagree. Image 1: two undecided draws."""
    statistics = added(np.array([[[1, 0], [0.5, 0.5]], [[0, 1], [0.5, 0.5]]], dtype=np.float32), np.array([0, 1]))
    impossible = -math.log(1e-300)
    assert statistics.images().to_dict("list") == {
        "label": [0, 1],
        "predicted": [0, 0],  # ties
        "probability_label": [0.5, 0.5],
        "predictive_entropy": pytest.approx([LN2, LN2]),
        "mutual_information": pytest.approx([LN2, 0]),
        "variation_ratio": [0.5, 0],
        "accuracy_single_draw": [0.5, 0],
    }
    assert statistics.draws().to_dict("list") == {
        "draw": [0, 1],
        "accuracy": [0.5, 0],
        "nll": pytest.approx([LN2 / 2, (impossible + LN2) / 2]),
        "nll_so_far": pytest.approx([LN2 / 2, LN2]),
    }
    assert statistics.summary() == pytest.approx(
        {
            "accuracy": 0.5,
            "accuracy_single_draw": 0.25,
            "accuracy_single_draw_std": math.sqrt(1 / 8),
            "nll": LN2,
            "nll_single_draw": impossible / 4 + LN2 / 2,
            "log_probability": -LN2,
            "brier": 0.5,
            "calibration_error": 0,
            "calibration_error_debiased": 0,  # 0 - 1/4 is below zero
            "aurc": 0.5,  # two images alike, half of them wrong
            "accuracy_at_90_coverage": 0.5,
            "predictive_entropy": LN2,
            "mutual_information": LN2 / 2,
            "variation_ratio": 0.25,
            "softmax_spread": math.sqrt(1 / 2) / 2,
        }
    )


def test_draws_alike_have_exactly_no_spread() -> None:
    one = np.random.default_rng(3).dirichlet(np.ones(10), size=20).astype(np.float32)
    statistics = added(np.broadcast_to(one, (37, 20, 10)), np.zeros(20, dtype=int))
    assert (statistics.probability_std == 0).all()
    assert (statistics.images()["mutual_information"] == 0).all()
    assert statistics.summary()["softmax_spread"] == 0


def test_mutual_information_of_draws_nearly_alike_is_not_below_zero() -> None:
    """The difference of two entropies is negative by rounding for some of these images."""
    one = np.random.default_rng(0).dirichlet(np.ones(5), size=1000).astype(np.float32)
    statistics = added(np.stack([one] + 50 * [np.nextafter(one, np.float32(0))]), np.zeros(1000, dtype=int))
    assert statistics.images()["mutual_information"].between(0, 1e-9).all()


def test_a_spread_of_a_few_roundings_around_a_large_mean_keeps_its_digits() -> None:
    p = np.float32(0.9) + np.random.default_rng(0).integers(0, 4, size=(500, 3, 2)).astype(np.float32) * 2**-23
    statistics = added(p, np.zeros(3, dtype=int))
    np.testing.assert_allclose(statistics.probability_std, p.astype(np.float64).std(axis=0, ddof=1), rtol=1e-6)


def test_the_first_class_wins_a_tie_of_the_mean_of_three_draws() -> None:
    """A running mean would end at 0.33333333333333337 for one class and 0.3333333333333333 for another."""
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        statistics = added(np.eye(3, dtype=np.float32)[order][:, None, :], np.array([2]))
        assert statistics.images().loc[0, "predicted"] == 0


def test_tables_and_summary_fit_the_records(tmp_path: Path) -> None:
    p = np.random.default_rng(1).dirichlet(np.ones(4), size=(1, 6)).astype(np.float32)
    statistics = added(p, np.arange(6) % 4)
    images = statistics.images()
    images.insert(0, "image", np.arange(6))
    write_table(images, tmp_path / "images.parquet", IMAGES)
    write_table(statistics.predictions(), tmp_path / "predictions.parquet", PREDICTIONS)
    write_table(reliability(statistics.probability, statistics.labels), tmp_path / "r.parquet", RELIABILITY)
    write_table(statistics.draws().assign(seconds=0.1, rank=0), tmp_path / "draws.parquet", DRAWS)
    rows = read_table(tmp_path / "predictions.parquet", PREDICTIONS)
    assert rows.loc[5, ["image", "class"]].tolist() == [1, 1]
    assert rows.loc[5, "probability"] == p[0, 1, 1]
    assert set(statistics.summary()) < set(InferenceSummary.model_fields)


def test_refuses_what_it_cannot_add() -> None:
    p = np.full((2, 3, 4), 0.25, dtype=np.float32)
    statistics = PredictiveStatistics(3, 4, np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="no draws yet"):
        statistics.summary()
    statistics.add(0, p)
    for first in (0, 1, 3):
        with pytest.raises(ValueError, match=f"draw {first} added where draw 2 is next"):
            statistics.add(first, p)
    for wrong in (p[0], p[:, :2], p[:, :, :3]):
        with pytest.raises(ValueError, match="expected"):
            statistics.add(2, wrong)
    for bad in (np.nan, np.inf, -0.5, 1.5):
        damaged = p.copy()
        damaged[1, 2, 3] = bad
        with pytest.raises(UserError, match="draw 3: predicted probabilities are not between 0 and 1"):
            added(p, np.array([0, 1, 3])).add(2, damaged)
    for label in (-1, 4):
        with pytest.raises(UserError, match=f"label {label} of image 2: the posterior has 4 classes"):
            PredictiveStatistics(3, 4, np.array([0, 1, label]))
    for labels in (np.array([0, 1]), np.array([0.0, 1.0, 2.0])):
        with pytest.raises(ValueError, match="labels"):
            PredictiveStatistics(3, 4, labels)


def sure(confidence: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Two-column probabilities whose largest is `confidence` of class 0, and labels that make them right or wrong."""
    return np.stack([confidence, np.zeros(len(confidence))], axis=1), np.where(right, 0, 1)


EDGE = st.sampled_from(EDGES)
CONFIDENCES = st.one_of(
    st.floats(0, 1), EDGE, EDGE.map(lambda e: np.nextafter(e, 0)), EDGE.map(lambda e: min(1, np.nextafter(e, 2)))
)
CASES = st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=40)


@given(CASES)
def test_reliability_adds_up_to_the_calibration_error(cases: list[tuple[float, bool]]) -> None:
    """Also against the definition, bin by bin: (low, high], 0 in the first."""
    confidence, right = (np.array(column) for column in zip(*cases, strict=True))
    probability, labels = sure(list(confidence), list(right))
    table = reliability(probability, labels)
    assert table["bin"].tolist() == list(range(BINS))
    assert (table["low"].tolist(), table["high"].tolist()) == (EDGES[:-1], EDGES[1:])
    assert table["count"].sum() == len(cases)
    gap = ((table["accuracy"] - table["confidence"]).abs() * table["count"]).sum() / len(cases)
    assert calibration_error(probability, labels) == pytest.approx(gap, abs=1e-12)
    for row in table.itertuples():
        inside = (confidence > row.low) & (confidence <= row.high) | ((confidence == 0) & (row.bin == 0))
        assert row.count == inside.sum()
        if row.count:
            assert row.confidence == pytest.approx(confidence[inside].mean(), abs=1e-12)
            assert row.accuracy == pytest.approx(right[inside].mean(), abs=1e-12)
        else:
            assert math.isnan(row.confidence)
            assert math.isnan(row.accuracy)


# Multiples of 1/1024 are exact in float32, and none but 0 and 1 is an edge, where conventions differ.
@given(st.lists(st.tuples(st.integers(1, 1023).map(lambda k: k / 1024), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_that_of_torchmetrics_off_the_edges(cases: list[tuple[float, bool]]) -> None:
    probability, labels = sure([c for c, _ in cases], [r for _, r in cases])
    metric = MulticlassCalibrationError(num_classes=2, n_bins=BINS, norm="l1")
    expected = float(metric(torch.from_numpy(probability), torch.from_numpy(labels)))
    assert calibration_error(probability, labels) == pytest.approx(expected, abs=1e-6)


def test_a_confidence_of_one_shares_the_last_bin() -> None:
    """torchmetrics alone gives 0.525: a bin for 0.95 and one for exactly 1."""
    assert calibration_error(*sure([0.95, 1.0], [True, False])) == pytest.approx(0.475)


def test_calibration_error_of_many_confident_images_keeps_its_digits() -> None:
    """torchmetrics' multiclass form sums in float32, and gives 0.000306."""
    case = sure([1 - 0.0003] * 10_000, [True] * 10_000)
    assert calibration_error(*case) == pytest.approx(0.0003, abs=1e-12)
