"""Records of made-up benchmarks, as `bnn bench step` leaves them; for tests of what is computed from records only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bnn.bench.implementations import PEERS
from bnn.models.describe import MODELS, describe
from bnn.records.bench import BENCH, BenchHeader, WorkerFacts, header_path
from bnn.records.columns import write_table
from bnn.records.files import write_text
from campaign.jobs.bench import BenchJob
from campaign.site.launchers import Placement

START = 1_700_000_000.0
PEAK = {
    "threads": 2, "gemm": 9e10, "gemm_size": 2048, "convolution": 1e11, "convolution_shape": "32x64x32x32, 3x3",
    "flops_per_second": 1e11, "source": "convolution of 32x64x32x32, 3x3",
}  # fmt: skip
# Seconds of a made-up machine's step, and the implementations that a comparison without peers has.
SECONDS = {
    "cnn-plain": 0.56, "cnn": 0.5, "cnn-again": 0.503, "cnn-kernels": 0.45, "cnn-best": 0.45, "bnn-flipout": 0.55,
    "bnn-flipout-reference": 1.05,
}  # fmt: skip
BEST = {"cnn-best": "cnn-kernels"}  # whose rows it repeats
WITH_PEERS = SECONDS | {"bayesian-torch": 1.4, "tfp": 1.35}


def bench_entry(
    model: str = "vgg16", batch: int = 32, peers: tuple[str, ...] = tuple(PEERS), implementations: tuple[str, ...] = ()
) -> dict[str, Any]:
    """One benchmark of plan.json."""
    return BenchJob(model, batch, Placement(1, 1, 2), 4, implementations, peers, "0" * 8).plan_entry("toy")


def write_bench(
    results: Path,
    entry: dict[str, Any],
    seconds: Mapping[str, float],
    *,
    rounds: int = 4,
    jitter: float = 0.01,
    options: list[str] | None = None,
    **header: Any,
) -> None:
    """Write rows and header of a measured benchmark; `seconds` by implementation, each round slower by chance."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for round_ in range(rounds):
        pace = 1 + 0.2 * random.random()  # the machine's, shared by a round
        for position, (name, each) in enumerate((n, s) for n, s in seconds.items() if n not in BEST):
            for step in range(2):
                took = each * pace * (1 + jitter * random.standard_normal())
                rows.append(
                    {
                        "benchmark": "step", "model": entry["model"], "width": 1.0, "batch": entry["batch"],
                        "threads": entry["threads"], "implementation": name, "resolved": name,
                        "round": round_, "position": position, "step": step, "seconds": took,
                        "samples": entry["batch"], "peak_memory_bytes": int(1e9 * each),
                        "seconds_noise_kl_optimizer": 0.03 * took if name.startswith("bnn") else None,
                        "parameters_total": _parameters(entry["model"], name), "draws": None, "images": None,
                    }
                )  # fmt: skip
    for name, candidate in BEST.items():
        chosen = [row for row in rows if row["implementation"] == candidate and name in seconds]
        rows += [row | {"implementation": name, "resolved": candidate} for row in chosen]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(("batch", "draws", "images"), "Int64"))
    frame["seconds_noise_kl_optimizer"] = frame["seconds_noise_kl_optimizer"].astype("float64")
    path = results / entry["record"]
    path.parent.mkdir(parents=True, exist_ok=True)
    workers = {
        name: WorkerFacts(
            resolved=BEST.get(name, name), parameters_total=_parameters(entry["model"], name),
            versions={"torch": "2.13.0"} if name != "tfp" else {"tensorflow": "2.21.0"},
        )
        for name in seconds
    }  # fmt: skip
    words = ["bnn", "bench", "step", *(options or entry["options"]), "--out", str(path)]
    fields: dict[str, Any] = {
        "benchmark": "step", "command": words, "started_at": START, "stopped_at": START + 100, "cpu_model": "Toy CPU",
        "cores": 2, "memory_bytes": 8 * 2**30, "rounds": rounds, "steps": 2, "warmup": 3, "seed": 0, "idle_cpu": 0.0,
        "peak": PEAK, "git_revision": "0123456789abcdef", "git_dirty": False, "workers": workers, "not_measured": {},
    }  # fmt: skip
    write_text(header_path(path), BenchHeader(**(fields | header)).model_dump_json())
    write_table(frame, path, BENCH)


def _parameters(model: str, name: str) -> int:
    return describe(model, "cnn" if name.startswith("cnn") else "bnn").parameters if model in MODELS else 1000
