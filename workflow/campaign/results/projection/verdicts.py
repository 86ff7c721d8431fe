"""What is said of a projected point: inside the model, or why not. A closed set of words; a jump's have its place."""

from __future__ import annotations

from campaign.results.projection.curves import Curve
from campaign.results.projection.heldout import doublings
from campaign.results.projection.jumps import Jump, jumps_over_ranks, jumps_over_sizes, moving
from campaign.results.projection.regimes import SHORTEST, regimes

INSIDE = "inside the model"
NOT_ESTIMABLE = "interval not estimable"
NOT_EVERYWHERE = "refused: not measured at every rank count"
NO_NETWORK = "refused: measured on one node only"
NO_POWER = "refused: no power of two nodes, as all measured are"
JUMP = "refused: the curve jumps at {bytes} bytes, {ranks} ranks"

WIDEST = 3  # high / low of a point inside the model: what is known less well is no prediction to plan by
TOO_WIDE = f"interval wider than a factor of {WIDEST}"


class Refusals:
    """Where a curve must not be extended, and the regimes that it may be extended in."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        over_sizes = jumps_over_sizes(curve)
        self.regimes = regimes(curve, (jump.size for jump in over_sizes))
        self._moving = moving(curve, over_sizes)
        self._at_size: dict[int, Jump] = {jump.size: jump for jump in reversed(jumps_over_ranks(curve))}
        for regime in self.regimes:
            if regime.stop - regime.start < SHORTEST and over_sizes:
                edges = [jump for jump in over_sizes if jump.size in (regime.start, regime.stop)]
                self._at_size |= dict.fromkeys(range(regime.start, regime.stop), edges[0])

    def of_ranks(self, ranks: int) -> str | None:
        """Why no point with so many ranks can be projected."""
        nodes = ranks // self.curve.per_node
        if nodes > 1 and self.curve.nodes[-1] == 1:
            return NO_NETWORK
        if nodes & (nodes - 1) and not any(measured & (measured - 1) for measured in self.curve.nodes):
            return NO_POWER
        return None

    def of_size(self, size: int, ranks: int) -> str | None:
        """Why this place in `sizes` cannot be projected to so many ranks."""
        jump = self._at_size.get(size)
        for group in self._moving:
            if jump is None and self._swept(group, size, ranks):
                jump = min(group, key=lambda seen: abs(seen.size - size))
        return JUMP.format(bytes=self.curve.sizes[jump.size], ranks=self.curve.ranks[jump.scale]) if jump else None

    def _swept(self, group: list[Jump], size: int, ranks: int) -> bool:
        """Whether a boundary that moves passes this size on its way from the first scale to these ranks.

        It is taken to go on as fast as the rank count from where it was seen last, in the direction that it has.
        """
        first, last = min(group, key=lambda jump: jump.scale), max(group, key=lambda jump: jump.scale)
        at = [self.curve.sizes[jump.size] for jump in group]
        ahead = 2 ** doublings(ranks, self.curve.ranks[last.scale])
        low = min(at) / (ahead if self.curve.sizes[last.size] <= self.curve.sizes[first.size] else 1)
        high = max(at) * (ahead if self.curve.sizes[last.size] >= self.curve.sizes[first.size] else 1)
        return low <= self.curve.sizes[size] < high


def boundaries(curve: Curve) -> list[str]:
    """In words, each size at which a curve jumps without moving with the ranks: fitted apart on either side of it."""
    over_sizes = jumps_over_sizes(curve)
    moved = {jump for group in moving(curve, over_sizes) for jump in group}
    found: dict[int, list[int]] = {}
    for jump in over_sizes:
        if jump not in moved:
            found.setdefault(curve.sizes[jump.size], []).append(curve.ranks[jump.scale])
    return [
        f"jumps at {size} bytes ({', '.join(map(str, ranks))} ranks): fitted apart on either side of it"
        for size, ranks in found.items()
    ]


def of_interval(low: float, high: float) -> str:
    """What is said of a point that was projected with an interval."""
    return INSIDE if high <= WIDEST * low else TOO_WIDE
