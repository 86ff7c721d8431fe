"""All families of a site's cells on one network: projected steps, and up to how many nodes they scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from campaign.results.projection.efficiency import efficiency_rows
from campaign.results.projection.families import Family, Key
from campaign.results.projection.messages import RefusedError
from campaign.results.projection.networks import OfCurve, OfFabric
from campaign.results.projection.scales import errors
from campaign.results.projection.step import Model
from campaign.results.projection.target import Answer, Limit, answer, usual_changes
from campaign.results.tables.projection_schemas import PROJECTION_LIMITS

Row = dict[str, Any]
MOST_NODES = 16384
POWERS = tuple(2**power for power in range(MOST_NODES.bit_length()))


@dataclass(frozen=True)
class Projection:
    """Families on a network; `elsewhere`: whether their cells ran on another one."""

    families: Sequence[Family]
    network: OfFabric | OfCurve
    elsewhere: bool = False

    @cached_property
    def models(self) -> dict[Key, Model]:
        """Of each family."""
        return {family.key: Model.of(family, self.network) for family in self.families}

    def rows(self, nodes: Sequence[int]) -> list[Row]:
        """Rows of EFFICIENCY_PROJECTION."""
        off = None if self.elsewhere else errors(self.families, self.network)
        source, assumed = self.network.source, self.network.assumed
        return [
            row for family in self.families
            for row in efficiency_rows(family, self.models[family.key], nodes, off, source, assumed)
        ]  # fmt: skip

    def answers(self, target: float, nodes: Sequence[int]) -> list[tuple[Family, Answer | str]]:
        """Up to how many nodes each family has this efficiency, or why that is not known."""
        return [(family, self._answer(family, target, nodes)) for family in self.families]

    def _answer(self, family: Family, target: float, nodes: Sequence[int]) -> Answer | str:
        model = self.models[family.key]
        twice = self.models.get(family.key._replace(batch_size=2 * family.key.batch_size))
        fabric = self.network.fabric if isinstance(self.network, OfFabric) else None
        faster = {} if fabric is None else {
            "links of twice the bandwidth": model.on(OfFabric(fabric.faster(bandwidth=2))),
            "links of half the latency": model.on(OfFabric(fabric.faster(latency=0.5))),
        }  # fmt: skip
        try:
            return answer(model, target, nodes, fabric is not None, usual_changes(model, twice, faster))
        except RefusedError as why:
            return str(why)

    def limit_rows(self, target: float, nodes: Sequence[int]) -> list[Row]:
        """Rows of PROJECTION_LIMITS: a row for each family as it is, and one for each change."""
        return [row for family, found in self.answers(target, nodes) for row in self._limits(family, found, target)]

    def _limits(self, family: Family, found: Answer | str, target: float) -> list[Row]:
        row: Row = dict.fromkeys(PROJECTION_LIMITS.names) | of_family(family) | {"source": self.network.source}
        row |= {"target_efficiency": target, "change": "", "limit": "", "reason": ""}
        if isinstance(found, str):
            return [row | {"reason": found}]
        base = row | _limit(found.limit) | {
            "worst_nodes": found.worst.nodes or None, "best_nodes": found.best.nodes or None,
            "efficiency": None if math.isnan(found.efficiency) else found.efficiency, "limit": found.largest,
        }  # fmt: skip
        return [base, *(row | {"change": what} | _limit(limit) for what, limit in found.changes)]


def of_family(family: Family) -> Row:
    """The columns that say what a row is of."""
    return {"site": family.site, **family.key._asdict(), "implementation": family.implementation}


def _limit(limit: Limit) -> Row:
    return {"nodes": limit.nodes or None, "at_least": limit.open, "reason": limit.why}
