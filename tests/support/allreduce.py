"""Allreduce curves of known algorithms and costs, with noise: what a projection of them should say is known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from campaign.results.projection.algorithms import times
from campaign.results.projection.curves import Curve, Floats, Points

SIZES = tuple(4 * 2**power for power in range(22))  # 4 B to 8 MiB
COPY, WITHIN, BETWEEN = (1.0, 2e-5), (1.0, 1e-4), (2.5, 3e-4)  # microseconds, and per byte: call, node, network
COSTS = {
    "recursive doubling": (*COPY, *BETWEEN),
    "recursive doubling, by level": (*COPY, *WITHIN, *BETWEEN),
    "ring": (*COPY, *BETWEEN),
    "ring, by level": (*COPY, *WITHIN, *BETWEEN),
    "Rabenseifner": (*COPY, WITHIN[0], *BETWEEN),
    "Rabenseifner, by level": (*COPY, WITHIN[0], BETWEEN[0], WITHIN[1], BETWEEN[1]),
    "ring of nodes": (*COPY, WITHIN[0], *BETWEEN, *BETWEEN),
    "tree of nodes": (*COPY, WITHIN[0], *BETWEEN, BETWEEN[0]),
}
PER_NODE = 4


def microseconds(algorithm: str, ranks: tuple[int, ...], per_node: int = PER_NODE) -> Floats:
    """Without noise, (rank counts, SIZES); nodes are full, or there is one."""
    counts = np.repeat(np.array(ranks, float), len(SIZES))
    nodes = np.maximum(counts / per_node, 1)
    points = Points(nodes, counts, np.tile(np.array(SIZES, float), len(ranks)))
    return times(algorithm, np.array(COSTS[algorithm]), points).reshape(len(ranks), len(SIZES))


def noisy(times_: Floats, sigma: float, seed: int) -> Floats:
    """Lognormal noise, each time its own."""
    return times_ * np.exp(sigma * np.random.default_rng(seed).standard_normal(times_.shape))


def curve(table: Floats, ranks: tuple[int, ...], per_node: int = PER_NODE, node: str = "node") -> Curve:
    """The curve of such times."""
    nodes = tuple(max(count // per_node, 1) for count in ranks)
    return Curve(node, "library", ranks, nodes, SIZES, table)


def write_csv(path: Path, curves: list[Curve]) -> Path:
    """The file of measurements that these curves are read from."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["node", "library", "nodes", "ranks", "bytes", "microseconds"])
        for each in curves:
            for nodes, ranks, line in zip(each.nodes, each.ranks, each.microseconds, strict=True):
                rows.writerows(
                    [each.node, each.library, nodes, ranks, size, repr(float(time))]
                    for size, time in zip(each.sizes, line, strict=True)
                )
    return path
