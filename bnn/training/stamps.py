"""When each block of gradients was full on a rank and when its average was there: kept in memory while steps go on.

Stamps are readings of `time.perf_counter`, which on Linux is the clock that the MPI interposer reads, too.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from time import perf_counter

import numpy as np
from torch import Tensor

from bnn.exchange import GradientExchange, Stamps

ROOM = 16 * 2**20  # bytes of a rank's stamps; the steps after those that fit are not stamped


class ExchangeStamps(Stamps):
    """One row per step: when waiting began, and of each block when it was full and when its average was there.

    A row is made in the order `full`, `waits`, `averaged`, `next_step`; of all these a step calls only what it comes
    to. Memory is taken at once, so that a stamp costs a reading of the clock and a store.
    """

    def __init__(self, blocks: int, steps: int) -> None:
        self.blocks = blocks
        self._width = 1 + 2 * blocks
        self._last = min(steps, ROOM // (8 * self._width)) * self._width  # of a row beyond the steps, which is not kept
        self._values = array("d", [np.nan]) * (self._last + self._width)
        self._row = 0

    def full(self, block: int) -> None:
        """A block is full and about to be handed to the engine."""
        self._values[self._row + 1 + block] = perf_counter()

    def waits(self) -> None:
        """The backward pass is over; from now on the rank waits for averages."""
        self._values[self._row] = perf_counter()

    def averaged(self, block: int) -> None:
        """The rank knows that the average of a block is there."""
        self._values[self._row + 1 + self.blocks + block] = perf_counter()

    def next_step(self) -> None:
        """The step's averages are all there."""
        self._row = min(self._row + self._width, self._last)

    def rows(self) -> np.ndarray:
        """The rows of all steps that were stamped, (steps, 1 + 2 blocks): waiting, full by block, averaged by block."""
        return np.array(self._values[: self._row], dtype=np.float64).reshape(-1, self._width)


class BlockWatch(ExchangeStamps):
    """When blocks would be full on a rank that has nobody to send them to: stamps of its first `steps` steps.

    Hooks on the parameters of each block of `exchange` tell it. They are removed after those steps, and the exchange
    stamps no more, so that the later steps, which are measured, are as if nobody had watched.
    """

    def __init__(self, exchange: GradientExchange, steps: int) -> None:
        blocks = [[parameter for _, parameter in members] for members in exchange.planned]
        super().__init__(len(blocks), steps)
        self._exchange = exchange
        self._sizes = [len(members) for members in blocks]
        self._missing = list(self._sizes)
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._arrival(index))
            for index, members in enumerate(blocks)
            for parameter in members
        ]

    def _arrival(self, block: int) -> Callable[[Tensor], None]:
        def arrive(parameter: Tensor) -> None:
            self._missing[block] -= 1
            if not self._missing[block]:
                self.full(block)

        return arrive

    def next_step(self) -> None:
        """The backward pass is over; after the last step that is watched, nothing is any more."""
        super().next_step()
        self._missing = list(self._sizes)
        if self._row == self._last:
            for hook in self._hooks:
                hook.remove()
            self._hooks.clear()
            self._exchange.stamps = Stamps()
