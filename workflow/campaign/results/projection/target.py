"""Up to how many nodes a target efficiency is met, what limits it there, and where that limit would go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from campaign.results.projection.messages import RefusedError
from campaign.results.projection.step import Model
from campaign.results.projection.verdicts import NOT_ESTIMABLE

MEBIBYTE = 2**20
BLOCKS = (4, 16, 64)  # MiB


@dataclass(frozen=True)
class Limit:
    """The most nodes that meet a target; `open`: no more were asked for. `why`: None are known, and why."""

    nodes: int
    open: bool
    why: str = ""

    def words(self) -> str:
        if self.why:
            return self.why
        return f"{'at least ' if self.open else ''}{self.nodes}"


@dataclass(frozen=True)
class Answer:
    """Of a family: the limit, the largest loss just beyond it, the limits at the ends of what is assumed, what-ifs."""

    limit: Limit
    efficiency: float  # at the limit
    largest: str  # of LOSSES, one node beyond the limit, where it is not met any more
    worst: Limit
    best: Limit
    changes: tuple[tuple[str, Limit], ...]


def answer(
    model: Model, target: float, nodes: Sequence[int], every: bool, changes: Sequence[tuple[str, Model | str]]
) -> Answer:
    """`nodes`: those that may be asked, ascending; `every`: whether all numbers between them may be, too.

    `changes`: what would be done, and the model then, or why there is none. Raises RefusedError at the smallest scale.
    """
    base = model.step(model.base.nodes).parts.total

    def limit(of: Model, seconds: Callable[[Model, int], float], reference: float) -> Limit:
        try:
            return _most(lambda count: reference / seconds(of, count) >= target, of.base.nodes, nodes, every)
        except RefusedError as why:
            return Limit(0, False, str(why))

    def middle(of: Model, count: int) -> float:
        return of.step(count).parts.total

    def changed(of: Model | str) -> Limit:
        if isinstance(of, str):
            return Limit(0, False, of)
        return limit(of, middle, of.step(of.base.nodes).parts.total)

    found = limit(model, middle, base)
    beyond = found.nodes + 1 if every else next((count for count in nodes if count > found.nodes), nodes[-1])
    try:
        largest = model.step(found.nodes if found.open else beyond).parts.largest
    except RefusedError:
        largest = ""
    return Answer(
        limit=found,
        efficiency=math.nan if found.why else base / middle(model, found.nodes),
        largest=largest,
        worst=limit(model, lambda of, count: _estimated(of.step(count).high), base),
        best=limit(model, lambda of, count: _estimated(of.step(count).low), base),
        changes=tuple((what, changed(of)) for what, of in changes),
    )


def _estimated(seconds: float) -> float:
    if math.isnan(seconds):
        raise RefusedError(NOT_ESTIMABLE)
    return seconds


def _most(meets: Callable[[int], bool], smallest: int, nodes: Sequence[int], every: bool) -> Limit:
    """The most nodes before the first of `nodes` that does not meet it; between the two by bisection where `every`."""
    reached = smallest
    for count in (each for each in nodes if each > smallest):
        try:
            met = meets(count)
        except RefusedError as why:
            if reached == smallest:
                raise
            return Limit(reached, False, f"{reached}, and beyond: {why}")
        if not met:
            low, high = reached, count
            while every and high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if meets(middle) else (low, middle)
            return Limit(low, False)
        reached = count
    return Limit(reached, True)


def usual_changes(model: Model, larger: Model | None, faster: dict[str, Model]) -> list[tuple[str, Model | str]]:
    """What could be done about a limit: a larger batch, other blocks, a faster link; `larger`: measured cells of it."""
    if larger is not None:
        found: list[tuple[str, Model | str]] = [("batch x 2 (measured cells)", larger)]
    else:
        found = [("batch x 2 (passes, input and spread twice as long)", model.of_batch(2.0))]
    gradients = model.gradients
    unknown = "not estimable: when blocks are full was not measured"
    for size in (*(MEBIBYTE * each for each in BLOCKS), math.inf):
        name = "one block" if math.isinf(size) else f"blocks of {size / MEBIBYTE:.0f} MiB"
        found.append((name, model.with_blocks(gradients.regrouped(size)) if gradients.shares else unknown))
    return [*found, *faster.items()]
