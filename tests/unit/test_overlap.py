"""What a rank waits for of a gradient exchange: cases by hand, and what has to hold of any."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campaign.results.projection.messages import Affine, RefusedError, Tabled
from campaign.results.projection.overlap import CONTROL_BYTES, NOTHING, Block, Rules, exposed, fused

TORCH = Rules(None, 0.0)
LINK = Affine(((0.001, 0.01),))  # 1 ms and 10 ms per byte: a block of 1 B takes 11 ms

times = st.floats(0, 1)
sizes = st.floats(1, 1000)
links = st.builds(lambda a, b: Affine(((a, b),)), st.floats(1e-6, 0.01), st.floats(1e-9, 1e-4))
rules = st.builds(Rules, st.none() | st.floats(1e-4, 0.05), st.sampled_from([0.0, 100.0, 1e9]))
exchanges = st.lists(st.tuples(sizes, times), min_size=1, max_size=8).map(
    lambda pairs: [Block(size, full) for size, full in sorted(pairs, key=lambda pair: pair[1])]
)


def test_without_cycles_blocks_follow_each_other_as_soon_as_they_are_full() -> None:
    blocks = [Block(1, 0.0), Block(2, 0.005), Block(1, 0.05)]  # 0 to 11 ms, 11 to 32 ms, 50 to 61 ms
    found = exposed(blocks, 0.05, TORCH, LINK)
    assert found == pytest.approx((0, 0.001, 0.01, 0.032, 0))
    assert found.total == pytest.approx(0.011)
    assert exposed(blocks, 0.1, TORCH, LINK).total == 0  # all is hidden behind a longer backward pass


@dataclass(frozen=True)
class Sharing(Affine):
    """A link whose messages leave computing a share of its speed."""

    share: float = 1.0

    def left(self, size: float) -> float:
        return self.share


def test_messages_slow_the_backward_pass_that_hides_them() -> None:
    """At half its speed: 5.5 of its 50 ms are done when the first block is there after 11 ms."""
    link = Sharing(LINK.ways, 0.5)
    found = exposed([Block(1, 0.0)], 0.05, TORCH, link)
    assert found == pytest.approx((0, 0, 0, 0.011, 0.0055))
    # the second is full when 10 ms of the work are done: at 15.5 ms
    found = exposed([Block(1, 0.0), Block(1, 0.010)], 0.05, TORCH, link)
    assert found == pytest.approx((0, 0, 0, 0.022, 0.011))
    # 6 ms of work are left when the second one leaves: it takes 12 ms, and one goes before the message is there
    found = exposed([Block(1, 0.0), Block(2, 0.0445)], 0.05, TORCH, link)
    assert found == pytest.approx((0, 0, 0.010, 0.022, 0.011))


@given(exchanges, rules, links, st.floats(0.05, 1))
@example([Block(2.0, 8.543054706793991e-05)], Rules(None, 0.0),
         Affine(((0.001254138525097654, 8.543054706793991e-05),)), 0.9999999999999999)  # fmt: skip
def test_what_is_lost_is_the_share_that_messages_take_while_they_are_hidden(
    blocks: list[Block], rules: Rules, link: Affine, share: float
) -> None:
    found = exposed(blocks, 1.0, rules, Sharing(link.ways, share))
    assert min(found) >= 0
    assert found.slowed == pytest.approx((1 - share) * found.hidden, abs=1e-9)
    alone = exposed(blocks, 1.0, rules, link)
    if share == 1:
        assert found == alone
    if rules.cycle is None:
        assert found.slowed + found.total >= alone.total - 1e-9


def test_beside_a_message_computing_keeps_what_was_measured() -> None:
    curve = Tabled((4.0, 64.0, 1024.0), (1e-5, 2e-5, 9e-5), ("", "", ""), (1.0, 0.8, 0.4))
    assert [curve.left(size) for size in (1, 4, 64, 1024, 5000)] == pytest.approx([1.0, 1.0, 0.8, 0.4, 0.4])
    assert curve.left(256) == pytest.approx(0.6)
    assert Tabled((4.0,), (1e-5,), ("",)).left(9) == 1


def test_one_block_at_the_end_waits_half_a_cycle_and_agrees_before_it_travels() -> None:
    control = sum(LINK.cost(CONTROL_BYTES))
    found = exposed([Block(1, 0.5)], 0.5, Rules(1.0, 0.0), LINK)
    assert found.negotiation == pytest.approx(0.5 + control)
    assert (found.latency, found.bandwidth, found.hidden) == pytest.approx((0.001, 0.01, 0))


def test_blocks_of_one_cycle_are_fused_up_to_the_buffer() -> None:
    assert fused([1, 2, 3, 10, 1], 6) == [6, 10, 1]
    assert fused([1, 2], 0) == [1, 2]
    blocks = [Block(1, 0.5), Block(1, 0.5)]
    apart, together = (exposed(blocks, 0.5, Rules(1.0, buffer), LINK) for buffer in (0.0, 2.0))
    assert apart.latency == pytest.approx(2 * together.latency)
    assert apart.bandwidth == pytest.approx(together.bandwidth)


def test_no_block_waits_for_nothing() -> None:
    assert exposed([], 1.0, TORCH, LINK) == NOTHING


@given(exchanges, rules, links)
def test_a_rank_waits_for_no_less_than_nothing_and_no_more_than_everything(
    blocks: list[Block], rules: Rules, link: Affine
) -> None:
    found = exposed(blocks, 1.0, rules, link)
    assert min(found) >= 0
    messages = math.fsum(sum(link.cost(block.size)) for block in blocks)
    control = sum(link.cost(CONTROL_BYTES)) if rules.cycle else 0.0
    cycles = len(blocks) * (control + (rules.cycle or 0.0)) + max(control, rules.cycle or 0.0)
    assert found.total <= (messages + cycles) * (1 + 1e-9)
    travelled = found.hidden + found.latency + found.bandwidth
    assert travelled <= messages * (1 + 1e-9)
    if not rules.fusion:
        assert travelled == pytest.approx(messages)


@given(exchanges, links, st.floats(1, 10))
def test_without_cycles_a_faster_link_never_makes_a_rank_wait_longer(
    blocks: list[Block], link: Affine, factor: float
) -> None:
    faster = Affine(tuple((a / factor, b / factor) for a, b in link.ways))
    assert exposed(blocks, 1.0, TORCH, faster).total <= exposed(blocks, 1.0, TORCH, link).total + 1e-12


@given(st.lists(sizes, min_size=1, max_size=8), rules, links, st.floats(1, 10))
def test_what_is_not_hidden_never_waits_longer_on_a_faster_link(
    many: list[float], rules: Rules, link: Affine, factor: float
) -> None:
    blocks = [Block(size, 1.0) for size in many]
    faster = Affine(tuple((a / factor, b / factor) for a, b in link.ways))
    assert exposed(blocks, 1.0, rules, faster).total <= exposed(blocks, 1.0, rules, link).total * (1 + 1e-9)


@given(exchanges, links, st.floats(0, 1))
def test_blocks_that_are_full_earlier_never_wait_longer_without_cycles(
    blocks: list[Block], link: Affine, share: float
) -> None:
    earlier = [Block(block.size, share * block.full) for block in blocks]
    assert exposed(earlier, 1.0, TORCH, link).total <= exposed(blocks, 1.0, TORCH, link).total + 1e-12


@given(st.floats(4, 4096))
def test_a_measured_curve_lies_between_its_neighbours(size: float) -> None:
    curve = Tabled((4.0, 64.0, 4096.0), (1e-5, 2e-5, 9e-5), ("", "", ""))
    assert 1e-5 <= sum(curve.cost(size)) <= 9e-5 * (1 + 1e-12)
    assert curve.cost(size).latency == pytest.approx(1e-5)


def test_a_curve_says_nothing_beyond_its_end_or_beside_a_refused_size() -> None:
    curve = Tabled((4.0, 64.0, 4096.0), (1e-5, 2e-5, math.nan), ("", "", "refused: so"))
    assert sum(curve.cost(1)) == 1e-5
    assert sum(curve.cost(64)) == 2e-5
    with pytest.raises(RefusedError, match="refused: so"):
        curve.cost(65)
    with pytest.raises(RefusedError, match="5000 bytes at once, and the curve ends at 4096"):
        curve.cost(5000)
