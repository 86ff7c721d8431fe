"""When blocks of gradients are full: watched on one rank, and gone afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bnn.bench.replay.schedule import COMPUTED, Recorded, schedule
from bnn.engine import SingleEngine
from bnn.exchange import GradientExchange
from bnn.training.blocks import full_shares
from bnn.training.stamps import BlockWatch


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def test_blocks_are_watched_for_some_steps_and_no_longer() -> None:
    model = network()
    exchange = GradientExchange(SingleEngine(), model.named_parameters(), 0)
    exchange.stamps = watch = BlockWatch(exchange, 2)
    assert exchange.planned_bytes == [4 * p.numel() for p in reversed([*model.parameters()])]
    assert exchange.messages_per_step == exchange.bytes_per_step == 0, "one rank sends nothing"
    for _ in range(5):
        model(torch.ones(2, 6)).sum().backward()
        exchange.wait()
    rows = watch.rows()
    assert rows.shape == (2, 1 + 2 * 6)
    full = rows[:, 1:7]
    assert (full <= rows[:, :1]).all(), "all are full when the backward pass is over"
    assert (full[:, 0] <= full[:, -1]).all(), "the last layer's gradients come first"
    assert exchange.stamps is not watch
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_a_block_that_the_backward_pass_does_not_reach_leaves_at_its_end() -> None:
    model = network()
    exchange = GradientExchange(SingleEngine(), model.named_parameters(), 0)
    exchange.stamps = watch = BlockWatch(exchange, 1)
    model[:3](torch.ones(2, 6)).sum().backward()  # the last layer has no part in it
    exchange.wait()
    shares = full_shares(watch.rows(), np.array([1.0]), 6)
    assert shares[0, 0] == 1.0, "it cannot leave before"
    assert (np.diff(shares) >= 0).all(), "blocks leave in order"


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40), st.integers(1, 60))
def test_ranks_that_replay_the_same_one_begin_apart(known: int, ranks: int, steps: int, count: int) -> None:
    import pandas as pd

    rows = pd.DataFrame({"rank": np.repeat(np.arange(known), steps), "step": np.tile(np.arange(10, 10 + steps), known)})
    rows[list(COMPUTED)] = rows[["step"]].to_numpy() * np.ones(5)
    recorded = Recorded(None, None, rows, (4,), (1.0,))  # type: ignore[arg-type]
    plans = [schedule(recorded, rank, ranks, count) for rank in range(ranks)]
    for plan in plans:
        assert plan.seconds.shape == (count, 5)
        assert (plan.seconds[:, 0] == plan.steps).all()
        assert ((plan.steps >= 10) & (plan.steps < 10 + steps)).all()
    for source in range(min(known, ranks)):
        begins = [plan.steps[0] for plan in plans if plan.rank == source]
        if len(begins) <= steps:
            assert len({*begins}) == len(begins)


@pytest.mark.parametrize(("full", "expected"), [([0.4, 0.2, 1.2], [0.4, 0.4, 1.0]), ([-0.1, 0.5, 0.9], [0, 0.5, 0.9])])
def test_shares_of_the_backward_pass(full: list[float], expected: list[float]) -> None:
    rows = np.array([[1.0, *full, 2.0, 2.0, 2.0]])
    assert full_shares(rows, np.array([1.0]), 3)[0] == pytest.approx(expected)
