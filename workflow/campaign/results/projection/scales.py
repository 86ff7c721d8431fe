"""How far off projected steps are: larger measured scales are held out, and predicted from the smaller ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from campaign.results.projection.curves import Floats
from campaign.results.projection.families import Family, Scale
from campaign.results.projection.heldout import FEWEST, doublings
from campaign.results.projection.messages import RefusedError
from campaign.results.projection.mixture import FREEDOM, Evidence, Prediction, predict, weights
from campaign.results.projection.step import Model, Network

QUIETEST = 0.01  # of the logarithm: no candidate is weighted as if measurements were better than this

Offsets = Floats  # logarithms of measured / modelled seconds at some scales, (scales,)
Candidate = Callable[[Sequence[int], Offsets, int], float]


def _as_it_is(nodes: Sequence[int], offsets: Offsets, target: int) -> float:
    return 0.0


def _as_at_the_largest(nodes: Sequence[int], offsets: Offsets, target: int) -> float:
    return float(offsets[-1])


def _growing(nodes: Sequence[int], offsets: Offsets, target: int) -> float:
    """Per doubling as much more as by a straight line through all measured offsets."""
    slope, level = np.polyfit(np.log2(np.array(nodes, float)), offsets, 1)
    return float(level + slope * math.log2(target))


# Ways to go on from how far the model is off at measured scales: the logarithm of what its seconds are multiplied by.
CANDIDATES: dict[str, Candidate] = {
    "the model as it is": _as_it_is,
    "off as at the largest scale": _as_at_the_largest,
    "off by more with each doubling": _growing,
}


@dataclass(frozen=True)
class Errors:
    """Squared errors of the logarithm per doubling at held-out scales, (candidates, tests), of some families."""

    squares: Floats

    @property
    def tests(self) -> int:
        return int(self.squares.shape[1])


def measured(family: Family) -> list[Scale]:
    """Its scales on a network: those by which a projection onto it can be judged."""
    return [scale for scale in family.scales if scale.networked]


def errors(families: Sequence[Family], network: Network) -> Errors:
    """Of all families with FEWEST scales or more: the network, and so what it is taken for, is the same for all."""
    rows = [row for family in families for row in _errors(family, network)]
    return Errors(np.array(rows).reshape(-1, len(CANDIDATES)).T)


def _errors(family: Family, network: Network) -> list[list[float]]:
    scales = measured(family)
    found: list[list[float]] = []
    if len(scales) < FEWEST:
        return found
    for count in range(2, len(scales)):
        known = scales[:count]
        try:
            model = Model.of(family, network, known)
            offsets = _offsets(model, known)
            for held in scales[count:]:
                modelled = math.log(model.step(held.nodes).parts.total)
                distance = doublings(held.nodes, known[-1].nodes)
                nodes = [scale.nodes for scale in known]
                missed = modelled - math.log(held.seconds)
                off = [missed + way(nodes, offsets, held.nodes) for way in CANDIDATES.values()]
                found.append([(each / distance) ** 2 for each in off])
        except RefusedError:
            continue
    return found


def _offsets(model: Model, scales: Sequence[Scale]) -> Offsets:
    return np.array([math.log(scale.seconds / model.step(scale.nodes).parts.total) for scale in scales])


def noise(family: Family) -> float:
    """Standard deviation of the logarithm of a scale's mean over its repeats, of all scales; at least QUIETEST."""
    squares, degrees, repeats = 0.0, 0, []
    for scale in family.scales:
        logs = np.log(scale.step)
        squares += float(((logs - logs.mean()) ** 2).sum())
        degrees += len(logs) - 1
        repeats.append(len(logs))
    return max(QUIETEST, math.sqrt(squares / degrees / min(repeats))) if degrees else QUIETEST


def interval(family: Family, model: Model, nodes: int, found: Errors) -> Prediction | None:
    """Seconds of a step there with the 95% prediction interval; None where none can be estimated.

    That is below FEWEST scales of the family, where none could be held out, and at no more nodes than were measured.
    Raises RefusedError.
    """
    scales = measured(family)
    if len(scales) < FEWEST or not found.tests or nodes <= scales[-1].nodes:
        return None
    known = [scale.nodes for scale in scales]
    offsets = _offsets(model, scales)
    modelled = math.log(model.step(nodes).parts.total)
    logarithms = np.array([modelled + way(known, offsets, nodes) for way in CANDIDATES.values()])
    squares = found.squares.mean(axis=1) + noise(family) ** 2
    # with each doubling as much again, as what a model is off by has one sign
    widths = np.sqrt(squares) * doublings(nodes, scales[-1].nodes)
    # held-out scales are the only degrees of freedom that the errors have
    freedom = min(FREEDOM, found.tests)
    said = predict(weights([Evidence(squares, found.tests)]), logarithms, widths, freedom)
    return Prediction(said.microseconds, said.low, said.high)
