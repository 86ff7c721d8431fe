"""Where a measured curve jumps: no model of one algorithm and one protocol may be extended across such a place.

Every sum of latency, bandwidth and reduction with positive costs obeys bounds. From m to n > m bytes its time grows by
n / m at most and does not fall. From p to q > p ranks of one network it grows by (q - 1) / (p - 1) at most, as a ring's
latency, does not fall, and never grows more steeply than before, as log p, (p - 1) / p and p itself are concave. A step
outside by more than noise is a switch of algorithm or protocol, a cache that is left, or congestion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from campaign.results.projection.curves import Curve, Floats

LEAST = 0.1  # of the logarithm: less is no jump, however quiet the rest of the curve is
DEVIATIONS = 4 * math.sqrt(2)  # of a difference of two measurements: no noise in any of some hundred steps


@dataclass(frozen=True)
class Jump:
    """Between the place in `sizes` (or scale) before and this one."""

    size: int
    scale: int


def noise(curve: Curve) -> float:
    """Standard deviation of the logarithm of a time, by what neither sizes nor rank counts explain smoothly.

    The median absolute second difference over sizes of the first difference over scales: what all rank counts share,
    as a regime's end, cancels. 0 for fewer than three sizes, which nothing can be told of.
    """
    rest = np.diff(np.diff(np.log(curve.microseconds), axis=0), 2, axis=1)
    return float(1.4826 * np.median(np.abs(rest)) / math.sqrt(12)) if rest.size else 0.0


def tolerance(curve: Curve) -> float:
    """What a step of the logarithm may be outside the bounds."""
    return max(LEAST, DEVIATIONS * noise(curve))


def jumps_over_sizes(curve: Curve) -> list[Jump]:
    """Steps from one size to the next that no model can take, ascending in size."""
    steps = np.diff(np.log(curve.microseconds), axis=1)
    most = np.diff(np.log(np.array(curve.sizes, float)))
    return sorted(
        (Jump(int(size) + 1, int(scale)) for scale, size in _outside(steps, most, tolerance(curve))),
        key=lambda jump: (jump.size, jump.scale),
    )


def jumps_over_ranks(curve: Curve) -> list[Jump]:
    """Steps from one scale to the next that no model can take. The step onto the network may be of any height."""
    ranks = np.array(curve.ranks, float)
    steps = np.diff(np.log(curve.microseconds), axis=0)
    most = np.diff(np.log(ranks - 1 + (ranks[0] == 1)))
    onto = [before == 1 < after for before, after in zip(curve.nodes, curve.nodes[1:], strict=False)]
    most[onto] = math.inf
    found = {Jump(size, scale + 1) for scale, size in _outside(steps, most[:, None], tolerance(curve))}
    for scale in range(2, len(ranks)):
        if curve.nodes[scale - 2] > 1 or curve.nodes[scale] == 1:
            found |= {Jump(size, scale) for size in _steeper(curve, scale)}
    return sorted(found, key=lambda jump: (jump.size, jump.scale))


def _steeper(curve: Curve, scale: int) -> list[int]:
    """Sizes at which the last of three scales lies above the line through the others."""
    first, second, third = curve.microseconds[scale - 2 : scale + 1]
    ratio = (curve.ranks[scale] - curve.ranks[scale - 1]) / (curve.ranks[scale - 1] - curve.ranks[scale - 2])
    line = second + ratio * np.maximum(second - first, 0)
    wider = math.sqrt((1 + ratio) ** 2 + ratio**2 + 1) / math.sqrt(2)  # the line is less certain than a measurement
    return [int(size) for size in np.flatnonzero(np.log(third / line) > wider * tolerance(curve))]


def _outside(steps: Floats, most: Floats, margin: float) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in np.argwhere((steps > most + margin) | (steps < -margin))]


def moving(curve: Curve, jumps: list[Jump]) -> list[list[Jump]]:
    """Groups of jumps over sizes that are one boundary at several sizes, as a limit on bytes per rank is.

    Two are of one group where the rank count differs by as many doublings as the size, or more: no boundary that is
    known moves faster than the rank count. A boundary that stays at its size is none of these.
    """
    groups: list[list[Jump]] = []
    for jump in jumps:
        joined = [group for group in groups if any(_one_boundary(curve, jump, other) for other in group)]
        merged = [jump, *(other for group in joined for other in group)]
        groups = [group for group in groups if group not in joined] + [merged]
    return [group for group in groups if len({jump.size for jump in group}) > 1]


def _one_boundary(curve: Curve, a: Jump, b: Jump) -> bool:
    sizes = abs(math.log(curve.sizes[a.size] / curve.sizes[b.size]))
    return sizes <= abs(math.log(curve.ranks[a.scale] / curve.ranks[b.scale])) * (1 + 1e-9)
