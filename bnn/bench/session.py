"""One benchmark from its plan to its rows: workers start one after another, then take turns, round by round."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnn.bench.implementations import BEST, BEST_OF, Choice, implementation
from bnn.bench.pool import Pool, UnavailableError, Worker
from bnn.bench.protocol import Spec
from bnn.errors import UserError
from bnn.neighbours import NeighbourMeter
from bnn.neighbours.together import alone
from bnn.records.bench import WorkerFacts
from bnn.records.neighbours import PhaseLoad

# Between two turns: a worker's threads spin for some milliseconds before they sleep.
PAUSE_SECONDS = 0.1
# A worker that has waited finds cold caches: up to this long it runs unmeasured steps, where a step takes less.
SETTLE_SECONDS = 0.25
# Share of the largest worker's memory that must stay free: a machine that swaps measures nothing.
SPARE = 0.5


@dataclass(frozen=True)
class Plan:
    """What to measure and how often. `images` and `draws` are those of inference; steps are per turn.

    `peak`: whether the machine's own peak is measured first. `labels` are the caller's, for the record.
    """

    benchmark: str
    choice: Choice
    model: str
    width: float
    shape: tuple[int, ...]
    classes: int
    batch: int
    threads: int
    rounds: int
    steps: int
    warmup: int
    seed: int
    train_size: int = 50_000
    images: tuple[int, ...] = ()
    draws: int = 0
    peak: bool = False
    labels: dict[str, Any] | None = None

    def spec(self, name: str) -> Spec:
        return Spec(
            name, self.model, self.width, self.shape, self.classes, self.batch, self.threads, self.seed,
            self.train_size, implementation(name).settings,
        )  # fmt: skip

    def cases(self) -> list[dict[str, Any]]:
        """The requests of a turn, each with rounds of its own: training steps, or draws for each number of images."""
        if self.benchmark == "step":
            return [{"do": "step"}]
        return [{"do": "draws", "images": images, "draws": self.draws} for images in self.images]


@dataclass
class Result:
    """Rows of bnn.records.bench.BENCH, and what the header says of the workers."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    workers: dict[str, WorkerFacts] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    waiting_cpu: float = 0.0
    wall: float = 0.0
    meter: NeighbourMeter = field(default_factory=lambda: NeighbourMeter("pauses"))

    @property
    def idle_cpu(self) -> float:
        """The share of one core that the waiting workers used while another one was measured."""
        return self.waiting_cpu / self.wall if self.wall else 0.0

    def neighbours(self) -> PhaseLoad | None:
        """What the rest of the machine did in all turns together; None before the first."""
        self.meter.stop()
        return alone(self.meter).phases.get("turns")


def order(names: list[str], seed: int, case: int, round_: int) -> list[str]:
    """The order of one round: shuffled, the same for the same arguments.

    Not rotated, because then everyone would always follow the same neighbour.
    """
    shuffled = list(names)
    random.Random(f"{seed}/{case}/{round_}").shuffle(shuffled)
    return shuffled


def measure(plan: Plan, python_of: Callable[[Any], Path | str], progress: Callable[[str, float], None]) -> Result:
    """Run the whole benchmark; `progress` gets a line and the fraction done.

    Raises UserError naming a worker that failed.
    """
    result = Result()
    with tempfile.TemporaryDirectory(prefix="bnn-bench-") as folder, Pool(Path(folder), python_of) as pool:
        seconds = {name: one for name in plan.choice.names if (one := start(plan, name, pool, result, progress))}
        total, done = plan.rounds * len(plan.cases()) * len(seconds), 0
        for case, request in enumerate(plan.cases()):
            for round_ in range(plan.rounds):
                for position, name in enumerate(order(list(seconds), plan.seed, case, round_)):
                    progress(f"round {round_ + 1}/{plan.rounds} {describe(request)} {name}", done / total)
                    times = settle_steps(seconds[name][case])
                    turn(plan, pool, name, request, times, result, round_, position)
                    done += 1
        if plan.benchmark == "step":
            for name in seconds:
                progress(f"noise and KL of {name}", 1.0)
                add_noise_and_kl(pool.workers[name], result)
        progress("done", 1.0)
    resolve_best(plan, result)
    return result


def describe(request: dict[str, Any]) -> str:
    return "" if request["do"] == "step" else f"{request['images']} images"


def settle_steps(seconds: float) -> int:
    """How many unmeasured steps begin a turn, if a step takes `seconds`."""
    return 0 if seconds >= SETTLE_SECONDS else max(1, int(SETTLE_SECONDS / max(seconds, 1e-3)))


def start(
    plan: Plan, name: str, pool: Pool, result: Result, progress: Callable[[str, float], None]
) -> list[float] | None:
    """Start and warm up one worker; returns its seconds per case, None if it cannot be had and nobody named it."""
    progress(f"starting {name}", 0.0)
    worker = pool.start(implementation(name), plan.spec(name))
    try:
        facts = worker.hello()
    except UnavailableError as error:
        pool.drop(name)
        if name not in plan.choice.optional:
            raise UserError(f"implementation {name}: {error}") from None
        result.not_measured[name] = str(error)
        progress(f"not measured: {name}: {error}", 0.0)
        return None
    result.workers[name] = facts
    seconds, peak = [], 0
    for request in plan.cases():
        # a warm-up of inference needs no more than a few draws: twice, because the first may compile
        short = request | ({"draws": min(2, plan.draws)} if plan.draws else {})
        said = worker.ask("while it warmed up", **short, times=plan.warmup)
        seconds.append(said["seconds"][-1] * (plan.draws / short["draws"] if plan.draws else 1))
        peak = said["peak_memory_bytes"]
    check_memory(name, peak)
    return seconds


def check_memory(name: str, peak: int) -> None:
    """Raise UserError when the machine is about to run out of memory; `peak` is the latest worker's, in bytes."""
    import psutil

    available = psutil.virtual_memory().available
    if available < SPARE * peak:
        raise UserError(
            f"implementation {name}: only {available / 2**20:.0f} MB of memory are left, and waiting implementations"
            " keep theirs: name fewer with --implementations, or take a smaller --batch"
        )


def turn(
    plan: Plan, pool: Pool, name: str, request: dict[str, Any], settle: int, result: Result, round_: int, position: int
) -> None:
    """One worker's turn in a round: its rows are added to the result."""
    time.sleep(PAUSE_SECONDS)
    worker: Worker = pool.workers[name]
    when = f"in round {round_ + 1}"
    waiting = pool.waiting_cpu_seconds(name)
    result.meter.enter("turns")
    began = time.perf_counter()
    if settle:
        worker.ask(when, **request, times=settle)
    said = worker.ask(when, **request, times=plan.steps)
    result.wall += time.perf_counter() - began
    result.meter.enter("pauses")
    result.waiting_cpu += pool.waiting_cpu_seconds(name) - waiting
    facts, inference = result.workers[name], request["do"] == "draws"
    for step, (seconds, update) in enumerate(zip(said["seconds"], said["update"], strict=True)):
        result.rows.append({
            "benchmark": plan.benchmark,
            "model": plan.model,
            "width": plan.width,
            "batch": None if inference else plan.batch,
            "threads": plan.threads,
            "implementation": name,
            "resolved": facts.resolved,
            "round": round_,
            "position": position,
            "step": step,
            "seconds": seconds,
            "samples": request["images"] * plan.draws if inference else plan.batch,
            "peak_memory_bytes": said["peak_memory_bytes"],
            "seconds_noise_kl_optimizer": update,
            "parameters_total": facts.parameters_total,
            "draws": plan.draws if inference else None,
            "images": request["images"] if inference else None,
        })  # fmt: skip


def add_noise_and_kl(worker: Worker, result: Result) -> None:
    """Add the time of noise and KL to rows that hold the update's alone.

    It is measured after the last round, because it takes memory and time.
    """
    apart = worker.ask("when its noise and KL were measured", do="noise_and_kl")["seconds"]
    for row in result.rows:
        if row["implementation"] == worker.name:
            update = row["seconds_noise_kl_optimizer"]
            row["seconds_noise_kl_optimizer"] = None if apart is None or update is None else update + apart


def resolve_best(plan: Plan, result: Result) -> None:
    """Add cnn-best: the rows of its faster candidate once more, under that name.

    The first rounds choose it by the median over their steps, and its rows are those of the later rounds: the rounds
    that made it the faster one would flatter it. A single round does both, and the notes say so.
    """
    from statistics import median

    if not plan.choice.best:
        return
    choosing = choosing_rounds(plan.rounds)
    times = {
        name: median(
            row["seconds"] for row in result.rows if row["implementation"] == name and row["round"] < max(choosing, 1)
        )
        for name in BEST_OF
        if name in result.workers
    }
    if not times:
        result.not_measured[BEST] = f"none of its candidates could be measured ({', '.join(BEST_OF)})"
        return
    best = min(times, key=lambda name: times[name])
    rows = [row for row in result.rows if row["implementation"] == best and row["round"] >= choosing]
    result.rows += [{**row, "implementation": BEST, "resolved": best} for row in rows]
    if len(times) == 1:
        chosen = f"{best}, the only candidate that could be measured"
    elif choosing:
        chosen = f"{best}, chosen on the first {choosing} of {plan.rounds} rounds and timed on the others"
    else:
        chosen = f"{best}, chosen on the one round that times it: its time is flattered"
    facts = result.workers[best]
    result.workers[BEST] = facts.model_copy(update={"resolved": best, "notes": [*facts.notes, chosen]})


def choosing_rounds(rounds: int) -> int:
    """How many of the first rounds choose cnn-best: a third of them, and none of a single round."""
    return max(1, rounds // 3) if rounds > 1 else 0
