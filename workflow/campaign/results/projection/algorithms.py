"""What an allreduce takes by its algorithm: latency, bandwidth and reduction, as sums of terms with positive costs.

Recursive doubling, Rabenseifner's algorithm and the ring: Thakur, Rabenseifner, Gropp, "Optimization of collective
communication operations in MPICH", 2005. Trees that are pipelined, as NCCL's: Sanders, Speck, Traeff, "Two-tree
algorithms for full bandwidth broadcast, reduction and scan", 2009. Of m bytes among p ranks, every algorithm has the
terms 1 and m besides: what does not depend on p, as the call, or copies between host and device. The reduction's cost
per byte goes with the transfer's, which it always accompanies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import nnls

from campaign.results.projection.curves import Floats, Points

Terms = Callable[[Points], list[Floats]]


def _share(points: Points) -> Floats:
    """What a ring or halving and doubling sends of the bytes, one way and back: 2 (p - 1) / p."""
    return 2 * (points.ranks - 1) / points.ranks * points.sizes


def _doubling(points: Points) -> list[Floats]:
    steps = np.log2(points.ranks)
    return [steps, steps * points.sizes]


def _doubling_by_level(points: Points) -> list[Floats]:
    within, between = np.log2(points.per_node), np.log2(points.nodes)
    return [within, within * points.sizes, between, between * points.sizes]


def _ring(points: Points) -> list[Floats]:
    return [2 * (points.ranks - 1), _share(points)]


def _ring_by_level(points: Points) -> list[Floats]:
    """As all ranks step together, the slowest link's costs hold for all: the network's from two nodes on."""
    steps, share, many = 2 * (points.ranks - 1), _share(points), points.nodes > 1
    return [steps * ~many, share * ~many, steps * many, share * many]


def _rabenseifner(points: Points) -> list[Floats]:
    return [np.log2(points.per_node), np.log2(points.nodes), _share(points)]


def _rabenseifner_by_level(points: Points) -> list[Floats]:
    share, many = _share(points), points.nodes > 1
    return [np.log2(points.per_node), np.log2(points.nodes), share * ~many, share * many]


def _ring_of_nodes(points: Points) -> list[Floats]:
    """Hierarchical: reduced within each node, by a ring between nodes, and broadcast within each."""
    many, steps = points.nodes > 1, 2 * (points.nodes - 1)
    return [np.log2(points.per_node), 1.0 * many, many * points.sizes, steps, steps / points.nodes * points.sizes]


def _tree_of_nodes(points: Points) -> list[Floats]:
    """Hierarchical: up and down a tree of nodes in pieces, so that only the latency grows with its depth."""
    many = points.nodes > 1
    return [np.log2(points.per_node), 1.0 * many, many * points.sizes, np.log2(points.nodes)]


ALGORITHMS: dict[str, Terms] = {
    "recursive doubling": _doubling,
    "recursive doubling, by level": _doubling_by_level,
    "ring": _ring,
    "ring, by level": _ring_by_level,
    "Rabenseifner": _rabenseifner,
    "Rabenseifner, by level": _rabenseifner_by_level,
    "ring of nodes": _ring_of_nodes,
    "tree of nodes": _tree_of_nodes,
}


def terms(algorithm: str, points: Points) -> Floats:
    """The terms of an algorithm at these points, (points, terms)."""
    return np.stack([np.ones_like(points.sizes), points.sizes, *ALGORITHMS[algorithm](points)], axis=1)


def fit(algorithm: str, points: Points, microseconds: Floats) -> Floats:
    """Costs of an algorithm's terms in microseconds, none negative, by least squares of relative errors; (terms,)."""
    matrix = terms(algorithm, points) / microseconds[:, None]
    largest = matrix.max(axis=0)
    largest[largest == 0] = 1.0  # a term that these points know nothing of costs nothing
    costs, _ = nnls(matrix / largest, np.ones(len(microseconds)))
    return costs / largest


def times(algorithm: str, costs: Floats, points: Points) -> Floats:
    """Microseconds by an algorithm with these costs, (points,)."""
    return terms(algorithm, points) @ costs
