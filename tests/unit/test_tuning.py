"""Section `tuning`: combinations become cells, and the table says which is best and whether that is beyond noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.plan.campaign import Campaign
from campaign.plan.content import plan_content
from campaign.results.figures.catalogue import FIGURES, available, not_measured
from campaign.results.figures.context import Context
from campaign.results.figures.select import NothingToDrawError
from campaign.results.figures.tuning import sentence, tuning_figure
from campaign.results.statistics import simultaneous_ratio
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


def test_intervals_of_one_point_hold_at_once() -> None:
    """Twelve combinations that are all alike: the best is beyond noise in no more than about 5% of studies."""
    random, wrong, studies = np.random.default_rng(1), 0, 400
    for _ in range(studies):
        logs = random.normal(0, 0.02, (12, 4))
        rates = [dict(enumerate(np.exp(each))) for each in logs]
        found = [simultaneous_ratio(rate, rates[0], 11) for rate in rates[1:]]
        wrong += any(each.low > 1 or each.high < 1 for each in found)
    assert wrong / studies <= 0.075  # 5% and what 400 studies leave to chance


@given(st.dictionaries(st.integers(1, 6), st.floats(0.1, 10)), st.dictionaries(st.integers(1, 6), st.floats(0.1, 10)))
def test_a_simultaneous_ratio_is_of_common_repeats(one: dict[int, float], other: dict[int, float]) -> None:
    found = simultaneous_ratio(one, other, 3)
    common = set(one) & set(other)
    assert math.isnan(found.value) == (not common)
    assert math.isnan(found.low) == (len(common) < 3)
    if len(common) >= 3:
        assert found.low <= found.value * (1 + 1e-12)
        assert found.value <= found.high * (1 + 1e-12)
