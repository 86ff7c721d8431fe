"""The seconds of a step at any number of nodes: work, the late rank, and what of the exchange is not hidden."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from campaign.results.projection.families import GROWS, Family, Gradients, Scale
from campaign.results.projection.messages import RefusedError, Ways
from campaign.results.projection.overlap import NOTHING, Exposed, exposed
from campaign.results.projection.stragglers import Excess, Spread
from campaign.results.tables.projection_schemas import LOSSES

Network = Callable[[int, int], Ways]  # of nodes and ranks per node; raises RefusedError
TOO_SHORT = "refused: too few steps for the late rank ({why})"
NOT_WITHIN = "refused: the fabric says nothing of ranks of one node, and there are {ranks}"


class Parts(NamedTuple):
    """Seconds of a step by what they go to; `hidden` is beside them."""

    work: float
    inflation: float
    straggler: float
    negotiation: float
    latency: float
    bandwidth: float
    hidden: float

    @property
    def total(self) -> float:
        return math.fsum(self[:-1])

    @property
    def largest(self) -> str:
        """The largest loss by its name in LOSSES; empty where nothing is lost."""
        name = max(LOSSES, key=lambda name: getattr(self, name))
        return name if getattr(self, name) > 0 else ""


class Projected(NamedTuple):
    """A step as expected, and its seconds at both ends of what is assumed (NaN where these are not known)."""

    parts: Parts
    low: float
    high: float


@dataclass(frozen=True)
class Model:
    """What scales of a family, and a network, say of all others. `batch`: factor of the measured batch size."""

    base: Scale
    largest: Scale  # of those whose nodes are hosts of their own
    spread: Spread | None
    why_no_spread: str
    gradients: Gradients
    per_node: int
    network: Network
    batch: float = 1.0

    @staticmethod
    def of(family: Family, network: Network, scales: Sequence[Scale] | None = None) -> Model:
        """By all scales of the family, or by some of them only."""
        scales = family.scales if scales is None else scales
        source = max(scales, key=lambda scale: (scale.apart, scale.nodes))
        try:
            spread, why = Spread(source.deviations, source.apart), ""
        except ValueError as error:
            spread, why = None, str(error)
        networked = [scale for scale in scales if scale.networked]
        return Model(scales[0], networked[-1], spread, why, family.gradients, family.per_node, network)

    def of_batch(self, factor: float) -> Model:
        """The same with so many times the examples per rank: passes, input and spread in proportion."""
        return replace(self, batch=self.batch * factor)

    def with_blocks(self, gradients: Gradients) -> Model:
        """The same with gradients in other blocks."""
        return replace(self, gradients=gradients)

    def on(self, network: Network) -> Model:
        """The same on another network."""
        return replace(self, network=network)

    def step(self, nodes: int) -> Projected:
        """Raises RefusedError where nothing can be said."""
        ranks = nodes * self.per_node
        work, backward = self._work(self.base)
        inflation = max(0.0, self._work(self.largest)[0] - work) if nodes > self.base.nodes else 0.0
        late = self._late(ranks)
        rest = work + inflation
        if ranks == 1:
            return Projected(Parts(work, inflation, 0.0, *NOTHING[:-1]), rest, rest)
        ways = self.network(nodes, self.per_node)
        blocks = self.gradients.blocks(backward)
        middle, best, worst = (
            exposed(blocks, backward, self.gradients.rules, each) if each is not None else None for each in ways
        )
        assert middle is not None

        def computed(beside: Exposed) -> float:
            """Work as it was measured at the largest scale has in it what messages took from it there."""
            return max(inflation, beside.slowed)

        parts = Parts(work, computed(middle), late.seconds, *middle[:-1])
        if best is None or worst is None:
            return Projected(parts, math.nan, math.nan)
        # cycles make a faster link wait longer now and then
        low = min(work + computed(best) + late.low + best.total, parts.total)
        return Projected(parts, low, max(work + computed(worst) + late.high + worst.total, parts.total))

    def _work(self, scale: Scale) -> tuple[float, float]:
        """Seconds of all work and of the backward pass, those of GROWS in proportion to the batch."""
        parts = {name: value * (self.batch if name in GROWS else 1.0) for name, value in scale.parts.items()}
        return math.fsum(parts.values()), parts["backward"]

    def _late(self, ranks: int) -> Excess:
        if ranks == 1:
            return Excess(0.0, 0.0, 0.0)
        if self.spread is None:
            raise RefusedError(TOO_SHORT.format(why=self.why_no_spread))
        return Excess(*(value * self.batch for value in self.spread.excess(ranks)))

    def efficiency(self, nodes: int) -> float:
        """Seconds of a step at the smallest measured scale / there: T1 / (N TN). Raises RefusedError."""
        return self.step(self.base.nodes).parts.total / self.step(nodes).parts.total
