"""campaign project: its table, the closed set of verdicts, and where a curve is not extended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.records.columns import read_table
from campaign.results.projection import verdicts
from campaign.results.projection.allreduce import ALLREDUCE_PROJECTION, Row, projection_rows
from campaign.results.projection.curves import Curve, Floats
from campaign.results.projection.heldout import holdouts
from campaign.results.projection.jumps import jumps_over_ranks, jumps_over_sizes, moving
from campaign.results.projection.regimes import regimes
from campaign.tell.projection import project_allreduce
from tests.support.allreduce import SIZES, curve, microseconds, noisy, write_csv

SCALES = (2, 4, 8, 16)  # one rank per node


def flat(table: Floats, ranks: tuple[int, ...] = SCALES) -> Curve:
    return curve(table, ranks, per_node=1)


def doubling(ranks: tuple[int, ...] = SCALES) -> Floats:
    return microseconds("recursive doubling", ranks, per_node=1)


def by_size(rows: list[Row], ranks: int) -> dict[int, Row]:
    return {row["bytes"]: row for row in rows if row["ranks"] == ranks}


def test_the_table_has_its_schema_and_says_what_was_left_out(tmp_path: Path) -> None:
    small, large = doubling((2, 4, 8)), doubling()
    curves = [replace(flat(small, (2, 4, 8)), node="small"), replace(flat(large), node="large")]
    path, out = write_csv(tmp_path / "times.csv", curves), tmp_path / "new" / "p.parquet"
    *left_out, total = project_allreduce(path, "32, 16", out)
    assert left_out == [f"{path}: large: 16 ranks left out: measured already"]
    assert total.startswith(f"{out}: {3 * len(SIZES)} points of 2 curves, {3 * len(SIZES)} of them inside the model")
    table = read_table(out, ALLREDUCE_PROJECTION)
    assert list(table.columns) == ["node", "library", "ranks", "bytes", "microseconds", "low", "high", "verdict"]
    assert {*zip(table["node"], table["ranks"], strict=True)} == {("small", 16), ("small", 32), ("large", 32)}
    assert ((table["low"] < table["microseconds"]) & (table["microseconds"] < table["high"])).all()
    again = tmp_path / "again.parquet"
    project_allreduce(path, "32,16", again)
    assert again.read_bytes() == out.read_bytes()  # a fit is what it is: no random numbers, no dates


def test_fewer_than_three_scales_give_a_prediction_without_interval(tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    project_allreduce(write_csv(tmp_path / "t.csv", [flat(doubling((4, 8)), (4, 8))]), "16", out)
    table = read_table(out, ALLREDUCE_PROJECTION)
    assert set(table["verdict"]) == {verdicts.NOT_ESTIMABLE}
    assert table["microseconds"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_one_scale_of_the_network_shows_no_growth_that_could_be_held_out() -> None:
    one = curve(microseconds("ring", (2, 4, 8)), (2, 4, 8))  # 4 per node: one node, one node, two nodes
    assert {row["verdict"] for row in projection_rows([one], [16])} == {verdicts.NOT_ESTIMABLE}


def test_one_node_says_nothing_of_a_network() -> None:
    within = curve(microseconds("ring", (1, 2, 4)), (1, 2, 4))
    rows = projection_rows([within], [8])
    assert {row["verdict"] for row in rows} == {verdicts.NO_NETWORK}
    assert all(row["microseconds"] is None and row["low"] is None for row in rows)


def test_powers_of_two_say_nothing_of_other_numbers_of_nodes() -> None:
    assert {row["verdict"] for row in projection_rows([flat(doubling())], [24])} == {verdicts.NO_POWER}
    others = (2, 3, 6, 12)
    assert verdicts.NO_POWER not in {row["verdict"] for row in projection_rows([flat(doubling(others), others)], [24])}


def test_sizes_that_some_scales_lack_are_refused() -> None:
    rows = by_size(projection_rows([replace(flat(doubling()), partial=(3,))], [32]), 32)
    assert rows[3]["verdict"] == verdicts.NOT_EVERYWHERE
    assert list(rows) == sorted(rows)


def test_too_few_sizes_give_no_interval() -> None:
    two = replace(flat(doubling()[:, :2]), sizes=SIZES[:2])
    assert {row["verdict"] for row in projection_rows([two], [32])} == {verdicts.NOT_ESTIMABLE}


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 7, 21])
def test_congestion_at_one_size_is_refused_with_its_place(scale: int, size: int) -> None:
    table = doubling()
    table[scale, size] *= 3
    row = by_size(projection_rows([flat(table)], [32]), 32)[SIZES[size]]
    assert row["microseconds"] is None
    assert row["verdict"].startswith("refused: the curve jumps at ")
    assert f"{SIZES[size]} bytes" in row["verdict"] or size == 0


@pytest.mark.parametrize("begins", [5, 10, 15])
def test_a_protocol_that_only_the_largest_scale_has_is_not_extended(begins: int) -> None:
    table = doubling()
    table[-1, begins:] *= 2
    rows = by_size(projection_rows([flat(table)], [32]), 32)
    for size in SIZES[begins:]:
        assert rows[size]["verdict"] == verdicts.JUMP.format(bytes=size, ranks=16)
    assert all(rows[size]["verdict"] == verdicts.INSIDE for size in SIZES[:begins])


def test_a_switch_at_one_size_whatever_the_scale_ends_a_regime_and_refuses_nothing() -> None:
    table, switch = noisy(doubling(), 0.01, 1), 12
    table[:, switch:] *= 4
    found = flat(table)
    assert {jump.size for jump in jumps_over_sizes(found)} == {switch}
    assert switch in [regime.start for regime in regimes(found, [switch])]
    assert {row["verdict"] for row in projection_rows([found], [32])} == {verdicts.INSIDE}
    assert verdicts.boundaries(found) == [
        f"jumps at {SIZES[switch]} bytes (2, 4, 8, 16 ranks): fitted apart on either side of it"
    ]


def test_a_switch_that_moves_with_the_ranks_is_refused_as_far_as_it_may_come() -> None:
    table = doubling()
    for scale, begins in enumerate((12, 13, 14, 15)):  # at so many bytes per rank
        table[scale, begins:] *= 4
    found = flat(table)
    assert [sorted({jump.size for jump in group}) for group in moving(found, jumps_over_sizes(found))] == [
        [12, 13, 14, 15]
    ]
    assert verdicts.boundaries(found) == []
    for ranks, beyond in ((32, 16), (64, 17), (128, 18)):
        rows = by_size(projection_rows([found], [ranks]), ranks)
        refused = [size for size in SIZES if rows[size]["microseconds"] is None]
        assert refused == list(SIZES[12:beyond])
        assert all(rows[size]["verdict"].startswith("refused: the curve jumps at ") for size in refused)


def test_no_bound_is_broken_by_noise_of_some_percent() -> None:
    for algorithm in ("recursive doubling, by level", "ring", "Rabenseifner", "tree of nodes"):
        for seed in range(10):
            found = curve(noisy(microseconds(algorithm, (4, 8, 16, 32)), 0.03, seed), (4, 8, 16, 32))
            assert not jumps_over_sizes(found), (algorithm, seed)
            assert not jumps_over_ranks(found), (algorithm, seed)


def test_scales_are_held_out_where_two_of_the_network_are_left_to_fit_if_there_are() -> None:
    def of(ranks: tuple[int, ...], per_node: int) -> list[int]:
        return holdouts(curve(microseconds("ring", ranks, per_node), ranks, per_node))

    assert of((4, 8), 1) == []
    assert of((4, 8, 16), 1) == [2]
    assert of((4, 8, 16), 4) == [2]  # one node, two, four: one of the network is all there is
    assert of((4, 8, 16, 32, 64), 4) == [3, 4]
    assert of((4, 8, 16), 8) == []
    assert of((1, 2, 4), 4) == [2]


@st.composite
def any_curve(draw: st.DrawFn) -> Curve:
    """Scales of any layout, sizes of any distance, times of any course."""
    scales = draw(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 8)), min_size=2, max_size=5))
    ranks, nodes = [], []
    for more, per_node in sorted(scales):
        if not nodes or (more * per_node > ranks[-1] and more >= nodes[-1]):
            ranks.append(more * per_node)
            nodes.append(more)
    sizes = sorted(draw(st.sets(st.integers(1, 2**40), min_size=1, max_size=7)))
    times = draw(st.lists(st.floats(1e-6, 1e12), min_size=len(ranks) * len(sizes), max_size=len(ranks) * len(sizes)))
    return Curve("n", "l", tuple(ranks), tuple(nodes), tuple(sizes), np.array(times).reshape(len(ranks), len(sizes)))


@settings(max_examples=40)
@given(any_curve(), st.integers(1, 2**24))
def test_whatever_was_measured_the_answer_is_a_verdict_of_the_set_and_numbers(found: Curve, nodes: int) -> None:
    ranks = max(found.per_node * nodes, found.ranks[-1] // found.per_node * found.per_node + found.per_node)
    rows = projection_rows([found], [ranks])
    assert [row["bytes"] for row in rows] == list(found.sizes)
    for row in rows:
        numbers = [row[name] for name in ("low", "microseconds", "high")]
        if row["verdict"].startswith("refused: "):
            assert numbers == [None, None, None]
        elif row["verdict"] == verdicts.NOT_ESTIMABLE:
            assert numbers[0] is numbers[2] is None
            assert 0 < numbers[1] < np.inf
        else:
            assert row["verdict"] in (verdicts.INSIDE, verdicts.TOO_WIDE)
            assert 0 <= numbers[0] <= numbers[1] <= numbers[2]


def test_other_libraries_leave_a_curve_alone_and_other_nodes_do_not() -> None:
    ranks = (4, 8, 16)
    one = curve(noisy(microseconds("ring", ranks), 0.05, 1), ranks)
    far = curve(noisy(microseconds("recursive doubling", ranks), 0.02, 2), ranks, node="far")
    alone = pd.DataFrame(projection_rows([one], [32]))
    beside = pd.DataFrame(projection_rows([one, replace(far, library="another")], [32]))
    informed = pd.DataFrame(projection_rows([one, far], [32]))
    pd.testing.assert_frame_equal(alone, beside[beside["node"] == "node"])
    mine = informed[informed["node"] == "node"]
    assert not np.allclose(alone["microseconds"].dropna(), mine["microseconds"].dropna(), rtol=1e-6)
