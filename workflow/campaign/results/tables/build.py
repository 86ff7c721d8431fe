"""All tables of a campaign from its plan and the records of its cells and of the jobs beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.records.columns import TableSchema, write_table
from campaign.io.beside import MANY
from campaign.results.tables.after import ROWS, SUMMARY, after_rows
from campaign.results.tables.bench import bench_rows, load, run_row
from campaign.results.tables.cells import LoadedCell, cell_row, provenance_rows, step_rows
from campaign.results.tables.compare import accuracy_rows, ratio_rows
from campaign.results.tables.efficiencies import cell_efficiency_row, efficiency_rows
from campaign.results.tables.evaluations import evaluation_rows
from campaign.results.tables.losses import cell_loss_rows, loss_rows
from campaign.results.tables.methods import draw_rows, method_rows
from campaign.results.tables.mpi import mpi_rank_rows, mpi_rows
from campaign.results.tables.points import throughput_rows
from campaign.results.tables.scaling import scaling_rows
from campaign.results.tables.schemas import BENCH_TABLES, CELL_TABLES, METHOD_TABLES, TABLES
from campaign.results.tables.steps import Rows, steps_writer
from campaign.results.tables.tuning import tuning_rows
from campaign.results.tables.tuning_schemas import TUNING, TUNING_TABLES

if TYPE_CHECKING:
    import pandas as pd

MOST_READERS = 4  # processes that read cells
# nullable types, so that a missing cell's integers stay empty instead of turning into floats
PANDAS_TYPES = {"int32": "Int32", "int64": "Int64", "float64": "float64", "bool": "boolean", "string": "object"}


def build_tables(
    plan: dict[str, Any],
    results: Path,
    names: Iterable[str] = TABLES,
    steps: Callable[[Rows], None] | None = None,
) -> dict[str, pd.DataFrame]:
    """Tables for a plan (the content of plan.json), from the records below the folder `results`.

    All that are made from the same records as one of `names`; others' records are not read. A cell without
    summary.json is listed as MISSING. `steps` is given the rows of table `steps` of one cell after another; the table
    is then not among those returned, and nothing that grows with steps is kept. Raises UserError naming the file when
    a record is damaged.
    """
    wanted = set(names)
    if wanted & set(METHOD_TABLES):
        wanted |= {"cells", "inference"}
    if wanted & set(TUNING_TABLES):
        wanted |= {"cells"}
    built = _of_cells(plan, results, steps) if wanted & set(CELL_TABLES) else {}
    built |= _of_benchmarks(plan, results) if wanted & set(BENCH_TABLES) else {}
    for command, made in ROWS.items():
        if wanted & {SUMMARY[command].name, *made}:
            built |= {name: frame(rows, TABLES[name]) for name, rows in after_rows(command, plan, results).items()}
    if wanted & set(TUNING_TABLES):
        built[TUNING.name] = frame(tuning_rows(built["cells"], plan.get("tuning", {})), TUNING)
    return built | (_of_methods(built, plan.get("nll_target")) if wanted & set(METHOD_TABLES) else {})


def write_tables(plan: dict[str, Any], results: Path, paths: Mapping[str, Path]) -> None:
    """Make the tables that `paths` name, each in its file, as `build_tables`; no more than a cell's steps are held."""
    steps = paths.get("steps")
    with steps_writer(steps) if steps else nullcontext() as take:
        built = build_tables(plan, results, paths, take)
    for name, path in paths.items():
        if name != "steps":
            write_table(built[name], path, TABLES[name])


def _of_methods(built: dict[str, pd.DataFrame], target: float | None) -> dict[str, pd.DataFrame]:
    import pandas as pd

    found = [each for name in ("inference", "inference_others") if len(each := built[name])]
    jobs = pd.concat(found) if found else built["inference"]
    rows = {
        "methods": method_rows(built["cells"], jobs, built["evaluations"], target),
        "method_draws": draw_rows(jobs, built["inference_draws"]),
    }
    return {name: frame(made, TABLES[name]) for name, made in rows.items()}


def _of_benchmarks(plan: dict[str, Any], results: Path) -> dict[str, pd.DataFrame]:
    loaded = [load(entry, results) for entry in plan.get("bench", [])]
    rows = {"bench": [row for one in loaded for row in bench_rows(one)], "bench_runs": [run_row(one) for one in loaded]}
    return {name: frame(found, TABLES[name]) for name, found in rows.items()}


@dataclass(frozen=True)
class CellRows:
    """The rows of one cell by table; those of `mpi` as a frame, those of `steps` as `steps_writer` takes them."""

    rows: dict[str, list[dict[str, Any]]]
    steps: Rows | None
    mpi: pd.DataFrame


def _of_cells(plan: dict[str, Any], results: Path, take: Callable[[Rows], None] | None) -> dict[str, pd.DataFrame]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*ROWS_OF_CELL, "accuracy")}
    large: dict[str, list[pd.DataFrame]] = {"steps": [], "mpi": []}
    for cell in _each_cell(plan, results):
        for name, found in cell.rows.items():
            rows[name] += found
        # of many rows per cell: a row of a frame takes a tenth of what a dictionary does
        if cell.steps and take:
            take(cell.steps)
        elif cell.steps:
            common, by_step = cell.steps
            large["steps"].append(_typed(by_step.assign(**common), TABLES["steps"]))
        large["mpi"].append(cell.mpi)
    built = {name: frame(found, TABLES[name]) for name, found in rows.items()}
    built |= {name: _together(parts, TABLES[name]) for name, parts in large.items() if name != "steps" or not take}
    built["throughput"] = frame(throughput_rows(built["cells"]), TABLES["throughput"])
    from_others = {
        "scaling": scaling_rows(built["cells"], built["throughput"]),
        "efficiencies": efficiency_rows(built["cell_efficiencies"]),
        "losses": loss_rows(built["cell_losses"]),
        "ratios": ratio_rows(built["cells"]),
    }
    return built | {name: frame(found, TABLES[name]) for name, found in from_others.items()}


def _each_cell(plan: dict[str, Any], results: Path) -> Iterator[CellRows]:
    """Of the plan's cells in their order; many are read by as many processes as there are cores, up to MOST_READERS.

    Forked ones: another start would run the workflow's script, which is the main module, once more.
    """
    read = partial(_cell, results, plan.get("accuracy_targets", []))
    readers = min(len(os.sched_getaffinity(0)), MOST_READERS)
    if len(plan["cells"]) < MANY or readers < 2:
        yield from filter(None, map(read, plan["cells"]))
        return
    with ProcessPoolExecutor(readers, mp_context=get_context("fork")) as pool:
        yield from filter(None, pool.map(read, plan["cells"], chunksize=4))


def _cell(results: Path, targets: Sequence[float], entry: dict[str, Any]) -> CellRows | None:
    """None of what a target of its own runs, until it has. All steps of the cell are let go of with it."""
    cell = LoadedCell(entry, results)
    if not cell.summary and cell.target:
        return None
    rows = {name: made(cell) for name, made in ROWS_OF_CELL.items()} | {"accuracy": accuracy_rows(cell, targets)}
    return CellRows(rows, step_rows(cell), frame(mpi_rows(cell), TABLES["mpi"]))


# Table -> its rows of one cell.
ROWS_OF_CELL: dict[str, Callable[[LoadedCell], list[dict[str, Any]]]] = {
    "cells": lambda cell: [cell_row(cell)],
    "cell_efficiencies": lambda cell: [cell_efficiency_row(cell)],
    "cell_losses": cell_loss_rows,
    "evaluations": evaluation_rows,
    "provenance": provenance_rows,
    "mpi_ranks": mpi_rank_rows,
}


def _together(parts: list[pd.DataFrame], schema: TableSchema) -> pd.DataFrame:
    import pandas as pd

    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else frame([], schema)


def frame(rows: list[dict[str, Any]], schema: TableSchema) -> pd.DataFrame:
    """A DataFrame with exactly the schema's columns and types, also when there are no rows."""
    return _typed({c.name: [row[c.name] for row in rows] for c in schema.columns}, schema)


def _typed(values: Mapping[str, Any], schema: TableSchema) -> pd.DataFrame:
    """The same of values by column."""
    import pandas as pd

    return pd.DataFrame({c.name: pd.Series(values[c.name], dtype=PANDAS_TYPES[c.type]) for c in schema.columns})
