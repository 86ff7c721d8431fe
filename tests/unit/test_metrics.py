"""The definitions: throughput, warm-up, intervals, efficiency, verdict."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn import metrics
from bnn.records import STEPS


def steps_frame(seconds_by_rank: list[list[float]], warmup: int = 2, batch: int = 16, attempt: int = 1) -> pd.DataFrame:
    rows = []
    for rank, seconds in enumerate(seconds_by_rank):
        for step, value in enumerate(seconds):
            rows.append({
                "attempt": attempt, "step": step, "epoch": step // 5, "engine": "single", "implementation": "cnn",
                "phase": metrics.WARMUP if step < warmup else metrics.STEADY, "rank": rank,
                "ranks": len(seconds_by_rank), "started_at": 1000.0 + step, "samples": batch, "seconds": value,
                "seconds_data": 0.0, "seconds_forward": value, "seconds_backward": 0.0, "seconds_exchange": 0.0,
                "seconds_optimizer": 0.0, "seconds_between": 0.0, "loss": 1.0, "nll": 1.0, "kl": 0.0, "beta": 1.0,
                "accuracy": step / 10, "accuracy_running": step / 20,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=STEPS.names)


def test_steady_throughput_leaves_warmup_out_and_waits_for_the_slowest_rank():
    frame = steps_frame([[9.0, 9.0, 1.0, 1.0], [9.0, 9.0, 2.0, 2.0]])
    assert metrics.throughput_steady(frame) == pytest.approx(2 * 32 / 4.0)
    assert metrics.throughput_all(frame) == pytest.approx(4 * 32 / 22.0)


def test_paper_throughput_is_the_mean_of_rank_0_rates_over_all_steps():
    frame = steps_frame([[4.0, 2.0], [8.0, 8.0]], warmup=1)
    mean, std = metrics.throughput_paper(frame)
    assert mean == pytest.approx((32 / 4 + 32 / 2) / 2)
    assert std == pytest.approx(np.std([8, 16], ddof=1))


def test_without_steady_steps_there_is_no_steady_throughput():
    frame = steps_frame([[1.0, 1.0]], warmup=2)
    assert metrics.throughput_steady(frame) is None
    assert metrics.coefficient_of_variation(frame) is None


def test_a_step_run_again_by_a_resumed_attempt_counts_once():
    first, again = steps_frame([[1.0] * 6]), steps_frame([[3.0] * 6], attempt=2)
    frame = pd.concat([first, again[again["step"] >= 4]])
    steps = metrics.per_step(frame)
    assert len(steps) == 6
    assert steps["seconds"].tolist() == [1.0] * 4 + [3.0] * 2


def test_rates_are_taken_within_one_attempt():
    frame = pd.concat([steps_frame([[1.0] * 8]), steps_frame([[5.0] * 10], attempt=2).query("step >= 8")])
    assert metrics.throughput_steady(frame) == pytest.approx(16.0)


def by_groups(steps: pd.DataFrame) -> pd.DataFrame:
    """What `per_step` is to give, by pandas."""
    kept = steps[steps["attempt"] == steps.groupby("step")["attempt"].transform("max")]
    found = kept.groupby(["attempt", "step"], sort=True).agg(
        epoch=("epoch", "first"), phase=("phase", "first"), ranks=("rank", "nunique"), samples=("samples", "sum"),
        started_at=("started_at", "min"), seconds=("seconds", "max"), seconds_exchange=("seconds_exchange", "max"),
        loss=("loss", "mean"), nll=("nll", "mean"), kl=("kl", "mean"), accuracy=("accuracy", "mean"),
        accuracy_running=("accuracy_running", "mean"),
    ).reset_index()  # fmt: skip
    rank0 = kept[kept["rank"] == 0].set_index(["attempt", "step"])["seconds"].rename("seconds_rank0")
    return found.merge(rank0, on=["attempt", "step"], how="left")


@given(st.data())
def test_a_step_is_what_a_group_by_makes_of_its_ranks(data: st.DataObject) -> None:
    ranks, count = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 6))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    parts = [steps_frame(random.uniform(0.1, 2, (ranks, count)).tolist())]
    if count and data.draw(st.booleans()):
        resumed = steps_frame(random.uniform(0.1, 2, (ranks, count + 2)).tolist(), attempt=2)
        parts.append(resumed[resumed["step"] >= data.draw(st.integers(0, count))])
    frame = pd.concat(parts)
    for name in metrics.MEANS:
        frame[name] = random.normal(size=len(frame))
    if len(frame):
        frame.iloc[random.integers(len(frame)), frame.columns.get_loc("loss")] = data.draw(
            st.sampled_from([math.nan, math.inf, -1e300])
        )
        lost = random.random(len(frame)) < data.draw(st.sampled_from([0.0, 0.3]))  # of a run that was killed
        frame = frame[~lost].sample(frac=1, random_state=int(random.integers(100)))
    if frame.empty:
        assert metrics.per_step(frame).empty
        return
    pd.testing.assert_frame_equal(metrics.per_step(frame), by_groups(frame), check_dtype=True, rtol=1e-12)


@given(st.floats(0.01, 1e4), st.integers(1, 512))
def test_perfect_scaling_has_efficiency_one(seconds: float, n: int):
    assert metrics.scaling_efficiency(seconds, seconds / n, n) == pytest.approx(1.0)


def time_to(frame: pd.DataFrame, target: float, definition: str, epochs: int) -> float | None:
    return metrics.LearningCurve.of(metrics.per_step(frame), definition, epochs).time_to(target)


def test_time_to_accuracy_running_and_by_epoch():
    frame = steps_frame([[1.0] * 10])
    assert time_to(frame, 0.2, "accuracy_running", 2) == pytest.approx(5.0)
    assert time_to(frame, 0.5, "accuracy", 2) == pytest.approx(10.0)
    assert time_to(frame, 0.99, "accuracy", 2) is None
    assert time_to(frame, 0.5, "accuracy", 1) is None
    assert math.isnan(metrics.LearningCurve.of(metrics.per_step(frame), "accuracy", 0).best)


@given(st.lists(st.floats(0.1, 1e3), min_size=2, max_size=4))
def test_few_repeats_interval_encloses_its_geometric_mean(values: list[float]):
    interval = metrics.repeats_interval(values)
    assert interval.value == pytest.approx(math.exp(np.log(values).mean()))
    assert interval.low <= interval.value * (1 + 1e-9)
    assert interval.high >= interval.value * (1 - 1e-9)


def test_t_interval_of_two_repeats_by_hand():
    interval = metrics.repeats_interval([1.0, math.e**2])
    half = 12.706204736 * math.sqrt(2) / math.sqrt(2)  # t(0.975, 1) * s / sqrt(n), s = sqrt(2)
    assert interval.high == pytest.approx(math.exp(1 + half), rel=1e-6)


def test_many_repeats_have_order_statistics_and_one_has_no_interval():
    assert metrics.repeats_interval([1.0, 2.0, 3.0, 4.0, 5.0]).method == "t-interval on log"
    assert metrics.repeats_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).method == "order statistics of the median"
    assert math.isnan(metrics.repeats_interval([3.0]).low)
    with pytest.raises(ValueError, match="positive"):
        metrics.repeats_interval([])


def test_ratio_interval_pairs_repeats():
    ratio = metrics.ratio_interval([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="paired"):
        metrics.ratio_interval([1.0], [1.0, 2.0])


def judge(frame: pd.DataFrame, ranks: int = 1, **changes) -> tuple[str, list[str]]:
    return metrics.verdict(frame, ranks, **{"cv_limit": 0.1, "attempts": 1, **changes})


def test_a_steady_run_is_ok():
    assert judge(steps_frame([[1.0] * 12])) == ("OK", [])


def test_invalid_runs_say_why():
    unequal = pd.concat([steps_frame([[1.0] * 8, [1.0] * 8]).query("rank == 0 or step < 7")])
    assert judge(unequal, 2) == ("INVALID", ["unequal steps: 7 on rank 1, 8 elsewhere"])
    assert judge(steps_frame([[1.0] * 8]), 2) == ("INVALID", ["no rows of rank 1"])
    broken = steps_frame([[1.0] * 8])
    broken.loc[broken["step"] == 5, "loss"] = float("nan")
    assert judge(broken) == ("INVALID", ["non-finite loss at step 5 on rank 0"])
    assert judge(steps_frame([[1.0] * 8]), finite=False) == (
        "INVALID",
        ["non-finite parameters or predictions after step 7"],
    )
    assert judge(steps_frame([[1.0] * 8]), mixed_hardware=["A x2", "B x2"])[0] == "INVALID"


def test_doubtful_runs_are_warned_of():
    assert judge(steps_frame([[1.0, 1.0, *[1.0, 2.0] * 5]]))[0] == "WARN"
    assert "warm-up not settled" in judge(steps_frame([[9.0, 9.0, *[2.0] * 4, *[1.0] * 8]]), cv_limit=9.0)[1][0]
    assert judge(steps_frame([[1.0] * 8]), attempts=2)[1] == ["resumed: 2 attempts"]
    assert judge(steps_frame([[1.0] * 8]), dirty=True)[0] == "WARN"
    assert "degenerate" in judge(steps_frame([[1.0] * 8]), sigma_median=1.001e-4, sigma_median_start=1e-4)[1][0]
    assert judge(steps_frame([[1.0] * 8]), sigma_median=2e-4, sigma_median_start=1e-4) == ("OK", [])
    assert "draws all alike" in judge(steps_frame([[1.0] * 8]), draw_spread=1e-5)[1][0]
    assert judge(steps_frame([[1.0] * 8]), draw_spread=0.02) == ("OK", [])


@given(st.integers(0, 2**32 - 1), st.integers(12, 400), st.floats(1.25, 20), st.floats(0.005, 0.04), st.data())
def test_a_change_point_is_found_where_it_was_put(seed, count, slower, noise, data):
    at = data.draw(st.integers(1, count // 3))
    seconds = 0.1 * np.exp(noise * np.random.default_rng(seed).standard_normal(count))
    seconds[:at] *= slower
    found = metrics.change_point(seconds)
    assert found > 0
    assert abs(found - at) <= 1


def test_a_change_point_is_seldom_found_where_there_is_none():
    draws = np.random.default_rng(5)
    for count in (8, 10, 30, 100, 1000):
        found = [metrics.change_point(np.exp(0.1 * draws.standard_normal(count))) > 0 for _ in range(500)]
        assert np.mean(found) <= 0.05, count


@given(st.floats(1e-6, 1e6), st.integers(0, 200), st.floats(1e-3, 1e3))
def test_equal_steps_have_no_change_point_in_any_unit(value, count, unit):
    assert metrics.change_point(np.full(count, value)) == 0
    seconds = np.array([3.0, 3.1, 2.9] + [1.0, 1.02] * 10)
    assert metrics.change_point(seconds * unit) == 3


def test_a_single_slow_step_amid_others_is_no_change():
    seconds = np.exp(0.02 * np.random.default_rng(1).standard_normal(60))
    seconds[20] *= 30
    assert metrics.change_point(seconds) == 0
    seconds[0] *= 30  # but the first one is what warm-up is for
    assert metrics.change_point(seconds) == 1
