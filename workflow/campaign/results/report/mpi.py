"""MPI profiles on the page: checks of every profiled cell, its routines, and why the others have none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pandas as pd

from campaign.results.report.cells import anchor
from campaign.results.report.facets import facets
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH, number
from campaign.results.tables.schemas import IDENTITY_KEYS

Row = dict[str, Any]
MOST_ROUTINES = 24  # cells; a cell's own page has its routines, too
CHECKS = ("exact", "differs", "no exchange")
CHECK_COLUMNS = (
    Column("model", "model", "model", href="anchor"), Column("data set", "dataset", "dataset"),
    Column("implementation", "implementation", "implementation"), Column("N", "nodes", "nodes", "n"),
    Column("batch", "batch", "batch_size", "n"), Column("variant", "variant", "variant"),
    Column("repeat", "repeat", "repeat", "n"), Column("profiles", "ranks", meaning="Ranks with a profile."),
    Column("gradient bytes per step", "bytes", "gradient_bytes_per_step", "n",
           "Data allreduces of training steps on rank 0."),
    Column("/ (4 × trainable)", "ratio", "gradient_ratio", "n", "These over 4 bytes per trainable parameter."),
    Column("check", "check", meaning="Of all profiled ranks."),
    Column("control (1/s)", "control_rate", "control_rate", "n",
           "Allreduces by which Horovod's ranks agree on what is ready; ranks that wait for one another or for a "
           "core do "
           "fewer."),
    Column("1 / cycle (1/s)", "cycle_rate", "cycle_rate", "n", "The most rounds of agreeing per second."),
    Column("in MPI / elapsed", "mpi_fraction", "mpi_fraction", "n",
           'The paper\'s "communication efficiency": time in MPI, summed over threads, over elapsed time. It overlaps '
           "computation and is not time lost."),
    Column("data / elapsed", "data_fraction", "data_fraction", "n", "The same of data alone."),
    Column("metrics per epoch", "metrics", look="n", meaning="Exchanges of held-out metrics per epoch, at most 1."),
    Column("overhead", "overhead", "overhead_fraction", "n",
           "Calls times the measured cost of counting one, over elapsed time."),
    Column("timeline", "timeline_words", href="timeline"),
)  # fmt: skip
ROUTINE_COLUMNS = (
    Column("carries", "carries"), Column("routine", "routine"), Column("operator", "operator"),
    Column("calls, rank 0", "calls", look="n"), Column("mean over ranks", "mean_calls", look="n"),
    Column("average bytes", "bytes", look="n"), Column("seconds, rank 0", "seconds", look="n"),
    Column("mean over ranks", "mean_seconds", look="n"), Column("calls per training step", "per_step", look="n"),
    Column("calls per second", "per_second", look="n"),
)  # fmt: skip


def mpi_section(tables: Mapping[str, pd.DataFrame], fold: Callable[[Row], Row] | None = None) -> Row:
    """`checks` and `routines` of every profiled cell, `verdicts` in a line, `absent`: reasons with how many cells.

    With `fold`, which leaves a part of a long table on the page, routines of more than MOST_ROUTINES cells are on the
    pages of the cells alone.
    """
    ranks, calls = tables["mpi_ranks"], tables["mpi"]
    keys = list(IDENTITY_KEYS)
    profiled = dict(list(ranks.groupby(keys, sort=False)))
    called = dict(list(calls.groupby(keys, sort=False)))
    checks, routines = [], []
    for cell in tables["cells"].to_dict("records"):
        key = tuple(cell[name] for name in keys)
        if key in profiled:
            checks.append(_check(cell, profiled[key]))
            if fold and len(profiled) > MOST_ROUTINES:
                continue
            name, caption = f"mpi-routines-{len(checks)}", f"MPI routines {len(checks)}"
            table = routine_table(called[key], len(profiled[key]), caption, name)
            routines.append(checks[-1] | {"table": table, "attributes": facets([cell])})
    states = tables["cells"]["mpi"].value_counts()
    table = grid("mpi-checks", "Checks of MPI profiles", CHECK_COLUMNS, checks)
    return {
        "checks": fold(table) if fold else table,
        "routines": routines,
        "verdicts": _verdicts(checks),
        "absent": [(state, int(count)) for state, count in states.items() if state != "recorded"],
    }


def _check(cell: Row, ranks: pd.DataFrame) -> Row:
    """Rank 0's numbers (else the first profiled rank's), and what all profiled ranks say of the gradients."""
    first = ranks.sort_values("rank").iloc[0]
    said = sorted(set(ranks["gradient_check"]))
    return {
        "record": first, "anchor": anchor(cell),
        "model": cell["model"], "dataset": cell["dataset"], "implementation": cell["implementation"],
        "nodes": cell["nodes"], "batch": cell["batch_size"], "variant": cell["variant"], "repeat": cell["repeat"],
        "ranks": f"{len(ranks)} of {cell['ranks']}",
        "bytes": number(first["gradient_bytes_per_step"], 9), "ratio": number(first["gradient_ratio"], 6),
        "check": "; ".join(said),
        "control_rate": number(first["control_rate"]), "cycle_rate": number(first["cycle_rate"]),
        "mpi_fraction": number(first["mpi_fraction"]), "data_fraction": number(first["data_fraction"]),
        "metrics": number(ranks["metric_exchanges_per_epoch"].max()),
        "overhead": number(first["overhead_fraction"], 2),
        "timeline": _link(cell["mpi_timeline"]), "timeline_words": "timeline" if cell["mpi_timeline"] else "",
    }  # fmt: skip


def routine_table(calls: pd.DataFrame, ranks: int, caption: str, name: str = "") -> Row:
    """A cell's calls by routine, of so many profiled ranks; a table with a name can be sorted and saved."""
    return grid(name, caption, ROUTINE_COLUMNS, _routines(calls, ranks))


def _link(timeline: str) -> str:
    """From the report, which lies in the site's folder, to a file that is named from the results folder."""
    return quote(PurePosixPath(*PurePosixPath(timeline).parts[1:]).as_posix()) if timeline else ""


@dataclass
class _Calls:
    """Calls of one routine with one operator that carry the same: sums over ranks, and of rank 0 alone.

    By phase, of rank 0: seconds of the phase, and its training steps. `bytes` is NaN where some were not measured.
    """

    calls: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0
    own_calls: float = 0.0
    own_seconds: float = 0.0
    training_calls: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)

    def add(self, rank: int, phase: str, phase_seconds: float, steps: Any, calls: float, size: Any, s: float) -> None:
        self.calls += calls
        self.bytes += math.nan if pd.isna(size) else size
        self.seconds += s
        if rank == 0:
            self.own_calls += calls
            self.own_seconds += s
            if pd.notna(phase_seconds):
                self.phases.setdefault(phase, phase_seconds)
            if pd.notna(steps):
                self.training_calls += calls
                self.steps.setdefault(phase, steps)


ADDED = ("rank", "phase", "phase_seconds", "phase_steps", "calls", "bytes", "seconds")


def _routines(calls: pd.DataFrame, ranks: int) -> list[Row]:
    """A cell's calls by what they carry, routine and operator: rank 0's, and the mean over profiled ranks."""
    found: dict[tuple[str, str, str], _Calls] = {}
    keys = zip(*(calls[name].tolist() for name in ("carries", "routine", "operator")), strict=True)
    # in plain Python: a campaign has hundreds of such tables of a hundred rows, and a group-by of pandas takes 20 ms
    for key, added in zip(keys, zip(*(calls[name].tolist() for name in ADDED), strict=True), strict=True):
        found.setdefault(key, _Calls()).add(*added)
    rows = []
    for (carries, routine, operator), of in sorted(found.items()):
        steps, seconds = sum(of.steps.values()), sum(of.phases.values())
        rows.append(
            {
                "carries": carries, "routine": routine, "operator": operator or DASH,
                "calls": number(of.own_calls, 6), "mean_calls": number(of.calls / ranks, 6),
                "bytes": number(of.bytes / of.calls if of.calls else None, 4), "seconds": number(of.own_seconds),
                "mean_seconds": number(of.seconds / ranks),
                "per_step": number(of.training_calls / steps if steps else None),
                "per_second": number(of.own_calls / seconds if seconds else None),
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: ("data", "control", "local").index(row["carries"]))


def _verdicts(checks: list[Row]) -> str:
    """How many profiled cells exchange what they should."""
    counts = {name: sum(row["check"] == name for row in checks) for name in CHECKS}
    other = len(checks) - sum(counts.values())
    words = {
        "exact": "exchange exactly 4 bytes per trainable parameter and step on every profiled rank",
        "differs": "differ from that",
        "no exchange": "have one rank and exchange nothing",
    }
    parts = [f"{counts[name]} {words[name]}" for name in CHECKS if counts[name]]
    parts += [f"of {other} it cannot be said for every rank"] if other else []
    return f"Of {len(checks)} profiled cells {', '.join(parts)}."
