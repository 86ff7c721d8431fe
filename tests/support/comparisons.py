"""Made-up campaigns to compare, in memory and as folders, and comparisons whose truth is known.

`python -m tests.support.comparisons` prints the table of docs/compare.md.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn.records.columns import write_table
from bnn.settings import TrainSettings
from campaign.names.layout import Layout
from campaign.results.compare.folder import Side
from campaign.results.compare.metrics import METRICS
from campaign.results.compare.rows import metric_rows
from campaign.results.compare.samples import Sample
from campaign.results.compare.schema import BETTER, SAME, WORSE
from campaign.results.compare.verdicts import judge
from campaign.results.tables.build import frame
from campaign.results.tables.schemas import IDENTITY_KEYS, TABLES
from tests.support.claims import cell

TOLERANCE = 0.1
NOISES = (
    "lognormal, sigma 2%",
    "lognormal, sigma 10%",
    "sigma 1% to 9%, cell by cell",
    "7% of values half as slow again",
)
TRUTHS = ("nothing differs", "all at the edge of the tolerance", "half of the cells differ")
Row = dict[str, Any]


def settings(**more: Any) -> TrainSettings:
    return TrainSettings(**({"dataset": "synthetic", "model": "vgg16", "kind": "bnn", "batch_size": 16} | more))


def measured(throughputs: Sequence[float], run: TrainSettings | None = None, **more: Any) -> list[Row]:
    """Rows of table `cells`, a repeat for each throughput (samples/s)."""
    rows = []
    for repeat, value in enumerate(throughputs, 1):
        asked = (run or settings()).model_copy(update={"seed": repeat})
        given = {
            "ranks": 1, "threads": 2, "synthetic": True, "hash": asked.fingerprint(), "train_size": 1000,
            "epoch_seconds": 1000 / value, "step_seconds": 16 / value, "settings": asked, "started_at": 1e9,
            "stopped_at": 1e9 + 60, "seconds_startup": 3.0, "peak_memory_bytes": 10**9,
        }  # fmt: skip
        rows.append(cell("bnn", repeat, value, **(given | more)))
    return rows


def provenance(**more: Any) -> Row:
    """A row of table `provenance`."""
    given: Row = dict.fromkeys(TABLES["provenance"].names)
    given |= {key: measured([1.0])[0][key] for key in IDENTITY_KEYS}
    given |= {
        "rank": 0, "local_rank": 0, "hostname": "a", "cpu_model": "Toy", "cores": 2, "affinity": "0-1", "threads": 2,
        "memory_bytes": 2**33, "python": "3.11", "platform": "Linux", "versions": json.dumps({"torch": "2.13"}),
        "environment": json.dumps({"OMP_NUM_THREADS": "2"}), "modules": "", "command": "bnn train",
        "git_revision": "0123456789abcdef", "git_dirty": False,
    }  # fmt: skip
    return given | more


def plan(rows: Sequence[Row], site: str = "toy") -> Row:
    cells = [
        {key: row[key] for key in IDENTITY_KEYS}
        | {"settings": row["settings"].model_dump(mode="json"), "fingerprint": row["settings"].fingerprint()}
        | {"ranks": row["ranks"], "roles": ["scaling"]}
        for row in rows
    ]
    return {"campaign": "toy", "site": {"name": site, "title": "Toy"}, "cells": cells}


def side(name: str, rows: Sequence[Row], **tables: Sequence[Row]) -> Side:
    """A campaign in memory; further tables by their names."""
    made = {"cells": rows, "provenance": [provenance()], **tables}
    frames = {table: frame(list(found), TABLES[table]) for table, found in made.items()}
    return Side(name, Layout(Path("results"), f"toy-{name}"), plan(rows), frames)


def write_side(folder: Path, rows: Sequence[Row], **tables: Sequence[Row]) -> Path:
    """The same as a folder."""
    layout, made = Layout(folder.parent, folder.name), side("A", rows, **tables)
    for table, content in made.tables.items():
        write_table(content, layout.table(table), TABLES[table])
    layout.plan.write_text(json.dumps(made.plan))
    return folder


def noise_of(kind: str, shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Logarithms of noise, (cells, repeats)."""
    normal = generator.standard_normal(shape)
    if kind == NOISES[0]:
        return 0.02 * normal
    if kind == NOISES[1]:
        return 0.1 * normal
    if kind == NOISES[2]:
        return 0.01 * 9 ** generator.uniform(size=(shape[0], 1)) * normal
    return 0.02 * normal - math.log(1.5) * (generator.uniform(size=shape) < 0.07)


def truths_of(kind: str, cells: int, generator: np.random.Generator) -> np.ndarray:
    """True ratios, (cells,)."""
    sign = generator.choice([-1, 1], size=cells)
    if kind == TRUTHS[0]:
        return np.ones(cells)
    if kind == TRUTHS[1]:
        return np.exp(sign * math.log1p(TOLERANCE))
    inside = generator.uniform(-1, 1, size=cells) * math.log1p(TOLERANCE)
    outside = sign * math.log1p(TOLERANCE) * generator.uniform(1, 4, size=cells)
    return np.exp(np.where(np.arange(cells) % 2, inside, outside))


def sample(values: np.ndarray) -> Sample:
    return Sample(values=dict(enumerate(values.tolist(), 1)), counted=len(values))


def simulated(truth: str, noise: str, repeats: int, comparisons: int, cells: int = 20, seed: int = 1) -> Counter[str]:
    """Counts over comparisons: rows by what the verdict is and whether it is wrong; `alarms`: comparisons with a false
    verdict better or worse; `shares`: sum over comparisons of the share of those verdicts that is false."""
    generator, found = np.random.default_rng(seed), Counter[str]()
    for _ in range(comparisons):
        ratios = truths_of(truth, cells, generator)
        a, b = (np.exp(noise_of(noise, (cells, repeats), generator)) for _ in "AB")
        pairs = {
            (("synthetic", "vgg16", "bnn", 1, 16, f"v{at}"), ""): (sample(a[at]), sample(of * b[at]))
            for at, of in enumerate(ratios)
        }
        wrong = said = 0
        rows = metric_rows(METRICS["throughput"], pairs, TOLERANCE, ("toy", "toy"))
        judge(rows)
        for row, ratio in zip(rows, ratios, strict=True):
            is_same = abs(math.log(ratio)) <= math.log1p(TOLERANCE) * (1 + 1e-9)
            right = row["verdict"] == (SAME if is_same else BETTER if ratio > 1 else WORSE)
            is_decided = row["verdict"] in (BETTER, WORSE)
            found["decided" if is_decided else row["verdict"]] += 1
            found["wrong same"] += row["verdict"] == SAME and not right
            said += is_decided
            wrong += is_decided and not right
            found["apart"] += not is_same
        found["wrong decided"] += wrong
        found["alarms"] += wrong > 0
        found["shares"] += wrong / max(1, said)  # type: ignore[assignment]
    found["comparisons"], found["rows"] = comparisons, comparisons * cells
    return found


def line(truth: str, noise: str, repeats: int, comparisons: int) -> str:
    """A line of the table."""
    found = simulated(truth, noise, repeats, comparisons)
    rows = found["rows"]
    parts = [f"{100 * found[key] / rows:.1f}" for key in ("decided", "same", "undecided")]
    parts += [f"{100 * found['alarms'] / comparisons:.1f}", f"{100 * found['shares'] / comparisons:.1f}"]
    parts.append(f"{100 * found['wrong same'] / found['apart']:.1f}" if found["apart"] else "–")
    return f"| {truth} | {noise} | {repeats} | " + " | ".join(parts) + " |"


if __name__ == "__main__":
    for truth in TRUTHS:
        for noise in NOISES:
            for repeats in (2, 3, 8):
                print(line(truth, noise, repeats, int(sys.argv[1]) if len(sys.argv) > 1 else 200), flush=True)
