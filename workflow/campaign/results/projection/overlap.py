"""What of a gradient exchange a rank waits for: blocks leave while the backward pass goes on, cycle by cycle.

Horovod's background thread wakes every cycle time (at once where a cycle took longer), agrees by an allreduce of a few
bits on what all ranks have ready, fuses that up to the fusion buffer, and reduces it before it looks again
(horovod/common/operations.cc, RunLoopOnce). torch.distributed reduces block after block, in order, and agrees on
nothing. Time is that of the late rank: all others have had the same blocks before. Where ranks have no core to spare,
what moves messages takes a share of the backward pass's, which then takes longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from campaign.results.projection.messages import Cost, Messages

CONTROL_BYTES = 8  # of the allreduce that agrees: a bit per message and some flags
PHASES = 8  # of the cycle to the backward pass: nothing ties one to the other, so all are as likely


class Block(NamedTuple):
    """Bytes that leave together, and when they are there, s from the start of the backward pass."""

    size: float
    full: float


@dataclass(frozen=True)
class Rules:
    """Of the engine: seconds from cycle to cycle (None: it has none) and bytes of its fusion buffer (0: no fusion)."""

    cycle: float | None
    fusion: float


class Exposed(NamedTuple):
    """Mean seconds that a rank waits for after its backward pass, by what they go to, and seconds hidden behind it.

    `negotiation` is the wait for a cycle to begin and its agreement, `latency` and `bandwidth` are messages. `slowed`:
    by how much the backward pass takes longer than without messages.
    """

    negotiation: float
    latency: float
    bandwidth: float
    hidden: float
    slowed: float

    @property
    def total(self) -> float:
        """What is waited for."""
        return self.negotiation + self.latency + self.bandwidth


NOTHING = Exposed(0.0, 0.0, 0.0, 0.0, 0.0)


def exposed(blocks: Sequence[Block], backward: float, rules: Rules, messages: Messages) -> Exposed:
    """Of blocks in order of `full`, none after `backward`, the backward pass's seconds. Raises RefusedError."""
    if not blocks:
        return NOTHING
    if rules.cycle is None:
        return _told(*_in_order(blocks, backward, messages), backward)
    control = sum(messages.cost(CONTROL_BYTES))
    found = [
        _told(*_in_cycles(blocks, backward, rules.cycle, rules.fusion, control, messages, (p + 0.5) / PHASES), backward)
        for p in range(PHASES)
    ]
    return Exposed(*(math.fsum(values) / PHASES for values in zip(*found, strict=True)))


Sent = list[tuple[float, Cost]]  # when each message starts, and what it takes


class _Backward:
    """The backward pass beside messages: the time `now`, s, and the seconds of its work that are `done`."""

    def __init__(self, work: float) -> None:
        self._work, self.now, self.done, self._end, self.slowed = work, 0.0, 0.0, math.nan, False

    def at(self, done: float) -> float:
        """When so much is done, if nothing travels until then."""
        return self.now + max(0.0, done - self.done)

    def go_on(self, until: float, left: float = 1.0) -> None:
        """To a later time, at a share of its speed."""
        rest = (self._work - self.done) / left if left > 0 else math.inf
        if math.isnan(self._end) and until - self.now >= rest:
            self._end = self.now + rest
        self.slowed |= left < 1 and rest > 0
        self.done = min(self._work, self.done + left * (until - self.now))
        self.now = until

    @property
    def end(self) -> float:
        """Its own time where nothing slowed it; never less, as rounding of what went on beside messages might be."""
        if not self.slowed:
            return self._work
        return max(self._work, self.now + self._work - self.done if math.isnan(self._end) else self._end)


def _in_order(blocks: Sequence[Block], backward: float, messages: Messages) -> tuple[Sent, float]:
    """Messages, and when the backward pass ends."""
    work, sent = _Backward(backward), []
    for block in blocks:
        work.go_on(work.at(block.full))
        sent.append((work.now, messages.cost(block.size)))
        work.go_on(work.now + sum(sent[-1][1]), messages.left(block.size))
    return sent, work.end


def _in_cycles(
    blocks: Sequence[Block], backward: float, cycle: float, fusion: float, control: float, messages: Messages,
    phase: float,
) -> tuple[Sent, float]:  # fmt: skip
    """The same. `phase`: the share of an idle cycle that the first block waits for the next one to begin."""
    work, sent = _Backward(backward), []
    idle = max(cycle, control)  # a cycle in which nothing is ready
    start, done = blocks[0].full + phase * idle, 0
    while done < len(blocks):
        full = work.at(blocks[done].full)
        if full > start:
            start += math.ceil((full - start) / idle) * idle
        work.go_on(max(start, work.now))
        ready = done
        while ready < len(blocks) and blocks[ready].full <= work.done * (1 + 1e-12):
            ready += 1
        work.go_on(work.now + control)
        for size in fused([block.size for block in blocks[done : max(ready, done + 1)]], fusion):
            sent.append((work.now, messages.cost(size)))
            work.go_on(work.now + sum(sent[-1][1]), messages.left(size))
        done = max(ready, done + 1)
        start = max(start + cycle, work.now)
    return sent, work.end


def fused(sizes: Sequence[float], fusion: float) -> list[float]:
    """Bytes of the messages that these become, in order: together while they fit into the fusion buffer."""
    found: list[float] = []
    for size in sizes:
        if found and found[-1] + size <= fusion:
            found[-1] += size
        else:
            found.append(size)
    return found


def _told(sent: Sent, end_of_backward: float, backward: float) -> Exposed:
    """Split what comes after the backward pass; what is no message there is waiting for one."""
    latency = bandwidth = hidden = 0.0
    end = end_of_backward
    for start, cost in sent:
        middle, end = start + cost.latency, start + sum(cost)
        latency += max(0.0, middle - max(start, end_of_backward))
        bandwidth += max(0.0, end - max(middle, end_of_backward))
        hidden += max(0.0, min(end, end_of_backward) - start)
    rest = max(0.0, end - end_of_backward) - latency - bandwidth
    return Exposed(max(0.0, rest), latency, bandwidth, hidden, end_of_backward - backward)
