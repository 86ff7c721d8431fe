"""What an allreduce of so many bytes takes, in two parts: what it takes however small, and what its bytes take."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


class RefusedError(Exception):
    """A number of bytes, or of ranks, of which nothing can be said; the message is why."""


class Cost(NamedTuple):
    """Seconds of one allreduce."""

    latency: float
    bandwidth: float


class Messages(Protocol):
    """What allreduces take at one number of ranks."""

    def cost(self, size: float) -> Cost:
        """Of one of `size` bytes. Raises RefusedError."""
        ...

    def left(self, size: float) -> float:
        """The share of its speed that a rank's computing keeps while one travels: 1 where it has cores of its own."""
        ...


@dataclass(frozen=True)
class Affine:
    """The fastest of some algorithms, each a + b bytes, seconds."""

    ways: tuple[tuple[float, float], ...]

    def cost(self, size: float) -> Cost:
        """By the fastest algorithm for this size."""
        fixed, each = min(self.ways, key=lambda way: way[0] + way[1] * size)
        return Cost(fixed, each * size)

    def left(self, size: float) -> float:
        """Network interfaces move what fabrics promise."""
        return 1.0


@dataclass(frozen=True)
class Tabled:
    """Seconds at some sizes, ascending; between them by interpolation of logarithms.

    `refused`: why nothing is said of some sizes. Smaller ones than the first take as long as it does; beyond the last
    nothing is known, as a cache or a protocol may end there. `computing`: what is left of computing's speed beside a
    message of each size; empty: not measured, and taken for all of it.
    """

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]
    refused: tuple[str, ...]
    computing: tuple[float, ...] = ()

    def cost(self, size: float) -> Cost:
        """Latency is what the smallest size takes. Raises RefusedError beyond the largest and beside a refused size."""
        if size > self.sizes[-1]:
            raise RefusedError(f"refused: {size:.0f} bytes at once, and the curve ends at {self.sizes[-1]:.0f}")
        place = bisect_left(self.sizes, size)
        around = (place,) if place == 0 or self.sizes[place] == size else (place - 1, place)
        for each in (0, *around):
            if self.refused[each]:
                raise RefusedError(self.refused[each])
        high = self.seconds[around[-1]]
        if len(around) == 1:
            found = high
        else:
            low, (a, b) = self.seconds[around[0]], (self.sizes[each] for each in around)
            share = math.log(size / a) / math.log(b / a)
            found = low ** (1 - share) * high**share
        latency = min(self.seconds[0], found)
        return Cost(latency, found - latency)

    def left(self, size: float) -> float:
        """Between sizes linear in their logarithms; at the ends as there."""
        if not self.computing:
            return 1.0
        return float(np.interp(math.log(size), np.log(self.sizes), self.computing))


class Ways(NamedTuple):
    """What allreduces take: as expected, and at the ends of what is assumed, None where these are not known."""

    middle: Messages
    best: Messages | None
    worst: Messages | None
