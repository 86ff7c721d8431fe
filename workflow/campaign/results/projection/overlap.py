"""What of a gradient exchange a rank waits for: blocks leave while the backward pass goes on, cycle by cycle.

Horovod's background thread wakes every cycle time (at once where a cycle took longer), agrees by an allreduce of a few
bits on what all ranks have ready, fuses that up to the fusion buffer, and reduces it before it looks again
(horovod/common/operations.cc, RunLoopOnce). torch.distributed reduces block after block, in order, and agrees on
nothing. Time is that of the late rank: all others have had the same blocks before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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

    `negotiation` is the wait for a cycle to begin and its agreement, `latency` and `bandwidth` are messages.
    """

    negotiation: float
    latency: float
    bandwidth: float
    hidden: float

    @property
    def total(self) -> float:
        return self.negotiation + self.latency + self.bandwidth


NOTHING = Exposed(0.0, 0.0, 0.0, 0.0)


def exposed(blocks: Sequence[Block], backward: float, rules: Rules, messages: Messages) -> Exposed:
    """Of blocks in order of `full`, none after `backward`, the backward pass's seconds. Raises RefusedError."""
    if not blocks:
        return NOTHING
    if rules.cycle is None:
        return _told(_in_order(blocks, messages), backward)
    control = sum(messages.cost(CONTROL_BYTES))
    found = [
        _told(_in_cycles(blocks, rules.cycle, rules.fusion, control, messages, (phase + 0.5) / PHASES), backward)
        for phase in range(PHASES)
    ]
    return Exposed(*(math.fsum(values) / PHASES for values in zip(*found, strict=True)))


Sent = tuple[float, Cost]  # when a message starts, and what it takes


def _in_order(blocks: Sequence[Block], messages: Messages) -> Iterator[Sent]:
    now = 0.0
    for block in blocks:
        now = max(now, block.full)
        cost = messages.cost(block.size)
        yield now, cost
        now += sum(cost)


def _in_cycles(
    blocks: Sequence[Block], cycle: float, fusion: float, control: float, messages: Messages, phase: float
) -> Iterator[Sent]:
    """`phase`: the share of an idle cycle that the first block waits for the next one to begin."""
    idle = max(cycle, control)  # a cycle in which nothing is ready
    start, done = blocks[0].full + phase * idle, 0
    while done < len(blocks):
        if blocks[done].full > start:
            start += math.ceil((blocks[done].full - start) / idle) * idle
        ready = done
        while ready < len(blocks) and blocks[ready].full <= start * (1 + 1e-12):
            ready += 1
        now = start + control
        for size in fused([block.size for block in blocks[done : max(ready, done + 1)]], fusion):
            cost = messages.cost(size)
            yield now, cost
            now += sum(cost)
        done = max(ready, done + 1)
        start = max(start + cycle, now)


def fused(sizes: Sequence[float], fusion: float) -> list[float]:
    """Bytes of the messages that these become, in order: together while they fit into the fusion buffer."""
    found: list[float] = []
    for size in sizes:
        if found and found[-1] + size <= fusion:
            found[-1] += size
        else:
            found.append(size)
    return found


def _told(sent: Iterator[Sent], backward: float) -> Exposed:
    """Split what comes after the backward pass; what is no message there is waiting for one."""
    latency = bandwidth = hidden = 0.0
    end = backward
    for start, cost in sent:
        middle, end = start + cost.latency, start + sum(cost)
        latency += max(0.0, middle - max(start, backward))
        bandwidth += max(0.0, end - max(middle, backward))
        hidden += max(0.0, min(end, backward) - start)
    rest = max(0.0, end - backward) - latency - bandwidth
    return Exposed(max(0.0, rest), latency, bandwidth, hidden)
