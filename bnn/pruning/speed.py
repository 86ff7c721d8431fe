"""Which form of a pruned network is the fastest, and by how much: measured, interleaved with the unpruned one.

The form is chosen on rounds of its own: the rounds that made it the fastest would flatter it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from bnn import metrics
from bnn.device import synchronize
from bnn.inference.predictor import Predictor

UNPRUNED = "unpruned"
ROUNDS_CHOOSE = 3  # of the pruned forms
ROUNDS = 7  # of the fastest and the unpruned one, after that
ROUND_SECONDS = 0.1  # what the unpruned network computes in one turn
MOST_DRAWS = 200


@dataclass(frozen=True)
class Speed:
    """Median seconds of `draws` draws of `images` images, by form; the speed-up of the fastest with its interval.

    Those of the fastest and of the unpruned form are from other rounds than those of the rest, which only choose.
    """

    seconds: dict[str, float]
    fastest: str
    draws: int
    images: int
    speedup: metrics.Interval


def measure(forms: dict[str, Predictor], images: Tensor, seed: int) -> Speed:
    """Time the forms, of which one is UNPRUNED, in turns of random order. `images`: (N, C, H, W) in [0, 1].

    The speed-up is unpruned time / time, round by round, of rounds that come after the choice.
    """
    draws = turn_draws(forms[UNPRUNED], images)
    for predictor in forms.values():
        turn(predictor, images, max(1, draws // 4))
    pruned, choosing = [name for name in forms if name != UNPRUNED], ROUNDS_CHOOSE
    if len(pruned) == 1:
        choosing = 0
    tried = _rounds(forms, pruned, images, draws, _shuffles(seed, range(choosing)))
    seconds = {name: median(values) for name, values in tried.items() if values}
    fastest = min(pruned, key=lambda name: seconds.get(name, 0.0))
    shuffles = _shuffles(seed, range(choosing, choosing + ROUNDS))
    times = _rounds(forms, [UNPRUNED, fastest], images, draws, shuffles)
    seconds |= {name: median(values) for name, values in times.items()}
    return Speed(seconds, fastest, draws, len(images), metrics.ratio_interval(times[UNPRUNED], times[fastest]))


def _shuffles(seed: int, numbers: Iterable[int]) -> list[random.Random]:
    """The random generators that shuffle these rounds, one for each."""
    return [random.Random(seed * (ROUNDS_CHOOSE + ROUNDS) + number) for number in numbers]


def _rounds(
    forms: dict[str, Predictor], names: list[str], images: Tensor, draws: int, shuffles: list[random.Random]
) -> dict[str, list[float]]:
    """Seconds of the named forms in each round."""
    times: dict[str, list[float]] = {name: [] for name in names}
    order = list(names)
    for shuffle in shuffles:
        shuffle.shuffle(order)
        for name in order:
            times[name].append(turn(forms[name], images, draws))
    return times


def turn(predictor: Predictor, images: Tensor, draws: int) -> float:
    """Seconds of that many draws, on a GPU until the last of them is there."""
    synchronize(predictor.device)
    start = time.perf_counter()
    for _ in predictor.probabilities(0, 0, draws, [images]):
        pass
    synchronize(predictor.device)
    return time.perf_counter() - start


def turn_draws(predictor: Predictor, images: Tensor) -> int:
    """Draws that the unpruned network makes in about ROUND_SECONDS."""
    turn(predictor, images, 1)
    return max(1, min(MOST_DRAWS, round(ROUND_SECONDS / max(turn(predictor, images, 1), 1e-6))))
