"""Allreduce times of rank counts that were not measured: the rows of table `allreduce_projection`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bnn.records.columns import Column, TableSchema
from campaign.results.projection import verdicts
from campaign.results.projection.curves import Curve
from campaign.results.projection.heldout import CANDIDATES, doublings, growth, heldout_errors, holdouts
from campaign.results.projection.jumps import noise
from campaign.results.projection.mixture import Evidence, Prediction, predict, weights
from campaign.results.projection.regimes import SHORTEST
from campaign.results.projection.verdicts import Refusals

Row = dict[str, Any]
QUIETEST = 0.01  # of the logarithm: no candidate is weighted as if measurements were better than this

ALLREDUCE_PROJECTION = TableSchema(
    name="allreduce_projection",
    version=1,
    columns=(
        Column("node", "string", "", "kind of node, as in the file of measurements"),
        Column("library", "string", "", "library, as in the file of measurements"),
        Column("ranks", "int64", "", "ranks of all nodes, which are full; projected, never measured"),
        Column("bytes", "int64", "B", "reduced, per rank"),
        Column("microseconds", "float64", "us", "projected time of one allreduce (median); empty where it is refused"),
        Column("low", "float64", "us", "lower end of the 95% prediction interval; empty where none can be estimated"),
        Column("high", "float64", "us", "upper end of the 95% prediction interval; empty where none can be estimated"),
        Column("verdict", "string", "", "'inside the model', or why the projection is not (docs/projection.md)"),
    ),
)


class Fit:
    """A curve with what was learnt of it, before any rank count is asked for."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.refusals = Refusals(curve)
        self.evidence: dict[int, Evidence] = {}  # by bytes; none where no scale can be held out or sizes are too few
        floor = max(noise(curve), QUIETEST) ** 2
        for regime in self.refusals.regimes:
            errors = heldout_errors(curve, regime)
            if errors.shape[1] and errors.shape[2] >= SHORTEST:
                found = Evidence(np.mean(errors**2, axis=(1, 2)) + floor, len(curve.ranks) - min(holdouts(curve)))
                self.evidence |= dict.fromkeys(curve.sizes[regime], found)


def projection_rows(curves: list[Curve], ranks: list[int]) -> list[Row]:
    """Rows of ALLREDUCE_PROJECTION of each curve at those rank counts that are askable of it, sizes ascending."""
    fits = [Fit(curve) for curve in curves]
    found = []
    for fit in fits:
        same = [other for other in fits if other is not fit and other.curve.library == fit.curve.library]
        for count in ranks:
            if not_askable(fit.curve, count) is None:
                rows = [*_refused(fit, count)] if fit.refusals.of_ranks(count) else [*_projected(fit, same, count)]
                found += sorted(rows, key=lambda row: row["bytes"])
    return found


def not_askable(curve: Curve, ranks: int) -> str | None:
    """Why a curve has nothing to say of a rank count; None where it has."""
    if ranks in curve.ranks:
        return "measured already"
    if ranks < curve.ranks[-1]:
        return f"fewer than the {curve.ranks[-1]} measured"
    return f"not a multiple of the {curve.per_node} ranks per node" if ranks % curve.per_node else None


def _refused(fit: Fit, ranks: int) -> Iterator[Row]:
    why = fit.refusals.of_ranks(ranks)
    for size in (*fit.curve.sizes, *fit.curve.partial):
        yield _row(fit.curve, ranks, size, None, why or "")


def _projected(fit: Fit, same: list[Fit], ranks: int) -> Iterator[Row]:
    curve = fit.curve
    for size in curve.partial:
        yield _row(curve, ranks, size, None, verdicts.NOT_EVERYWHERE)
    distance = growth(doublings(ranks, curve.ranks[-1]))
    for regime in fit.refusals.regimes:
        target = [curve.at(ranks, regime)]
        logarithms = np.array([way.logarithms(curve, slice(None), regime, target)[0] for way in CANDIDATES])
        for place, size in enumerate(curve.sizes[regime]):
            why = fit.refusals.of_size(regime.start + place, ranks)
            if why:
                yield _row(curve, ranks, size, None, why)
                continue
            known = [each.evidence[size] for each in (fit, *same) if size in each.evidence]
            weight = weights(known) if known else np.full(len(CANDIDATES), 1 / len(CANDIDATES))
            own = fit.evidence.get(size)
            scales = np.sqrt(own.squares) * distance if own else np.full(len(CANDIDATES), QUIETEST)
            found = predict(weight, logarithms[:, place], scales)
            verdict = verdicts.of_interval(found.low, found.high) if own else verdicts.NOT_ESTIMABLE
            yield _row(curve, ranks, size, found, verdict)


def _row(curve: Curve, ranks: int, size: int, found: Prediction | None, verdict: str) -> Row:
    row: Row = {"node": curve.node, "library": curve.library, "ranks": ranks, "bytes": size, "verdict": verdict}
    interval = found is not None and verdict != verdicts.NOT_ESTIMABLE
    return row | {
        "microseconds": found.microseconds if found else None,
        "low": found.low if found and interval else None,
        "high": found.high if found and interval else None,
    }
