"""Section `tuning`: combinations become cells, and the table says which is best and whether that is beyond noise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bnn.errors import UserError
from campaign.plan.campaign import Campaign
from campaign.plan.content import plan_content
from campaign.results.blocks import Blocks
from campaign.results.figures.catalogue import FIGURES, available, not_measured
from campaign.results.figures.context import Context
from campaign.results.figures.select import NothingToDrawError
from campaign.results.figures.tuning import sentence, tuning_figure
from campaign.results.tables.build import build_tables
from campaign.results.tables.tuning_schemas import ALIKE, BEST, SLOWER
from tests.support.campaigns import CAMPAIGN, campaign, changed
from tests.support.cells import write_cell

ENTRY: dict[str, Any] = {
    "dataset": "synthetic", "dataset_options": {"shape": [1, 12, 12], "size": 96}, "models": ["vgg16"],
    "kinds": ["bnn"], "nodes": [2], "batch_sizes": [8], "repeats": 4,
    "over": {"cycle_time_ms": [5, 1], "fusion_buffer_mb": [64, 0], "gradient_block_mb": [0, 16]},
}  # fmt: skip
# Seconds of a step by cycle time and fusion buffer; blocks of gradients change nothing.
PACE = {(5, 64): 0.20, (5, 0): 0.24, (1, 64): 0.18, (1, 0): 0.21}


def asked(**changes: Any) -> Campaign:
    return campaign(changed(CAMPAIGN, "tuning", {"messages": {**ENTRY, **changes}}))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    folder = tmp_path_factory.mktemp("results")
    made = asked()
    plan = plan_content(made)
    for entry, job in zip(plan["cells"], made.cells, strict=True):
        if job.target == "tuning":
            noise = 1 + 0.002 * math.sin(7 * entry["repeat"] + hash_of(entry["variant"]))
            seconds = PACE[job.settings.cycle_time_ms, job.settings.fusion_buffer_mb] * noise
            write_cell(folder, entry, steps=12, seconds=seconds, jitter=0, labels=job.settings.labels)
    return plan, build_tables(plan, folder, ["tuning"])


def hash_of(text: str) -> int:
    return sum(map(ord, text))


def test_every_combination_is_a_cell_of_its_own_target() -> None:
    made = asked()
    tuned = [job for job in made.cells if job.target == "tuning"]
    assert len(tuned) == 8 * 4
    assert {job.cell.variant for job in tuned if job.settings.cycle_time_ms == 1} == {
        f"messages-ctm1-fbm{buffer}-gbm{block}" for buffer in (64, 0) for block in (0, 16)
    }
    assert made.tuning["messages"].against == "messages-ctm5-fbm64-gbm0"
    assert asked(against={"gradient_block_mb": 16}).tuning["messages"].against == "messages-ctm5-fbm64-gbm16"
    assert {job.name for job in campaign().cells} < {job.name for job in made.cells}, "others are as they were"


def test_ranks_per_node_and_threads() -> None:
    over = {"ranks_per_node": [1, 2], "threads": [2, 1]}
    made = asked(nodes=[1], over=over, exclude=[{"ranks_per_node": [2], "threads": [2]}])
    assert {(job.ranks, job.settings.threads) for job in made.cells if job.target} == {(1, 2), (1, 1), (2, 1)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"over": {"cycle_time_ms": [5]}}, r"tuning\.messages\.over: one combination"),
        ({"over": {"cycle_tim_ms": [5, 1]}}, r"cycle_tim_ms"),
        ({"over": {"cycle_time_ms": [5, -1]}}, r"tuning\.messages.*cycle_time_ms"),
        ({"against": {"cycle_time_ms": 3}}, r"tuning\.messages\.against\.cycle_time_ms: 3 is not among"),
        ({"against": {"threads": 3}}, r"tuning\.messages\.against\.threads: 3 is not among"),
        ({"exclude": [{"cycle_time_ms": [7]}]}, r"tuning\.messages\.exclude\[0\]\.cycle_time_ms: 7 is not among"),
        ({"exclude": [{"cycle_time_ms": [5]}]}, r"tuning\.messages\.against: .*left out by exclude"),
    ],
)
def test_a_slip_is_one_line_with_its_key(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        asked(**changes)
    assert "\n" not in str(caught.value)


def test_a_name_that_a_study_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"tuning\.speed: a study has this name"):
        campaign(changed(CAMPAIGN, "tuning", {"speed": ENTRY}))


def test_the_best_the_alike_and_the_slower(built: tuple[dict[str, Any], dict[str, pd.DataFrame]]) -> None:
    rows = built[1]["tuning"]
    assert len(rows) == 8
    standings = {(row.value_1, row.value_2): set() for row in rows.itertuples()}
    for row in rows.itertuples():
        standings[row.value_1, row.value_2].add(row.standing)
        paced = PACE[5, 64] / PACE[int(row.value_1), int(row.value_2)]
        assert row.gain == pytest.approx(paced, rel=5e-3)
        assert row.gain_low <= row.gain <= row.gain_high
    assert standings == {("5", "64"): {SLOWER}, ("5", "0"): {SLOWER}, ("1", "64"): {BEST, ALIKE}, ("1", "0"): {SLOWER}}
    said = sentence(rows)
    assert said.startswith("best: cycle_time_ms 1, fusion_buffer_mb 64, gradient_block_mb ")
    assert "beyond noise; 1 other cannot be told apart from it" in said


def test_the_figure_has_a_panel_per_value_of_the_third_setting(
    built: tuple[dict[str, Any], dict[str, pd.DataFrame]],
) -> None:
    plan, tables = built
    assert "tuning" in available(plan)
    figure = tuning_figure(tables, Context.from_plan(plan))
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert [title.rpartition(", ")[2] for title in titles] == ["gradient_block_mb 0", "gradient_block_mb 16"]


def test_without_measurements_there_is_nothing_to_draw(tmp_path: Path) -> None:
    plan = plan_content(asked())
    tables = build_tables(plan, tmp_path, ["tuning"])
    assert tables["tuning"].empty
    with pytest.raises(NothingToDrawError, match="target tuning"):
        tuning_figure(tables, Context.from_plan(plan))
    assert "tuning" in not_measured(plan_content(campaign()))
    assert FIGURES["tuning"].rule == "draw_tuning"


def test_two_repeats_have_no_interval_and_no_standing_but_the_best(tmp_path: Path) -> None:
    made = asked(repeats=2, over={"cycle_time_ms": [5, 1]})
    plan = plan_content(made)
    for entry, job in zip(plan["cells"], made.cells, strict=True):
        if job.target == "tuning":
            seconds = 0.1 if job.settings.cycle_time_ms == 1 else 0.2
            write_cell(tmp_path, entry, steps=12, seconds=seconds, jitter=0, labels=job.settings.labels)
    rows = build_tables(plan, tmp_path, ["tuning"])["tuning"]
    assert list(rows["standing"]) == ["", BEST]
    assert rows["gain_low"].isna().tolist() == [False, True]
    assert "too few repeats to compare" in sentence(rows)


def test_the_axes_are_in_the_order_of_numbers_though_the_plan_sorts_names(tmp_path: Path) -> None:
    made = asked(repeats=1, over={"cycle_time_ms": [5, 1, 20], "fusion_buffer_mb": [64, 0]})
    plan = json.loads(json.dumps(plan_content(made), sort_keys=True))
    for entry, job in zip(plan["cells"], made.cells, strict=True):
        if job.target == "tuning":
            write_cell(tmp_path, entry, steps=12, jitter=0, labels=job.settings.labels)
    axes = tuning_figure(build_tables(plan, tmp_path, ["tuning"]), Context.from_plan(plan)).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["1", "5", "20"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "64"]


def by_repeat(logs: np.ndarray) -> dict[str, dict[int, float]]:
    return {str(number): dict(enumerate(np.exp(row).tolist())) for number, row in enumerate(logs)}


def test_two_settings_have_the_paired_t_interval_of_scipy() -> None:
    logs = np.random.default_rng(2).normal(0, 0.1, (2, 5))
    found, theirs = Blocks(by_repeat(logs)).ratio("0", "1"), stats.ttest_rel(*logs).confidence_interval(0.95)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((theirs.low, theirs.high), rel=1e-6)


def test_many_settings_have_the_half_width_of_the_textbook() -> None:
    """Two-way analysis of variance by hand: q(0.95; k, (k - 1)(b - 1)) s / sqrt(b) to each side."""
    logs = np.random.default_rng(3).normal(0, 0.1, (7, 4)) + np.arange(
        4
    )  # repeats that differ, as on a drifting machine
    left = logs - logs.mean(0) - logs.mean(1, keepdims=True) + logs.mean()
    half = stats.studentized_range.ppf(0.95, 7, 18) * math.sqrt(np.sum(left**2) / 18 / 4)
    compared = Blocks(by_repeat(logs))
    for other in range(1, 7):
        found = compared.ratio("0", str(other))
        centre = logs[0].mean() - logs[other].mean()
        assert [math.log(x) for x in (found.value, found.low, found.high)] == pytest.approx(
            [centre, centre - half, centre + half], rel=1e-5
        )
    assert compared.best() == str(np.argmax(logs.mean(1)))


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_intervals_of_one_point_hold_at_once(missing: float) -> None:
    """Twelve combinations, all alike: in about 5% of studies some pair is told apart, repeats missing or not."""
    random, wrong, studies = np.random.default_rng(1), 0, 300
    for _ in range(studies):
        rates = by_repeat(random.normal(0, 0.02, (12, 3)) + random.normal(0, 0.3, 3))
        for values in rates.values():
            for repeat in (2, 1):
                if random.random() < missing:
                    values.pop(repeat)
        compared = Blocks(rates)
        best = compared.best()
        found = [compared.ratio(name, best) for name in rates if name != best]
        wrong += any(each.high < 1 for each in found)
    assert wrong / studies <= 0.085  # 5% and what 300 studies leave to chance


RATES = st.dictionaries(st.integers(1, 4), st.floats(0.1, 10), max_size=4)


@given(st.dictionaries(st.sampled_from("abcdef"), RATES))
def test_any_pattern_of_repeats_is_compared_as_far_as_it_goes(rates: dict[str, dict[int, float]]) -> None:
    compared = Blocks(rates)
    assert compared.best() in {"", *rates}
    for one in "abcdefg":
        for other, theirs in rates.items():
            found = compared.ratio(one, other)
            assert math.isnan(found.value) == (not set(rates.get(one, ())) & set(theirs))
            if not math.isnan(found.low):
                assert found.low <= found.value * (1 + 1e-12)
                assert found.value <= found.high * (1 + 1e-12)
                back = compared.ratio(other, one)
                assert back.low == pytest.approx(1 / found.high)
            if other == compared.best():
                assert math.isnan(found.value) or found.value <= 1 + 1e-9
