"""Faults on purpose: what can be asked for, what a run then suffers and says, and how they are found again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bnn.cli import cli
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.metrics import STEADY
from bnn.records import STEPS, STEPS_FILE, Summary, read_table
from bnn.records.parts import PARTS
from bnn.settings import SettingsError, TrainSettings, parse_settings
from bnn.training import loop
from tests.support.campaigns import CAMPAIGN, campaign, changed
from tests.support.injections import FAULTS, FINE, LANDS, LATE_BEYOND, MARGIN, NOISY, RANK, ROWS, WRONG, judge

FEW = {
    "dataset": "synthetic", "dataset_options": {"shape": [1, 4, 4], "classes": 2, "size": 32}, "model": "fc",
    "width": 0.01, "kind": "cnn", "batch_size": 8, "engine": "single", "save_posterior": False, "epochs": 3,
    "evaluate": "none", "warmup_steps": 2,
}  # fmt: skip


def train(out: Path, fault: dict[str, Any]) -> tuple[pd.DataFrame, Summary]:
    settings = TrainSettings.model_validate(FEW | {"fault": fault})
    summary = loop.train(settings, out, SingleEngine(), time.time())
    assert summary is not None
    return read_table(out / STEPS_FILE, STEPS), summary


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"rank": 0}, "fault: give slow or sleep_ms: what the rank suffers"),
        ({"slow": 0.1}, "fault.rank: Field required"),
        ({"rank": -1, "slow": 0.1}, "fault.rank: Input should be greater than or equal to 0"),
        ({"rank": 0, "slow": 0.1, "late": 1}, "fault.late: unknown setting"),
        ({"rank": 0, "slow": 0.1, "every": 0}, "fault.every: Input should be greater than 0"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_its_key(fault: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=f"settings: {said}"):
        parse_settings({"fault": fault}, "settings")


def test_faults_are_for_cpus_and_change_the_hash() -> None:
    fault = {"rank": 0, "slow": 0.1}
    with pytest.raises(SettingsError, match="fault: faults are for device cpu"):
        parse_settings({"fault": fault, "device": "cuda"}, "settings")
    plain = TrainSettings()
    assert "fault" not in plain.science()
    hashes = {TrainSettings(fault=value).fingerprint() for value in (fault, fault | {"every": 2}, None)}
    assert len(hashes) == 3
    assert plain.fingerprint() in hashes


def test_the_command_line_takes_a_fault_as_json(tmp_path: Path) -> None:
    for given_, said in (("{", "--fault: not JSON"), ('{"rank": 0}', "fault: give slow or sleep_ms")):
        done = CliRunner().invoke(cli, ["train", "--fault", given_, "--out", str(tmp_path / "cell")])
        assert isinstance(done.exception, UserError)
        assert said in str(done.exception)


def test_a_fault_on_a_rank_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fault\.rank: there is no rank 1, this run has 1"):
        train(tmp_path, {"rank": 1, "slow": 0.1})


def test_an_input_that_stands_still_is_recorded_where_it_stood(tmp_path: Path) -> None:
    rows, summary = train(tmp_path, {"rank": 0, "sleep_ms": 60, "every": 2})
    turn = rows["step"] % 2 == 0
    assert (rows.loc[turn, "seconds_injected"] >= 0.06).all()
    assert (rows.loc[~turn, "seconds_injected"] == 0).all()
    assert (rows["seconds_data"] >= rows["seconds_injected"]).all()
    assert (rows["seconds_forward"] < rows["seconds_data"])[turn].median(), "which takes a fraction of that"
    assert summary.fault == "rank 0 waits 60 ms for its input in one of 2 steps"
    assert summary.verdict.status == "WARN"
    assert f"an experiment: {summary.fault}" in summary.verdict.reasons


def test_computing_that_is_slower_is_slower_by_its_share(tmp_path: Path) -> None:
    rows, summary = train(tmp_path, {"rank": 0, "slow": 2.0})
    assert summary.fault == "rank 0 computes 200% slower"
    rows = rows.iloc[1:]  # the first step has no backward pass before it
    own = rows["seconds_forward"] - rows["seconds_injected"]
    assert (own > 0).all()
    before = rows["seconds_backward"].shift(1).iloc[1:]
    shares = rows["seconds_injected"].iloc[1:] / (own.iloc[1:] + before)
    assert (shares > 1.98).all(), "never less; what other programs take from it comes on top"


def test_a_campaign_takes_faults_for_experiments_only() -> None:
    fault = {"rank": 1, "slow": 0.1}
    asked = changed(CAMPAIGN, "variants/slow/settings", {"fault": fault})
    with pytest.raises(UserError, match=r"speed.*fault \(rank 1 computes 10% slower\) is for experiments"):
        campaign(asked)
    said = changed(asked, "studies/speed/experiment", True)
    with pytest.raises(UserError, match=r"speed\.nodes: fault\.rank 1, but a point has 1 ranks"):
        campaign(said)
    found = campaign(changed(said, "studies/speed/nodes", [2]))
    assert {planned.settings.fault is not None for planned in found.cells} == {True, False}
    with pytest.raises(UserError, match="experiment"):
        campaign(changed(CAMPAIGN, "studies/speed/experiment", "yes"))


@st.composite
def noise(draw: st.DrawFn) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32)))


def made(random: np.random.Generator, fault: str | None, lost: float, extra: str = "", noise: float = 5e-5) -> Any:
    """Steps of two ranks, 40 ms each with `noise` s per part, of which every second one suffers the fault.

    The rank that is early waits for the other.
    """
    rows = []
    for step in range(200):
        turn = fault is not None and step % 2 == 0
        pair = []
        for rank in (0, RANK):
            row = {PARTS[name].column: 0.005 + noise * random.standard_normal() for name in ROWS}
            row |= {"step": step, "rank": rank, "phase": STEADY, "seconds_injected": lost * turn * (rank == RANK)}
            row["started_at"] = 1e9 + step + noise * random.standard_normal()
            if fault is not None and turn and rank == RANK:
                row[PARTS[LANDS[fault]].column] += lost
            if turn and extra and rank == 0:
                row[PARTS[extra].column] += 0.0005
            pair.append(row)
        ready = [
            sum(row[c] for c in ("started_at", "seconds_data", "seconds_forward", "seconds_backward")) for row in pair
        ]
        for row, at in zip(pair, ready, strict=True):
            row["seconds_late"] = max(ready) - at
        rows += pair
    return pd.DataFrame(rows)


@given(noise(), st.sampled_from(sorted(LANDS)))
def test_a_planted_fault_is_found_and_what_is_not_there_is_missed(random: np.random.Generator, fault: str) -> None:
    control = made(random, None, 0.0)
    found = judge(fault, made(random, fault, 0.005), control)
    assert found.injected == 0.005
    expected = [row for row in found.rows if row["expected"]]
    assert {(row["part"], row["rank"]) for row in expected} == {(LANDS[fault], RANK), ("late", -1), LATE_BEYOND}
    assert {row["verdict"] for row in expected} == {FINE}
    moved = judge(fault, made(random, fault, 0.005, extra="optimizer"), control)
    assert next(row for row in moved.rows if (row["part"], row["rank"]) == ("optimizer", 0))["verdict"] == WRONG
    missing = made(random, fault, 0.005)
    missing.loc[missing["seconds_injected"] > 0, "seconds_injected"] *= 1 + 3 * MARGIN
    assert judge(fault, missing, control).verdict == WRONG
    assert FAULTS[fault] is not None


@given(noise(), st.sampled_from(sorted(LANDS)))
def test_where_passes_vary_too_much_only_what_they_say_nothing_of_is_told(
    random: np.random.Generator, fault: str
) -> None:
    loud = judge(fault, made(random, fault, 0.005, noise=0.005), made(random, None, 0.0, noise=0.005))
    rows = {(row["part"], row["rank"]): row["verdict"] for row in loud.rows if row["expected"]}
    assert rows["late", -1] in (NOISY, WRONG)  # its interval, as any, may miss the truth
    assert rows[LATE_BEYOND] == FINE
