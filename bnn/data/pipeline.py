"""Which examples each rank trains on at each step, and how images become numbers: pure functions of their arguments."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnn.data.base import Images
from bnn.errors import UserError

Sharding = Literal["disjoint", "unsharded"]
SHARED = 0  # the generator's stream for a shuffle that all ranks share; rank r's own is r + 1


def steps_per_epoch(n: int, batch_size: int, ranks: int, sharding: Sharding = "disjoint") -> int:
    """Steps of an epoch, the same on every rank; `batch_size` is per rank and partial batches are dropped.

    disjoint: n // (batch_size * ranks). unsharded (the paper's program): (n // batch_size) // ranks.
    The two are equal numbers for different data. Raises UserError when there is no step.
    """
    if min(n, batch_size, ranks) < 1:
        raise ValueError(f"n={n}, batch_size={batch_size} and ranks={ranks} must be positive")
    if sharding not in ("disjoint", "unsharded"):
        raise UserError(f"sharding={sharding!r}: must be disjoint or unsharded")
    steps = n // (batch_size * ranks) if sharding == "disjoint" else (n // batch_size) // ranks
    if steps == 0:
        raise UserError(f"training set of {n:,} images gives no step for batch {batch_size} on {ranks} ranks")
    return steps


def epoch_indices(
    n: int, batch_size: int, ranks: int, rank: int, epoch: int, seed: int, sharding: Sharding = "disjoint"
) -> NDArray[np.int64]:
    """Indices of the examples of one rank's epoch, shape (steps, batch_size), each in 0..n-1 and none twice.

    disjoint: all ranks make the same permutation, from (seed, epoch), and share it out: no example is seen twice in an
    epoch. In each step the ranks' batches are neighbours in it, so that step t of R ranks with batch B sees the same
    examples as step t of one rank with batch R * B.
    unsharded: each rank permutes the whole set, from (seed, epoch, rank), and goes through its first steps (the paper's
    program: ranks see some examples twice and others not at all).
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"rank {rank} of {ranks}")
    steps = steps_per_epoch(n, batch_size, ranks, sharding)
    if sharding == "disjoint":
        order = _permutation(n, seed, epoch, SHARED)
        return order[: steps * ranks * batch_size].reshape(steps, ranks, batch_size)[:, rank]
    return _permutation(n, seed, epoch, rank + 1)[: steps * batch_size].reshape(steps, batch_size)


def _permutation(n: int, seed: int, epoch: int, stream: int) -> NDArray[np.int64]:
    """Permutation of 0..n-1 keyed by (seed, epoch, stream): Philox's 128-bit key holds 64, 32 and 32 bits of them."""
    if not (0 <= seed < 2**64 and 0 <= epoch < 2**32 and 0 <= stream < 2**32):
        raise ValueError(f"seed {seed}, epoch {epoch} or rank out of range")
    key = seed | epoch << 64 | stream << 96
    return np.random.Generator(np.random.Philox(key=key)).permutation(n)


def normalise(images: Images) -> NDArray[np.float32]:
    """Pixel values 0..255 as float32 in [0, 1]: a division by 255. The paper names no other preprocessing."""
    return images.astype(np.float32) / np.float32(255)
