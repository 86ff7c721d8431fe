"""Faults on purpose, looked for in the parts of a step: `python -m tests.support.injections --out FOLDER`.

Two ranks on this machine train with a fault on rank 1 in every second step. Steps with and without are compared in
pairs, so that what drifts slowly drops out. Margins are fixed here. A fault has to come back within MARGIN of what it
took in the part of rank 1 that it belongs to, and in how much longer rank 0 waits for rank 1 than rank 1 for rank 0,
beyond how much earlier rank 0 was by all that the laps of both say of that step but the fault. Where the interval of
such a row is wider than the margin, it is too noisy to tell. All other rows may move by no more than by chance: their
interval must meet the noise floor, which the same comparison gives of a run without a fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd

from bnn.metrics import STEADY, log_intervals
from bnn.mpi_trace import preload
from bnn.mpi_trace.build import build
from bnn.records import STEPS, STEPS_FILE, read_table
from bnn.records.parts import PARTS
from tests.support.ranks import environment, train_command

RANK = 1  # which suffers
MARGIN = 0.05  # of the injected time
FAULTS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "10% slower in compute": {"rank": RANK, "slow": 0.1, "every": 2},
    "5 ms per step": {"rank": RANK, "sleep_ms": 5.0, "every": 2},
}
LANDS = {"10% slower in compute": "forward", "5 ms per step": "input"}  # the part that holds what the rank lost
ROWS = [name for name in PARTS if name not in ("reduction", "exchange", "late")]
LATE_BEYOND = ("late, beyond", -1)
PACED = "tests.support.paced:paced"
SETTINGS: dict[str, Any] = {
    "dataset": "synthetic", "dataset_options": {"shape": [3, 32, 32], "size": 4000}, "batch_size": 16, "epochs": 9,
    "warmup_steps": 10, "rho_init": -4.0, "learning_rate": 1e-4, "engine": "horovod", "save_posterior": False,
    "gradient_block_mb": 0.5, "cycle_time_ms": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Move:
    """How far a row moved by a fault, s: the median over pairs of steps with its 95% interval."""

    median: float
    low: float
    high: float

    @property
    def far(self) -> float:
        """The far end of its interval."""
        return max(abs(self.low), abs(self.high))


def moves(rows: pd.DataFrame, lands: str = "") -> tuple[dict[tuple[str, int], Move], float]:
    """How every row moved from a step without the fault to the one before with it, and what was injected, s.

    Rows in which a fault that `lands` in a part of rank 1 has to come back: how far they are off what was injected.

    Keys are a part and its rank; ("late", -1) is how much longer rank 0 waited for rank 1 than rank 1 for rank 0, and
    LATE_BEYOND that beyond what else made rank 0 earlier. From rows of the record steps of two ranks of one host.
    """
    columns = ["started_at", *(column for column in rows if column.startswith("seconds_"))]
    wide = rows[rows["phase"] == STEADY].pivot(index="step", columns="rank", values=columns)
    first = wide.index[0] + wide.index[0] % 2
    pairs = [step for step in range(first, wide.index[-1], 2) if step in wide.index and step + 1 in wide.index]
    difference = wide.loc[pairs].to_numpy() - wide.loc[[step + 1 for step in pairs]].to_numpy()
    table = pd.DataFrame(difference, columns=wide.columns)
    found = {(name, rank): _move(table[PARTS[name].column, rank]) for name in ROWS for rank in (0, RANK)}
    lost = table["seconds_injected", RANK]
    if lands:
        found[lands, RANK] = _move(table[PARTS[lands].column, RANK] - lost)
    late = table["seconds_late", 0] - table["seconds_late", RANK] - (lost if lands else 0.0)
    arrived = sum(table[column] for column in ("started_at", "seconds_data", "seconds_forward", "seconds_backward"))
    earlier = arrived[RANK] - arrived[0] - lost
    found |= {("late", -1): _move(late), LATE_BEYOND: _move(late - earlier)}
    return found, float(lost.median())


def _move(values: pd.Series) -> Move:
    centre, low, high = (float(end[0]) for end in log_intervals(values.to_numpy(dtype=float)[None]))
    return Move(centre, low, high)


@dataclass(frozen=True)
class Found:
    """What became of one fault: by row, what was expected of it, how it moved, and whether that is as it should be."""

    fault: str
    injected: float
    rows: list[dict[str, Any]]

    @property
    def verdict(self) -> str:
        """The worst of its rows'."""
        return max((row["verdict"] for row in self.rows), key=(FINE, NOISY, WRONG).index)


FINE, NOISY, WRONG = "as it should", "too noisy to tell", "WRONG"


def judged(beyond: Move, expected: float, margin: float, floor: float) -> str:
    """Of a row that was `expected` to move so far, s, from how much further it moved.

    Within a share `margin` of what was expected; of a row of which nothing was, its interval has to meet the `floor`.
    """
    distance = max(0.0, beyond.low, -beyond.high)  # of the interval from zero
    if not expected:
        return FINE if distance <= floor else WRONG
    if beyond.high - beyond.low > 2 * margin * expected:
        return NOISY if distance <= margin * expected else WRONG
    return FINE if abs(beyond.median) <= margin * expected else WRONG


def judge(fault: str, faulty: pd.DataFrame, control: pd.DataFrame) -> Found:
    """Look for `fault` in the steps of one run, with the noise floors of another one without."""
    moved, injected = moves(faulty, LANDS[fault])
    floors = {key: move.far for key, move in moves(control)[0].items()}
    rows = []
    for key, move in moved.items():
        expected = injected if key in ((LANDS[fault], RANK), ("late", -1), LATE_BEYOND) else 0.0
        rows.append(judged_row(key, move, expected, MARGIN, floors[key]))
    return Found(fault, injected, rows)


def judged_row(key: tuple[str, int], beyond: Move, expected: float, margin: float, floor: float) -> dict[str, Any]:
    """A row as it is printed and kept: how far it was to move, how far it did, and whether that is as it should be."""
    return {
        "part": key[0], "rank": key[1], "expected": expected, "moved": expected + beyond.median,
        "low": expected + beyond.low, "high": expected + beyond.high, "floor": floor,
        "verdict": judged(beyond, expected, margin, floor),
    }  # fmt: skip


def run(folder: Path, fault: dict[str, Any] | None, settings: dict[str, Any]) -> pd.DataFrame:
    """Train on two ranks, profiled, and return the rows of steps.parquet. Raises RuntimeError where that fails."""
    build()
    profiled = ["env", *(f"{name}={value}" for name, value in preload.environment(folder.with_suffix(".mpi")).items())]
    asked = SETTINGS | {"width": 1.0 if ":" in settings["model"] else 0.25} | settings | {"fault": fault}
    command = train_command(folder, 2, asked)
    done = subprocess.run(
        [*command[:3], *profiled, *command[3:]],
        env=environment() | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return read_table(folder / STEPS_FILE, STEPS)


def measure(out: Path, settings: dict[str, Any], only: Sequence[str] = ()) -> list[Found]:
    """Run each fault and once without; those that lie in `out` already are not run again."""
    out.mkdir(parents=True, exist_ok=True)
    frames = {}
    for index, (name, fault) in enumerate(FAULTS.items()):
        folder = out / f"run-{index}"
        if (folder / STEPS_FILE).exists():
            frames[name] = read_table(folder / STEPS_FILE, STEPS)
        elif not only or name in only:
            frames[name] = run(folder, fault, settings)
    return [judge(name, frames[name], frames["none"]) for name in LANDS if name in frames and "none" in frames]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="resnet18", help=f"{PACED}: passes that need no core, where cores are shared")
@click.option("--steps", default=130)
@click.option("--only", multiple=True, type=click.Choice(list(FAULTS)), help="run these alone; judge what is there")
def main(out: Path, model: str, steps: int, only: tuple[str, ...]) -> None:
    failed = False
    for found in measure(out, {"model": model, "max_steps": steps}, only):
        print(f"{found.fault}: {1000 * found.injected:.3f} ms injected; {found.verdict}")
        for row in found.rows:
            where = "rank 0 - rank 1" if row["rank"] < 0 else f"rank {row['rank']}"
            numbers = [f"{1000 * row[name]:8.3f}" for name in ("expected", "moved", "low", "high", "floor")]
            print(
                f"  {row['part']:12} {where:16} {' '.join(numbers)} {'' if row['verdict'] == FINE else row['verdict']}"
            )
        (out / f"{LANDS[found.fault]}.json").write_text(json.dumps(found.rows, indent=1))
        failed |= found.verdict == WRONG
    sys.exit(failed)


if __name__ == "__main__":
    main()
