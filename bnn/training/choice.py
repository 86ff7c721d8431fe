"""Which CNN baseline cnn-best becomes: the one whose training steps are the fastest here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bnn.engine import Engine
from bnn.errors import UserError
from bnn.settings import BEST, BEST_OF, TrainSettings


@dataclass(frozen=True)
class Choice:
    """What was decided to run: the settings asked for, with the chosen baseline in place of cnn-best.

    `seconds`: median step time on rank 0 of every baseline that was tried; empty when there was nothing to choose.
    """

    settings: TrainSettings
    seconds: dict[str, float] = field(default_factory=dict)


def choose(
    settings: TrainSettings, engine: Engine, seconds_of: Callable[[TrainSettings], float], kept: str | None
) -> Choice:
    """Decide what to run: for cnn-best the baseline with the smallest `seconds_of`, else just what was asked for.

    Where this machine has no kernels or no compiler for a candidate, the baseline cnn is tried in its place. All ranks
    try together, since they share caches and memory; rank 0's times decide. A resumed run goes on with the baseline
    that its checkpoint `kept`, because another one rounds differently.
    """
    if settings.kind != "cnn" or settings.baseline != BEST:
        return Choice(settings)
    if kept is not None:
        return Choice(settings.model_copy(update={"baseline": kept}))
    seconds: dict[str, float] = {}
    for name in BEST_OF:
        candidate = settings.model_copy(update={"baseline": name})
        try:
            if name == "cnn-kernels" and not settings.kernels_fit:
                raise UserError("the kernels do not fit this run")
            seconds[name] = seconds_of(candidate)
        except UserError:  # no kernels or no compiler here, as on the other ranks, which share the installation
            seconds.setdefault("cnn", seconds_of(settings.model_copy(update={"baseline": "cnn"})))
    seconds = engine.gather(seconds, "baselines")[0]
    fastest = min(seconds, key=lambda name: seconds[name])
    return Choice(settings.model_copy(update={"baseline": fastest}), seconds)
