"""The network of a projection: a fabric by its published constants, or a curve of allreduces that were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from campaign.results.projection.allreduce import Row, not_askable, projection_rows
from campaign.results.projection.curves import Curve
from campaign.results.projection.fabrics import Fabric
from campaign.results.projection.messages import RefusedError, Tabled, Ways
from campaign.results.projection.step import NOT_WITHIN


@dataclass(frozen=True)
class OfFabric:
    """What a step asks of a fabric."""

    fabric: Fabric

    @property
    def source(self) -> str:
        """What rows say that rest on it."""
        return self.fabric.source

    @property
    def assumed(self) -> list[str]:
        """What is taken for granted of it."""
        found = ["the network is idle but for this job"]
        if not self.fabric.middle.reduction_per_byte:
            found.append("adding gradients is part of the published bandwidths")
        return found

    def __call__(self, nodes: int, per_node: int) -> Ways:
        """Raises RefusedError where the fabric says nothing of ranks of one node."""
        if not self.fabric.within(per_node):
            raise RefusedError(NOT_WITHIN.format(ranks=per_node))
        return self.fabric.messages(nodes, per_node)


@dataclass(frozen=True)
class OfCurve:
    """What a step asks of a measured curve; `others` are the further curves of its file, which weigh its candidates.

    `ranks`: the rank counts that may be asked besides the measured ones.
    """

    curve: Curve
    others: Sequence[Curve]
    ranks: Sequence[int]
    _rows: dict[int, list[Row]] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """What rows say that rest on it."""
        return f"projected: measured curve {self.curve.node} {self.curve.library}"

    @property
    def assumed(self) -> list[str]:
        """What is taken for granted of it."""
        return [] if self.curve.computing is not None else ["messages take nothing from computing"]

    def __call__(self, nodes: int, per_node: int) -> Ways:
        """Raises RefusedError where the curve's nodes have another number of ranks, or it cannot be extended so."""
        ranks = nodes * per_node
        if ranks in self.curve.ranks:
            place = self.curve.ranks.index(ranks)
            if self.curve.nodes[place] != nodes:
                raise RefusedError(
                    f"refused: the curve has {ranks} ranks on {self.curve.nodes[place]} nodes, not {nodes}"
                )
            seconds = tuple(1e-6 * float(time) for time in self.curve.microseconds[place])
            none, beside = ("",) * len(seconds), self.curve.beside(ranks)
            known = Tabled(tuple(map(float, self.curve.sizes)), seconds, none, beside)
            return Ways(known, known, known)
        if per_node != self.curve.per_node:
            raise RefusedError(f"refused: the curve's nodes have {self.curve.per_node} ranks, the cells' {per_node}")
        if why := not_askable(self.curve, ranks):
            raise RefusedError(f"refused: {ranks} ranks: {why}")
        if not self._rows:
            self._project()
        rows = self._rows.get(ranks)
        if not rows:
            raise RefusedError(f"refused: {ranks} ranks were not asked for")
        left = dict(zip(self.curve.sizes, self.curve.beside(ranks), strict=False))
        ends = (_tabled_if_known(rows, end, left) for end in ("low", "high"))
        return Ways(_tabled(rows, "microseconds", left), *ends)

    def _project(self) -> None:
        """All rank counts at once: a fit is made once for all of them."""
        for row in projection_rows([self.curve, *self.others], list(self.ranks)):
            if (row["node"], row["library"]) == (self.curve.node, self.curve.library):
                self._rows.setdefault(row["ranks"], []).append(row)


def _tabled(rows: Sequence[Row], column: str, left: Mapping[int, float]) -> Tabled:
    return Tabled(
        tuple(float(row["bytes"]) for row in rows),
        tuple(math.nan if row[column] is None else 1e-6 * row[column] for row in rows),
        tuple(row["verdict"] if row["microseconds"] is None else "" for row in rows),
        tuple(left[row["bytes"]] for row in rows) if left else (),
    )


def _tabled_if_known(rows: Sequence[Row], column: str, left: Mapping[int, float]) -> Tabled | None:
    """None where some size that is not refused has no interval."""
    if any(row["microseconds"] is not None and row[column] is None for row in rows):
        return None
    return _tabled(rows, column, left)
