"""Why a rank waits: made-up stamps in, known seconds out; and that no second is counted twice or lost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.training.stamps import ExchangeStamps
from bnn.training.waits import RankStamps, last_full, split_waits, with_calls

REASONS = ("late", "negotiation", "transfer")


def test_a_late_rank_an_agreement_and_a_transfer_are_told_apart() -> None:
    """Block 0 travels behind the backward pass; block 1 is late, agreed on and sent while the rank waits."""
    rows = np.array([[10.0, 8.0, 9.0, 10.001, 11.7]])
    mine = with_calls(rows, np.array([[8.6, 8.8], [11.2, 11.6]]))
    found = split_waits(mine, np.array([[8.5, 11.0]]), negotiates=True)
    expected = {"late": 1.0, "reduction": 0.7, "negotiation": 0.2, "transfer": 0.5, "hidden": 0.2}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)
    by_order = split_waits(with_calls(rows, None), np.array([[8.5, 11.0]]), negotiates=False)
    assert by_order["negotiation"].item() == 0
    assert by_order["transfer"].item() == pytest.approx(0.7)
    assert math.isnan(by_order["hidden"].item())


def test_what_travels_while_the_last_rank_computes_is_no_loss_of_its_own() -> None:
    """Rank 0 is ready at 10; rank 1's blocks are full at 11 and 13. The first travels between."""
    mine = with_calls(np.array([[10.0, 8.0, 9.0, 11.9, 13.8]]), np.array([[11.2, 11.8], [13.3, 13.7]]))
    found = split_waits(mine, np.array([[11.0, 13.0]]), negotiates=True)
    assert found["late"].item() == pytest.approx(3.0)
    assert found["negotiation"].item() == pytest.approx(0.3)
    assert found["transfer"].item() == pytest.approx(0.5)


def test_what_no_profile_dated_is_not_measured() -> None:
    rows = np.array([[10.0, 8.0, 11.0], [20.0, 18.0, 21.0]])
    found = split_waits(with_calls(rows, None), np.array([[9.0], [20.5]]), negotiates=True)
    assert found["late"] == pytest.approx([0.0, 0.5])
    assert found["reduction"] == pytest.approx([1.0, 0.5])
    assert np.isnan(found["negotiation"]).all()
    assert np.isnan(found["transfer"]).all()
    # the interposer kept the calls of the first step alone
    found = split_waits(with_calls(rows, np.array([[10.5, 10.9]])), np.array([[9.0], [20.5]]), negotiates=True)
    assert found["negotiation"] == pytest.approx([0.5, math.nan], nan_ok=True)
    assert found["hidden"] == pytest.approx([0.0, math.nan], nan_ok=True)


@st.composite
def exchanges(draw: st.DrawFn) -> dict[str, Any]:
    """Two ranks, steps of a few blocks: when they are full, agreed on, sent and there, as an engine would do it."""
    blocks, steps, now = draw(st.integers(1, 4)), draw(st.integers(1, 4)), 0.0
    gap = st.floats(1e-4, 1.0)
    ranks: list[list[list[float]]] = [[], []]
    calls, truth = [], []
    for _ in range(steps):
        full = [np.cumsum([draw(gap) for _ in range(blocks)]) + now for _ in range(2)]
        waits = [each[-1] + draw(gap) for each in full]
        free, sent, there = now, [], []
        for block in range(blocks):
            ready = max(each[block] for each in full)
            start = max(free, ready) + draw(gap)
            free = start + draw(gap)
            calls.append((start, free))
            sent.append(start)
            there.append(free + 1e-6)
        for rank in range(2):
            seen = list(np.maximum.accumulate(np.maximum(there, waits[rank])))
            ranks[rank].append([waits[rank], *full[rank], *seen])
        truth.append([max(each[block] for each in full) for block in range(blocks)])
        now = max(there[-1], *waits) + draw(gap)
    return {"rows": [np.array(rank) for rank in ranks], "calls": np.array(calls), "last": np.array(truth)}


@given(exchanges())
def test_every_second_of_waiting_has_one_reason(made: dict[str, Any]) -> None:
    stamps = [with_calls(rows, made["calls"]) for rows in made["rows"]]
    last, _ = last_full([mine.full for mine in stamps])
    np.testing.assert_array_equal(last, made["last"])
    for mine in stamps:
        found = split_waits(mine, last, negotiates=True)
        waited = mine.averaged[:, -1] - mine.waits
        assert sum(found[name] for name in REASONS) == pytest.approx(waited, abs=1e-9)
        assert found["reduction"] == pytest.approx(found["negotiation"] + found["transfer"], abs=1e-9)
        assert all((found[name] >= 0).all() for name in (*REASONS, "hidden"))
        travelled = (made["calls"][:, 1] - made["calls"][:, 0]).sum()
        assert found["hidden"].sum() <= travelled + 1e-9


@given(exchanges(), st.floats(-1e3, 1e3))
def test_another_clock_changes_nothing(made: dict[str, Any], offset: float) -> None:
    mine = with_calls(made["rows"][0], made["calls"])
    moved = RankStamps.of_table(mine.shifted(np.full(len(mine.waits), offset)).table())
    here, there = (
        split_waits(*pair, negotiates=True) for pair in ((mine, made["last"]), (moved, made["last"] + offset))
    )
    for name in here:
        assert here[name] == pytest.approx(there[name], abs=1e-9)


def test_a_rank_whose_clock_is_unknown_leaves_waiting_unknown() -> None:
    full = np.array([[1.0, 2.0]])
    last, late_rank = last_full([full, full + math.nan])
    assert np.isnan(last).all()
    assert late_rank.tolist() == [-1]
    assert last_full([full + math.nan, full])[1].tolist() == [-1]
    assert last_full([full, full + 0.5, full + 0.2])[1].tolist() == [1]
    assert last_full([full, full])[1].tolist() == [0]
    with pytest.raises(ValueError, match="no rank"):
        last_full([])


def test_stamps_are_kept_in_the_order_of_steps_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn.training.stamps.ROOM", 2 * 8 * 5)  # two steps of two blocks
    stamps = ExchangeStamps(blocks=2, steps=10)
    for _ in range(4):
        stamps.full(0)
        stamps.full(1)
        stamps.waits()
        stamps.averaged(0)
        stamps.averaged(1)
        stamps.next_step()
    rows = stamps.rows()
    assert rows.shape == (2, 5)
    order = rows[:, [1, 2, 0, 3, 4]]
    assert (np.diff(order.reshape(-1)) >= 0).all()
