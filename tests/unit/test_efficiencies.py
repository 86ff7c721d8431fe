"""The standard efficiencies: their definition, their table, what limits a point, and how the report says it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.metrics import STEADY, WARMUP, Interval, UsefulWork, scaling_efficiency, throughput_steady, useful_work
from campaign.results.report.efficiencies import limits, sentence
from campaign.results.tables.build import frame
from campaign.results.tables.efficiencies import NOT_SPLIT, efficiency_rows, limited_by
from campaign.results.tables.efficiency_schemas import CELL_EFFICIENCIES, POINT_EFFICIENCIES
from tests.support.cells import built_campaign

PARTS = ("data", "forward", "backward", "exchange", "optimizer", "between")
seconds = st.floats(1e-3, 10.0)


def steps(parts: np.ndarray, samples: int = 8) -> pd.DataFrame:
    """Steps from seconds (steps, ranks, parts); the first step is the warm-up."""
    rows = []
    for step, of_ranks in enumerate(parts):
        for rank, values in enumerate(of_ranks):
            row: dict[str, Any] = {f"seconds_{part}": value for part, value in zip(PARTS, values, strict=True)}
            row |= {"attempt": 1, "step": step, "epoch": 0, "phase": STEADY if step else WARMUP, "rank": rank}
            row |= {"started_at": 0.0, "samples": samples, "seconds": float(np.sum(values))}
            row |= dict.fromkeys(("loss", "nll", "kl", "accuracy", "accuracy_running"), 0.0)
            rows.append(row)
    return pd.DataFrame(rows)


@st.composite
def runs(draw: st.DrawFn) -> np.ndarray:
    shape = (draw(st.integers(2, 5)), draw(st.integers(1, 4)), len(PARTS))
    count = math.prod(shape)
    return np.array(draw(st.lists(seconds, min_size=count, max_size=count))).reshape(shape)


@given(runs())
def test_efficiencies_are_shares_and_their_product_is_that_of_all_ranks_time(parts: np.ndarray) -> None:
    work = useful_work(steps(parts))
    assert work is not None
    for share in (work.load_balance, work.communication_efficiency, work.parallel_efficiency):
        assert 0 < share <= 1 + 1e-12
    assert work.load_balance * work.communication_efficiency == pytest.approx(work.parallel_efficiency)
    useful = parts[1:, :, [0, 1, 2, 4]].sum()
    assert work.total == pytest.approx(useful)
    assert work.seconds == pytest.approx(parts[1:].sum(axis=2).max(axis=1).sum())


@given(runs(), runs())
def test_the_ratio_of_global_efficiencies_is_the_scaling_efficiency(one: np.ndarray, many: np.ndarray) -> None:
    reference, here = steps(one), steps(many, samples=5)
    a, b = useful_work(reference), useful_work(here)
    rates = throughput_steady(reference), throughput_steady(here)
    assert None not in (a, b, *rates)
    expected = scaling_efficiency(1 / rates[0], 1 / rates[1], b.ranks / a.ranks)
    assert b.global_efficiency(a) / a.global_efficiency(a) == pytest.approx(expected)
    assert a.computation_scaling(a) == pytest.approx(1)


def test_what_is_slow_shows_in_its_own_factor() -> None:
    even = np.full((5, 2, 6), 0.1)
    late, waiting, slow = even.copy(), even.copy(), even.copy()
    late[:, 0, 2] += 0.1  # the backward pass of rank 0, for which rank 1 waits
    late[:, 1, 3] += 0.1
    waiting[:, :, 3] += 0.1
    slow[:, :, [0, 1, 2, 4]] *= 1.25
    reference = useful_work(steps(even))
    assert reference is not None
    found = {}
    for name, parts in (("even", even), ("late", late), ("waiting", waiting), ("slow", slow)):
        work = useful_work(steps(parts))
        assert work is not None
        found[name] = (work.load_balance, work.communication_efficiency, work.computation_scaling(reference))
    assert found["even"] == pytest.approx((1, 4 / 6, 1))
    assert found["late"] == pytest.approx((0.9, 5 / 7, 4 / 4.5))
    assert found["waiting"] == pytest.approx((1, 4 / 7, 1))
    assert found["slow"] == pytest.approx((1, 5 / 7, 0.8))


def test_no_steady_step_has_no_efficiency() -> None:
    assert useful_work(steps(np.full((1, 2, 6), 0.1))) is None


def cell(nodes: int, repeat: int, work: UsefulWork | None, **other: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(CELL_EFFICIENCIES.names)
    row |= {
        "site": "here", "dataset": "synthetic", "model": "vgg16", "kind": "bnn", "nodes": nodes, "batch_size": 8,
        "variant": "base", "repeat": repeat, "study": "s", "roles": "scaling", "implementation": "bnn-flipout",
        "engine": "horovod", "ranks": nodes, "synthetic": True, "width": 1.0, "rho_init": -9.0, "verdict": "OK",
        "counted": True, "reason": "",
    }  # fmt: skip
    if work:
        row |= {
            "useful_seconds": work.total, "useful_seconds_largest": work.largest, "steady_seconds": work.seconds,
            "steady_samples": work.samples,
        }  # fmt: skip
    return row | other


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return frame(efficiency_rows(frame(list(rows), CELL_EFFICIENCIES)), POINT_EFFICIENCIES)


ONE = UsefulWork(total=9.0, largest=9.0, seconds=9.5, ranks=1, samples=100)


def of_two(factor: float) -> UsefulWork:
    return UsefulWork(total=10.0 * factor, largest=5.5 * factor, seconds=6.0, ranks=2, samples=100)


def test_a_point_pairs_its_repeats_with_those_of_one_node() -> None:
    two = {repeat: of_two(1 + 0.01 * repeat) for repeat in (1, 2, 3)}
    found = table(
        *(cell(1, repeat, ONE) for repeat in (1, 2)), *(cell(2, repeat, work) for repeat, work in two.items())
    ).set_index("nodes")
    assert found["pairs"].to_list() == [2, 2]
    assert found["repeats"].to_list() == [2, 3]
    assert found.loc[1, "computation"] == 1
    paired = [two[repeat].computation_scaling(ONE) for repeat in (1, 2)]
    assert found.loc[2, "computation"] == pytest.approx(math.sqrt(paired[0] * paired[1]))
    assert found.loc[2, "load_balance"] == pytest.approx(10 / 11)
    assert found.loc[2, "parallel_high"] <= 1
    assert found["serialization"].isna().all()
    assert set(found["reason_split"]) == {NOT_SPLIT}
    assert set(found["reason"]) == {""}


def test_what_is_missing_has_its_reason() -> None:
    lonely = table(cell(2, 1, of_two(1)))
    assert "baseline missing" in lonely.loc[0, "reason"]
    assert lonely.loc[0, "limited_by"] == ""
    assert math.isnan(lonely.loc[0, "global"])
    assert not math.isnan(lonely.loc[0, "parallel"])
    unpaired = table(cell(1, 1, ONE), cell(2, 2, of_two(1)))
    assert unpaired.set_index("nodes").loc[2, "reason"] == "no repeat has steady steps on both sides"
    invalid = table(cell(1, 1, ONE, verdict="INVALID", counted=False, reason=""))
    assert (invalid.loc[0, "verdict"], invalid.loc[0, "reason"]) == ("INVALID", "no repeat counts")
    unfinished = table(cell(1, 1, None, verdict="MISSING", counted=False, reason="the cell has not finished"))
    assert unfinished.loc[0, "reason"] == "the cell has not finished"
    assert sentence(unfinished.iloc[0]).endswith("1 node: not known (the cell has not finished).")


@pytest.mark.parametrize(
    ("balance", "communication", "computation", "expected"),
    [
        ((0.9, 0.89, 0.91), (0.7, 0.69, 0.71), (1.0, 0.99, 1.01), "communication efficiency"),
        ((0.7, 0.6, 0.8), (0.75, 0.7, 0.8), (1.0, 0.99, 1.01), "load balance or communication efficiency"),
        ((0.7, math.nan, math.nan), (0.75, math.nan, math.nan), (1.0, math.nan, math.nan), "load balance"),
        ((0.7, 0.6, 0.8), (0.75, 0.7, 0.8), (math.nan, math.nan, math.nan), ""),
    ],
)
def test_what_cannot_be_told_apart_is_named_together(
    balance: tuple[float, ...], communication: tuple[float, ...], computation: tuple[float, ...], expected: str
) -> None:
    factors = {"load_balance": balance, "communication": communication, "computation": computation}
    assert limited_by({name: Interval(*values, method="") for name, values in factors.items()}) == expected


def test_the_report_says_what_limits_a_curve_or_that_nothing_does() -> None:
    repeats = (1, 2, 3)
    slow = table(*(cell(1, r, ONE) for r in repeats), *(cell(2, r, of_two(1 + 0.001 * r)) for r in repeats))
    ((what, (said,)),) = limits({"efficiencies": slow}).items()
    assert what in ("Computation scaling", "Factors that the repeats do not tell apart")
    assert said.startswith("vgg16, bnn-flipout, synthetic, batch 8, 2 nodes: global efficiency 0.7")
    assert "limited by" in said or "do not tell" in said
    assert "computation scaling, 0.89" in said
    near = UsefulWork(total=9.0, largest=4.55, seconds=4.7, ranks=2, samples=100)
    close = table(*(cell(1, r, ONE) for r in repeats), *(cell(2, r, near) for r in repeats))
    found = limits({"efficiencies": close})
    assert list(found) == ["No factor below 0.95"]
    ((said,),) = found.values()
    assert said.endswith("no factor is below 0.95.")


def test_a_campaigns_tables_have_a_row_per_cell_and_per_point() -> None:
    tables = built_campaign()[1]
    assert len(tables["cell_efficiencies"]) == len(tables["cells"])
    assert len(tables["efficiencies"]) == len(tables["throughput"])
    known = tables["efficiencies"].dropna(subset=["global"])
    assert len(known)
    one = known[known["nodes"] == 1]
    assert np.allclose(one["computation"], 1)
    scaling = tables["scaling"].set_index(["dataset", "model", "kind", "nodes", "batch_size", "variant"])
    for key, point in known.set_index(["dataset", "model", "kind", "nodes", "batch_size", "variant"]).iterrows():
        assert point["verdict"] in ("OK", "WARN")
        assert scaling.loc[key, "pairs"] == point["pairs"]
