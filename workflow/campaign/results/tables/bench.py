"""Tables of benchmarks: how long a step takes, against what, and how much of the machine it uses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bnn.bench.implementations import AGAIN, BASE, BEST, CONTROL, OURS, PEERS
from bnn.bench.summary import Line, floors, paired_ratio, summarise
from bnn.errors import UserError
from bnn.flops.formulae import form_of, implementation_flops
from bnn.metrics import Interval
from bnn.models.describe import INPUT_SHAPES, describe
from bnn.records import read_table
from bnn.records.bench import BENCH as ROWS
from bnn.records.bench import BenchHeader, header_path
from campaign.jobs.bench import tells_of
from campaign.results.statistics import NO_INTERVAL
from campaign.results.tables.bench_schemas import BASES, BENCH, BENCH_RUNS, PEER_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
MEASURED = "measured"
NOT_YET = "not measured yet"
OTHER = "measured with other options than the plan's, which is not shown"
CLASSES = 10
# In tables and figures: conventional networks, ours, peers; what nobody here knows comes last.
_CNNS = [name for name in OURS if name.startswith("cnn")]
ORDER = (*_CNNS, BEST, *(name for name in OURS if name not in _CNNS), *PEERS)


@dataclass(frozen=True)
class LoadedBench:
    """A benchmark of the plan; `header` and `rows` are None where it has not been measured as planned."""

    entry: Row
    state: str
    header: BenchHeader | None = None
    rows: pd.DataFrame | None = None

    @property
    def point(self) -> Row:
        return {"benchmark": self.entry["name"]} | {key: self.entry[key] for key in ("model", "batch", "threads")}


def load(entry: Row, results: Path) -> LoadedBench:
    """Read a benchmark of plan.json. Raises UserError naming a record that is damaged."""
    path = results / entry["record"]
    if not path.exists():
        return LoadedBench(entry, NOT_YET)
    beside = header_path(path)
    try:
        header = BenchHeader.model_validate_json(beside.read_bytes())
    except OSError as error:
        raise UserError(f"{beside}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{beside}: {'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from None
    if not tells_of(header, entry["fingerprint"], entry["options"]):
        return LoadedBench(entry, OTHER)
    rows = read_table(path, ROWS)
    return LoadedBench(entry, MEASURED, header, rows[rows["benchmark"] == "step"])


def run_row(loaded: LoadedBench) -> Row:
    """The row of table `bench_runs`."""
    row: Row = dict.fromkeys(BENCH_RUNS.names) | loaded.point | {"state": loaded.state}
    header, rows = loaded.header, loaded.rows
    if header is None or rows is None:
        return row
    same_name = (
        "rounds", "steps", "warmup", "seed", "cpu_model", "cores", "memory_bytes", "git_revision", "git_dirty",
        "started_at", "stopped_at", "idle_cpu", "foreign_cpu",
    )  # fmt: skip
    row |= {name: getattr(header, name) for name in same_name}
    peak = header.peak or {}
    return row | {
        "warnings": "; ".join(header.warnings),
        "versions": json.dumps({name: facts.versions for name, facts in header.workers.items()}, sort_keys=True),
        "command": " ".join(header.command),
        "noise_floor": floors(rows).get(BASE),
        **_named("control_ratio", paired_ratio(rows, CONTROL, BASE)),
        "peak_flops_per_second": peak.get("flops_per_second"),
        "peak_source": peak.get("source"),
        "peak_gemm": peak.get("gemm"),
        "peak_convolution": peak.get("convolution"),
    }


def _named(name: str, interval: Interval | None) -> Row:
    interval = interval or NO_INTERVAL
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def bench_rows(loaded: LoadedBench) -> list[Row]:
    """The rows of table `bench`: of everything that has rows, and of what was asked for and has none."""
    header, rows = loaded.header, loaded.rows
    if header is None or rows is None:
        return []
    lines = {line.implementation: line for line in summarise(rows)}
    asked = [*loaded.entry["implementations"], *loaded.entry["peers"]]
    absent = {name: "no rows in the record" for name in asked if name not in lines}
    absent |= {name: reason for name, reason in header.not_measured.items() if name not in lines}
    made = [_measured(loaded, header, rows, line) for line in lines.values()]
    made += [_blank(loaded, name) | {"state": f"not measured: {reason}"} for name, reason in absent.items()]
    return sorted(made, key=lambda row: (_place(row["implementation"]), row["implementation"]))


def _place(implementation: str) -> int:
    return ORDER.index(implementation) if implementation in ORDER else len(ORDER)


def _blank(loaded: LoadedBench, name: str) -> Row:
    side = "peer" if name in PEERS or not name.startswith(("cnn", "bnn-")) else name[:3]
    row: Row = dict.fromkeys(BENCH.names) | loaded.point
    row |= {"implementation": name, "side": side, "control": name in AGAIN, "resolved": name}
    return row | {"state": MEASURED, "notes": ""}


def _measured(loaded: LoadedBench, header: BenchHeader, rows: pd.DataFrame, line: Line) -> Row:
    name = line.implementation
    first = rows[rows["implementation"] == name].iloc[0]
    facts = header.workers.get(name)
    theirs = rows.loc[rows["implementation"] == "bayesian-torch", "peak_memory_bytes"].max()
    row = _blank(loaded, name) | {
        "resolved": line.resolved,
        "notes": "; ".join(facts.notes) if facts else "",
        "rounds": line.rounds,
        **_named("step_seconds", line.seconds),
        "interval_method": line.seconds.method,
        "samples_per_second": line.samples_per_second,
        "peak_memory_bytes": line.peak_memory_bytes,
        "memory_ratio_bayesian_torch": line.peak_memory_bytes / theirs,
        "overhead_fraction": line.share,
        "parameters_total": int(first["parameters_total"]),
    }
    for base, end in BASES.items():
        row |= _named(f"ratio_{end}", paired_ratio(rows, name, base))
    for peer, end in PEER_COLUMNS.items():
        row |= _named(f"speedup_{end}", paired_ratio(rows, peer, name))
    return row | _flops(row, float(first["width"]), line.samples_per_second, header.peak or {})


def _flops(row: Row, width: float, rate: float, peak: Mapping[str, Any]) -> Row:
    """FLOPs by the formula of what the implementation resolved to; empty for models and forms without one."""
    name = row["resolved"] if form_of(row["resolved"]) else row["implementation"]
    if row["model"] not in INPUT_SHAPES or form_of(name) is None:
        return {}
    kind = "cnn" if row["side"] == "cnn" else "bnn"
    described = describe(row["model"], kind, INPUT_SHAPES[row["model"]], CLASSES, width)
    whole, needed = implementation_flops(described, name), implementation_flops(described, name, padding=False)
    assert whole is not None
    assert needed is not None
    achieved, most = needed.total * rate, peak.get("flops_per_second")
    return {
        "flops_per_image": float(whole.total),
        "flops_per_image_needed": float(needed.total),
        "flops_form": form_of(name),
        "flops_per_second": achieved,
        "peak_fraction": achieved / most if most else math.nan,
    }
