"""What an allreduce of so many bytes takes, in two parts: what it takes however small, and what its bytes take."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple, Protocol


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


@dataclass(frozen=True)
class Affine:
    """The fastest of some algorithms, each a + b bytes, seconds."""

    ways: tuple[tuple[float, float], ...]

    def cost(self, size: float) -> Cost:
        """By the fastest algorithm for this size."""
        fixed, each = min(self.ways, key=lambda way: way[0] + way[1] * size)
        return Cost(fixed, each * size)


@dataclass(frozen=True)
class Tabled:
    """Seconds at some sizes, ascending; between them by interpolation of logarithms.

    `refused`: why nothing is said of some sizes. Smaller ones than the first take as long as it does; beyond the last
    nothing is known, as a cache or a protocol may end there.
    """

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]
    refused: tuple[str, ...]

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


class Ways(NamedTuple):
    """What allreduces take: as expected, and at the ends of what is assumed, None where these are not known."""

    middle: Messages
    best: Messages | None
    worst: Messages | None
