"""Which examples each rank trains on at each step: pure functions of their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnn.errors import UserError

Sharding = Literal["disjoint", "unsharded"]
SHARED = 0  # the generator's stream for a shuffle that all ranks share; rank r's own is r + 1


@dataclass(frozen=True)
class Schedule:
    """The steps of a run over `n` training examples and who sees what in each; `batch_size` is per rank.

    disjoint: one endless stream, a new permutation of the whole set after another, from (seed, epoch). Every step takes
    the next batch_size * ranks examples of it and the ranks share them out, so that nothing is dropped between epochs,
    no example is seen twice in one, and a step of R ranks sees what a step of one rank with batch R * batch_size does.
    unsharded (the paper's program): every rank permutes the whole set for itself, from (seed, epoch, rank), drops its
    last partial batch, and all ranks together make as many batches as one rank would alone: in an epoch some examples
    are seen several times and others not at all.

    Raises UserError when `epochs` give no step, ValueError for numbers out of range.
    """

    n: int
    batch_size: int
    ranks: int
    epochs: int
    seed: int
    sharding: Sharding = "disjoint"

    def __post_init__(self) -> None:
        if min(self.n, self.batch_size, self.ranks, self.epochs) < 1:
            raise ValueError(f"{self}: sizes must be positive")
        if self.sharding not in ("disjoint", "unsharded"):
            raise UserError(f"sharding={self.sharding!r}: must be disjoint or unsharded")
        if self.steps == 0:
            raise UserError(
                f"training set of {self.n:,} images gives no step in {self.epochs} epochs "
                f"for batch {self.batch_size} on {self.ranks} ranks"
            )

    @property
    def step_samples(self) -> int:
        """Examples of one step, over all ranks."""
        return self.batch_size * self.ranks

    @property
    def epoch_samples(self) -> int:
        """Examples of one epoch, over all ranks."""
        return self.n if self.sharding == "disjoint" else self.n // self.batch_size * self.batch_size

    @property
    def steps(self) -> int:
        """Steps of all epochs, the same on every rank; what is left of the last epoch is less than one step."""
        return self.epochs * self.epoch_samples // self.step_samples

    def epoch(self, step: int) -> int:
        """Epoch of a step, from 0: the one in which its last example falls."""
        return ((step + 1) * self.step_samples - 1) // self.epoch_samples

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch is over once this step is done."""
        return self.epoch(step + 1) > self.epoch(step)

    def completed(self, steps: int) -> int:
        """Epochs done after `steps` steps; the last counts as done when less than one step of it is left."""
        done, seen = divmod(steps * self.step_samples, self.epoch_samples)
        left = self.epoch_samples - seen
        return self.epochs if steps == self.steps else done + (left < self.step_samples <= self.epoch_samples)

    def indices(self, step: int, rank: int) -> NDArray[np.int64]:
        """Indices (batch_size,) in 0..n-1 of what `rank` sees in `step`."""
        if not 0 <= rank < self.ranks:
            raise ValueError(f"rank {rank} of {self.ranks}")
        if self.sharding == "disjoint":
            first, stream = step * self.step_samples + rank * self.batch_size, SHARED
        else:
            first, stream = step * self.batch_size, rank + 1
        positions = np.arange(first, first + self.batch_size)
        passes, places = positions // self.epoch_samples, positions % self.epoch_samples
        parts = [_permutation(self.n, self.seed, int(p), stream)[places[passes == p]] for p in np.unique(passes)]
        return np.concatenate(parts)


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int, stream: int) -> NDArray[np.int64]:
    """Permutation of 0..n-1 keyed by (seed, epoch, stream): Philox's 128-bit key holds 64, 32 and 32 bits of them."""
    if not (0 <= seed < 2**64 and 0 <= epoch < 2**32 and 0 <= stream < 2**32):
        raise ValueError(f"seed {seed}, epoch {epoch} or rank out of range")
    key = seed | epoch << 64 | stream << 96
    return np.random.Generator(np.random.Philox(key=key)).permutation(n)
