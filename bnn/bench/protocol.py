"""What a worker and its parent say to each other: one JSON object per line over the worker's stdin and stdout.

The worker speaks first: `hello` with its facts, or `unavailable` with the reason. Then it answers each request
`{"do": "step" | "draws", "times": k, ...}` by `done` with the seconds of each, and `{"do": "noise_and_kl"}` once, after
all of them. This module needs the standard library only, because the peers' environment has nothing else of ours.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bnn.errors import UserError
from bnn.memory import peak_resident_bytes


@dataclass(frozen=True)
class Spec:
    """What a worker measures. `shape` is (C, H, W) of an image, `train_size` the N of KL / N."""

    implementation: str
    model: str
    width: float
    shape: tuple[int, ...]
    classes: int
    batch: int
    threads: int
    seed: int
    train_size: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Seconds of one step (or of all draws of one request), those of its update if known, and a result to check."""

    seconds: float
    update: float | None
    value: float


class Subject(Protocol):
    """One implementation, built and ready."""

    def facts(self) -> dict[str, Any]:
        """resolved, parameters_total, versions, notes: see bnn.records.bench.WorkerFacts."""

    def step(self) -> Measured:
        """One full training step on a batch that is there already; its value is the loss (nats).

        Its seconds last until the next step could start: the loss has been read.
        """

    def noise_and_kl(self) -> float | None:
        """Seconds of a step that noise, KL and its gradient take; None where that cannot be told. Asked last."""

    def draws(self, images: int, draws: int) -> Measured:
        """The predictive distribution of `images` images from `draws` draws; its value is a mean probability."""


def serve(make: Callable[[Spec], Subject]) -> None:
    """A worker's whole life: build what argv[1] describes, then answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers

    def answer(kind: str, **values: Any) -> None:
        answers.write(json.dumps({"type": kind, **values}) + "\n")
        answers.flush()

    given = json.loads(sys.argv[1])
    try:
        subject = make(Spec(**given | {"shape": tuple(given["shape"])}))
    except UserError as error:
        answer("unavailable", text=str(error))
        return
    answer("hello", **subject.facts())
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "noise_and_kl":
            answer("done", seconds=subject.noise_and_kl(), value=0.0)
            continue
        times = range(request["times"])
        if request["do"] == "step":
            done = [subject.step() for _ in times]
        else:
            done = [subject.draws(request["images"], request["draws"]) for _ in times]
        answer(
            "done",
            seconds=[one.seconds for one in done],
            update=[one.update for one in done],
            value=done[-1].value,
            peak_memory_bytes=peak_resident_bytes(),
        )
