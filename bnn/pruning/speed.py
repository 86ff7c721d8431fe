"""Which form of a pruned network is the fastest, and by how much: measured, interleaved with the unpruned one."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from torch import Tensor

from bnn import metrics
from bnn.device import synchronize
from bnn.inference.predictor import Predictor

UNPRUNED = "unpruned"
ROUNDS = 7
ROUND_SECONDS = 0.1  # what the unpruned network computes in one turn
MOST_DRAWS = 200


@dataclass(frozen=True)
class Speed:
    """Median seconds of `draws` draws of `images` images, by form; the speed-up of the fastest with its interval."""

    seconds: dict[str, float]
    fastest: str
    draws: int
    images: int
    speedup: metrics.Interval


def measure(forms: dict[str, Predictor], images: Tensor, seed: int) -> Speed:
    """Time the forms, of which one is UNPRUNED, in turns of random order. `images`: (N, C, H, W) in [0, 1].

    The speed-up is unpruned time / time, round by round.
    """
    draws = turn_draws(forms[UNPRUNED], images)
    for predictor in forms.values():
        turn(predictor, images, max(1, draws // 4))
    times: dict[str, list[float]] = {name: [] for name in forms}
    order = list(forms)
    for number in range(ROUNDS):
        random.Random(seed * ROUNDS + number).shuffle(order)
        for name in order:
            times[name].append(turn(forms[name], images, draws))
    seconds = {name: sorted(values)[ROUNDS // 2] for name, values in times.items()}
    pruned = [name for name in forms if name != UNPRUNED]
    fastest = min(pruned, key=seconds.__getitem__)
    return Speed(seconds, fastest, draws, len(images), metrics.ratio_interval(times[UNPRUNED], times[fastest]))


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
