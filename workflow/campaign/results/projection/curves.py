"""Measured allreduce times, as models are fitted to them: one curve per node kind and library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Where allreduces are timed, one array entry each: nodes, ranks of all nodes together, bytes reduced per rank."""

    nodes: Floats
    ranks: Floats
    sizes: Floats

    @property
    def per_node(self) -> Floats:
        """Ranks on each node."""
        return self.ranks / self.nodes


@dataclass(frozen=True)
class Curve:
    """Times of one library on one kind of node.

    `ranks` and `nodes`, (S,): the measured scales, ascending; `sizes`, (B,): bytes, ascending, those that were measured
    at every scale; `microseconds`, (S, B), positive; `partial`: further sizes, measured at some of the scales only.
    `computing`, (S, B), 0 to 1: what is left of the speed of a rank's computing beside an allreduce; None: not
    measured.
    """

    node: str
    library: str
    ranks: tuple[int, ...]
    nodes: tuple[int, ...]
    sizes: tuple[int, ...]
    microseconds: Floats
    partial: tuple[int, ...] = ()
    computing: Floats | None = None

    @property
    def per_node(self) -> int:
        """Ranks of a full node: the most that were measured on one."""
        return max(ranks // nodes for ranks, nodes in zip(self.ranks, self.nodes, strict=True))

    def beside(self, ranks: int) -> tuple[float, ...]:
        """Of `computing` the largest scale of at most so many ranks, by size; empty where it was not measured."""
        if self.computing is None:
            return ()
        place = max(0, sum(scale <= ranks for scale in self.ranks) - 1)
        return tuple(map(float, self.computing[place]))

    def points(self, scales: slice, sizes: slice) -> Points:
        """Of some scales and sizes, scale by scale: (scales x sizes,) each."""
        ranks = np.array(self.ranks[scales], float)
        nodes = np.array(self.nodes[scales], float)
        bytes_ = np.array(self.sizes[sizes], float)
        return Points(np.repeat(nodes, len(bytes_)), np.repeat(ranks, len(bytes_)), np.tile(bytes_, len(ranks)))

    def at(self, ranks: int, sizes: slice) -> Points:
        """Of full nodes with so many ranks in all."""
        bytes_ = np.array(self.sizes[sizes], float)
        return Points(np.full_like(bytes_, ranks / self.per_node), np.full_like(bytes_, ranks), bytes_)
