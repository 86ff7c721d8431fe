"""A worker for tests of `bnn bench` that starts at once: it has no model, and its settings say how it behaves."""

from __future__ import annotations

import os
import sys
from typing import Any

from bnn.bench.protocol import Measured, Spec, serve
from bnn.errors import UserError


class Pretender:
    """Claims `seconds` per step; `crash_after` steps it exits with code 3, `killed` by a signal, or it returns NaN."""

    def __init__(self, spec: Spec) -> None:
        self.behaviour, self.steps, self.name = spec.settings, 0, spec.implementation
        if "unavailable" in self.behaviour:
            raise UserError(self.behaviour["unavailable"])
        print("a library that prints where answers go")

    def facts(self) -> dict[str, Any]:
        return {"resolved": self.name, "parameters_total": 7, "versions": {"pretender": "1"}, "notes": []}

    def step(self) -> Measured:
        self.steps += 1
        if self.steps > self.behaviour.get("crash_after", 1 << 30):
            if self.behaviour.get("killed"):
                os.kill(os.getpid(), 9)
            sys.stderr.write("Traceback\nValueError: the last straw\n\n")
            sys.stderr.flush()
            os._exit(3)
        value = float("nan") if self.behaviour.get("nan") else 1.0
        return Measured(self.behaviour.get("seconds", 1.0), self.behaviour.get("update"), value)

    def noise_and_kl(self) -> float | None:
        return self.behaviour.get("apart", 0.0)

    def draws(self, images: int, draws: int) -> Measured:
        return Measured(images * draws * 0.01, None, 0.1)


def main() -> None:
    serve(Pretender)
