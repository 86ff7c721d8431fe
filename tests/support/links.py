"""A link that is cut, looked for in the parts of a step: `python -m tests.support.links --out FOLDER`.

Two virtual hosts of one rank each (needs root; Debian: iproute2) train a network whose passes sleep over links of
1 Gbit/s and of 200 Mbit/s, in turn. What the cut costs a step is known beforehand: the bytes that a host sends in a
step, as the kernel counts them, by the difference of the two rates. Margins are fixed here. It has to come back within
MARGIN in the transfer where all gradients leave as one message, and in transfer and hidden communication together
where they leave in blocks, while the backward pass goes on. All other rows may move by no more than by chance: their
interval must meet the noise floor, which runs over the same link give, compared in the same way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from bnn.metrics import STEADY, log_intervals
from bnn.mpi_trace import preload
from bnn.mpi_trace.build import build
from bnn.records import STEPS, STEPS_FILE, read_table
from bnn.records.parts import HIDDEN, PARTS
from tests.support.hosts import sent, shape
from tests.support.injections import FINE, PACED, ROWS, SETTINGS, WRONG, Move, judged_row
from tests.support.ranks import BIN, SMALL
from tests.support.shaped import Hosts, virtual_hosts

MARGIN = 0.10  # of what the cut costs
BITS = {"1gbit": 1e9, "200mbit": 2e8}  # per second
FAST, SLOW = BITS
# At once after a pause leaves 0.7% of the message; nothing is lost, which TCP would take for a slower link.
LINK = {"burst": "64kb", "queue": "2s"}
SHORT = 10  # steps of the run that tells what is sent before the first one
TOGETHER = "transfer and hidden"
BLOCKS = {"whole": 64.0, "blocks": 0.5}  # MiB: gradients leave as one message, or as they are there
ROOT = Path(__file__).parents[2]
Pairs = Sequence[tuple[pd.DataFrame, pd.DataFrame]]


def parts(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds of every part of each rank (columns) by steady step."""
    rows = rows[rows["phase"] == STEADY]
    columns = {name: PARTS[name].column for name in (*ROWS, "late")} | {HIDDEN: "seconds_hidden"}
    named = pd.DataFrame({name: rows[column] for name, column in columns.items()})
    named[TOGETHER] = named["transfer"] + named[HIDDEN]
    return named.assign(step=rows["step"], rank=rows["rank"]).pivot(index="step", columns="rank")


def moves(pairs: Pairs, expected: float = 0.0, lands: str = "") -> dict[tuple[str, int], Move]:
    """How far every row moved from the first run of a pair to the second, step by step; of `lands`, how much more."""
    tables = [(parts(after) - parts(before)).dropna() for before, after in pairs]
    table = pd.concat(tables, ignore_index=True)
    if lands:
        table[lands] -= expected
    found = log_intervals(table.to_numpy(dtype=float).T)
    return {key: Move(*map(float, ends)) for key, ends in zip(table.columns, found.T, strict=True)}


def judge(fast: Sequence[pd.DataFrame], slow: Sequence[pd.DataFrame], cost: float, lands: str) -> list[dict[str, Any]]:
    """Rows of steps.parquet of runs over either link, two at least, in turn: what became of a cut that costs `cost`, s.

    `lands` is "transfer" or TOGETHER, whose two parts are then not judged by themselves.
    """
    floors = [moves([pair]) for runs in (fast, slow) for pair in pairwise(runs)]
    rows = []
    for key, beyond in moves(list(zip(fast, slow, strict=True)), cost, lands).items():
        if key[0] != lands and (key[0] == TOGETHER or (lands == TOGETHER and key[0] in ("transfer", HIDDEN))):
            continue
        expected, floor = cost if key[0] == lands else 0.0, max(found[key].far for found in floors)
        rows.append(judged_row(key, beyond, expected, MARGIN, floor))
    return rows


def run(hosts: Hosts, out: Path, rate: str, block: float, steps: int) -> tuple[pd.DataFrame, float]:
    """Train over links of this rate: rows of steps.parquet, and the bytes that a host has sent. Kept in `out`."""
    counted = out.with_suffix(".bytes.json")
    if not counted.is_file():
        shape(hosts.names, rate, **LINK)
        asked = {"model": PACED, "width": 1.0, "max_steps": steps, "gradient_block_mb": block}
        out.with_suffix(".json").write_text(json.dumps({**SMALL, **SETTINGS, **asked}))
        profile = preload.environment(out.with_suffix(".mpi")) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        hosts.mpiexec(
            2, "env", *(f"{name}={value}" for name, value in profile.items()), BIN / "bnn", "train", "--settings",
            out.with_suffix(".json"), "--out", out,
        )  # fmt: skip
        counted.write_text(json.dumps([sent(host) for host in hosts.names]))
    return read_table(out / STEPS_FILE, STEPS), float(np.mean(json.loads(counted.read_text())))


def measure(hosts: Hosts, out: Path, name: str, steps: int, repeats: int) -> tuple[float, list[dict[str, Any]]]:
    """What the cut costs a step, s, and the rows that `judge` makes of it; `name` is one of BLOCKS."""
    block, lands = BLOCKS[name], "transfer" if name == "whole" else TOGETHER
    before = run(hosts, out / f"{name}-short", FAST, block, SHORT)[1]
    runs: dict[str, list[tuple[pd.DataFrame, float]]] = {FAST: [], SLOW: []}
    for repeat in range(repeats):
        for rate, mine in runs.items():
            mine.append(run(hosts, out / f"{name}-{rate}-{repeat}", rate, block, steps))
    sent_in_step = (float(np.mean([bytes_ for _, bytes_ in runs[FAST]])) - before) / (steps - SHORT)
    cost = 8 * sent_in_step * (1 / BITS[SLOW] - 1 / BITS[FAST])
    fast, slow = ([rows for rows, _ in runs[rate]] for rate in (FAST, SLOW))
    return cost, judge(fast, slow, cost, lands)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=60, show_default=True, help="of each run; the first 10 are warm-up")
@click.option("--repeats", default=3, show_default=True, help="runs over either link")
def main(out: Path, steps: int, repeats: int) -> None:
    build()
    out = out.resolve()
    failed = False
    with virtual_hosts(out / ".hosts", 2) as hosts:
        for name in BLOCKS:
            cost, rows = measure(hosts, out, name, steps, repeats)
            print(f"{name}: the cut costs {1000 * cost:.3f} ms")
            for row in rows:
                numbers = [f"{1000 * row[key]:8.3f}" for key in ("expected", "moved", "low", "high", "floor")]
                said = "" if row["verdict"] == FINE else row["verdict"]
                print(f"  {row['part']:20} rank {row['rank']} {' '.join(numbers)} {said}")
                failed |= row["verdict"] == WRONG
    sys.exit(failed)


if __name__ == "__main__":
    main()
