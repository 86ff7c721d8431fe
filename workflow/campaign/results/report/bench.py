"""Benchmarks on the page: each run with what it was made on, its table, and what could not be measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.results.figures.peers import RUN_COMMAND
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH, mebibytes, moment, number, percent, span
from campaign.results.tables.bench import MEASURED
from campaign.results.tables.bench_schemas import BASES, PEER_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def _with_interval(label: str, key: str, meaning: str) -> Column:
    return Column(label, key, key, "n", meaning, tip=f"{key}_interval")


COLUMNS = (
    Column("implementation", "name", look="tight"),
    Column("step (s)", "seconds", "step_seconds", "n strong", "Centre over rounds of each round's median."),
    Column("95% interval", "interval", "step_seconds_low step_seconds_high", "n"),
    Column("samples/s", "rate", "samples_per_second", "n"),
    *(
        _with_interval(f"ratio to {name}", f"ratio_{end}", "Step time over that of the conventional network.")
        for name, end in BASES.items()
    ),
    *(
        _with_interval(f"faster than {name}", f"speedup_{end}", "The peer's step time over its own.")
        for name, end in PEER_COLUMNS.items()
    ),
    Column("overhead", "overhead", "overhead_fraction", "n", "Share of noise, KL and optimizer in the step."),
    Column("memory (MiB)", "memory", "peak_memory_bytes", "n", "In CSV files it is in bytes."),
    Column("memory / bayesian-torch", "memory_ratio", "memory_ratio_bayesian_torch", "n"),
    Column("GFLOP per image", "flops", "flops_per_image", "n",
           "Convolutions and matrix products in a step, by formula. In CSV files it is in FLOP."),
    Column("GFLOP/s", "achieved", "flops_per_second", "n",
           "Of these, without those on padded zeros, which may be left out. In CSV files it is in FLOP/s."),
    Column("of peak", "fraction", "peak_fraction", "n",
           "Against the best that the library reaches on this machine with a matrix product or a convolution, in "
           "float32. "
           "A convolution counts by its definition: Winograd's algorithm, which bnn-flipout and cnn-kernels use "
           "where it "
           "fits, multiplies 16 times where the definition does 36 times, so that this can say more than the processor "
           "does."),
)  # fmt: skip


def bench_section(tables: Mapping[str, pd.DataFrame]) -> Row:
    """`runs` with `head`, `table` and `absent`; `missing`: benchmarks without a record; `command`: how to get them."""
    runs, table = tables["bench_runs"], tables["bench"]
    made = [_run(run, table[table["benchmark"] == run["benchmark"]]) for _, run in _with_state(runs, True).iterrows()]
    missing = [
        {"name": f"{run['model']}, batch {run['batch']}", "state": run["state"]}
        for _, run in _with_state(runs, False).iterrows()
    ]
    return {"runs": made, "missing": missing, "command": RUN_COMMAND}


def _with_state(runs: pd.DataFrame, measured: bool) -> pd.DataFrame:
    return runs[(runs["state"] == MEASURED) == measured]


def _run(run: pd.Series, rows: pd.DataFrame) -> Row:
    present = rows["state"] == MEASURED
    return {
        "anchor": run["benchmark"],
        "title": f"{run['model']}, batch {run['batch']}, {run['threads']} threads",
        "head": _head(run),
        "table": grid(
            f"{run['benchmark']}-table",
            f"Benchmark {run['benchmark']}",
            COLUMNS,
            [_row(row) for _, row in rows[present].iterrows()],
        ),
        "absent": [{"name": row["implementation"], "state": row["state"]} for _, row in rows[~present].iterrows()],
        "notes": [
            {"name": row["implementation"], "text": row["notes"]} for _, row in rows[present].iterrows() if row["notes"]
        ],
    }


def _head(run: pd.Series) -> list[tuple[str, str]]:
    control = (
        f"{number(run['control_ratio'])} (95% interval {span(run['control_ratio_low'], run['control_ratio_high'])})"
    )
    dirty = ", with uncommitted changes" if run["git_dirty"] is True else ""
    return [
        ("measured", f"{moment(run['started_at'])} to {moment(run['stopped_at'])}"),
        ("hardware", f"{run['cpu_model']}, {run['cores']} cores, {number(run['memory_bytes'] / 2**30)} GiB"),
        ("rounds", f"{run['rounds']}, interleaved, {run['steps']} steps each; {run['warmup']} steps of warm-up before"),
        ("other programs", _others(run)),
        ("noise floor", f"{percent(run['noise_floor'])}; cnn measured once more / cnn: {control}"),
        ("peak", _peak(run)),
        ("versions", _versions(run["versions"])),
        ("git revision", f"{str(run['git_revision'] or DASH)[:12]}{dirty}"),
        ("command", run["command"]),
    ]


def _others(run: pd.Series) -> str:
    """How many CPUs they kept busy, and what that means."""
    if number(run["foreign_cpu"]) == DASH:
        return "not measured"
    return f"kept {number(run['foreign_cpu'], 2)} CPUs busy in the measured turns" + (
        f"; WARN: {run['warnings']}" if run["warnings"] else ""
    )


def _peak(run: pd.Series) -> str:
    if number(run["peak_flops_per_second"]) == DASH:
        return "not measured"
    both = f"matrix product {_giga(run['peak_gemm'])}, convolution {_giga(run['peak_convolution'])}"
    return f"{_giga(run['peak_flops_per_second'])} GFLOP/s by a {run['peak_source']} ({both})"


def _giga(value: Any) -> str:
    return DASH if number(value) == DASH else number(value / 1e9)


def _versions(text: str) -> str:
    """Libraries with the version that all implementations have, or with each one's."""
    found: dict[str, dict[str, list[str]]] = {}
    for implementation, versions in json.loads(text).items():
        for library, version in versions.items():
            found.setdefault(library, {}).setdefault(str(version), []).append(implementation)
    words = []
    for library, each in sorted(found.items()):
        if len(each) == 1:
            words.append(f"{library} {next(iter(each))}")
        else:
            words += [f"{library} {version} ({', '.join(users)})" for version, users in each.items()]
    return ", ".join(words) or DASH


def _row(row: pd.Series) -> Row:
    resolved = "" if row["resolved"] == row["implementation"] else f" ({row['resolved']})"
    made = {
        "record": row, "name": f"{row['implementation']}{resolved}",
        "seconds": number(row["step_seconds"]), "interval": span(row["step_seconds_low"], row["step_seconds_high"]),
        "rate": number(row["samples_per_second"]),
        "overhead": percent(row["overhead_fraction"]),
        "memory": mebibytes(row["peak_memory_bytes"]), "memory_ratio": number(row["memory_ratio_bayesian_torch"]),
        "flops": _giga(row["flops_per_image"]), "achieved": _giga(row["flops_per_second"]),
        "fraction": percent(row["peak_fraction"]),
    }  # fmt: skip
    for column in COLUMNS:
        if column.tip:
            low, high = row[f"{column.key}_low"], row[f"{column.key}_high"]
            made |= {column.key: number(row[column.key]), column.tip: f"95% interval {span(low, high)}"}
    return made
