"""All tables of a campaign from its plan and the records of its cells and of the jobs beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.records.columns import TableSchema
from campaign.results.tables.after import ROWS, SUMMARY, after_rows
from campaign.results.tables.bench import bench_rows, load, run_row
from campaign.results.tables.cells import LoadedCell, cell_row, provenance_rows, step_rows
from campaign.results.tables.compare import accuracy_rows, ratio_rows
from campaign.results.tables.efficiencies import cell_efficiency_row, efficiency_rows
from campaign.results.tables.losses import cell_loss_rows, loss_rows
from campaign.results.tables.methods import draw_rows, method_rows
from campaign.results.tables.mpi import mpi_rank_rows, mpi_rows
from campaign.results.tables.points import throughput_rows
from campaign.results.tables.scaling import scaling_rows
from campaign.results.tables.schemas import BENCH_TABLES, CELL_TABLES, METHOD_TABLES, TABLES
from campaign.results.tables.tuning import tuning_rows
from campaign.results.tables.tuning_schemas import TUNING, TUNING_TABLES

if TYPE_CHECKING:
    import pandas as pd

# nullable types, so that a missing cell's integers stay empty instead of turning into floats
PANDAS_TYPES = {"int32": "Int32", "int64": "Int64", "float64": "float64", "bool": "boolean", "string": "object"}


def build_tables(plan: dict[str, Any], results: Path, names: Iterable[str] = TABLES) -> dict[str, pd.DataFrame]:
    """Tables for a plan (the content of plan.json), from the records below the folder `results`.

    All that are made from the same records as one of `names`; others' records are not read. A cell without
    summary.json is listed as MISSING. Raises UserError naming the file when a record is damaged.
    """
    wanted = set(names)
    if wanted & set(METHOD_TABLES):
        wanted |= {"cells", "inference"}
    if wanted & set(TUNING_TABLES):
        wanted |= {"cells"}
    built = _of_cells(plan, results) if wanted & set(CELL_TABLES) else {}
    built |= _of_benchmarks(plan, results) if wanted & set(BENCH_TABLES) else {}
    for command, made in ROWS.items():
        if wanted & {SUMMARY[command].name, *made}:
            built |= {name: frame(rows, TABLES[name]) for name, rows in after_rows(command, plan, results).items()}
    if wanted & set(TUNING_TABLES):
        built[TUNING.name] = frame(tuning_rows(built["cells"], plan.get("tuning", {})), TUNING)
    return built | (_of_methods(built) if wanted & set(METHOD_TABLES) else {})


def _of_methods(built: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    found = [each for name in ("inference", "inference_others") if len(each := built[name])]
    jobs = pd.concat(found) if found else built["inference"]
    rows = {"methods": method_rows(built["cells"], jobs), "method_draws": draw_rows(jobs, built["inference_draws"])}
    return {name: frame(made, TABLES[name]) for name, made in rows.items()}


def _of_benchmarks(plan: dict[str, Any], results: Path) -> dict[str, pd.DataFrame]:
    loaded = [load(entry, results) for entry in plan.get("bench", [])]
    rows = {"bench": [row for one in loaded for row in bench_rows(one)], "bench_runs": [run_row(one) for one in loaded]}
    return {name: frame(found, TABLES[name]) for name, found in rows.items()}


def _of_cells(plan: dict[str, Any], results: Path) -> dict[str, pd.DataFrame]:
    loaded = [LoadedCell(entry, results) for entry in plan["cells"]]
    loaded = [cell for cell in loaded if cell.summary or not cell.target]  # what a target of its own runs, once it has
    cells = frame([cell_row(cell) for cell in loaded], TABLES["cells"])
    throughput = frame(throughput_rows(cells), TABLES["throughput"])
    efficiencies = frame([cell_efficiency_row(cell) for cell in loaded], TABLES["cell_efficiencies"])
    losses = frame([row for cell in loaded for row in cell_loss_rows(cell)], TABLES["cell_losses"])
    targets = plan.get("accuracy_targets", [])
    rows = {
        "steps": [row for cell in loaded for row in step_rows(cell)],
        "scaling": scaling_rows(cells, throughput),
        "efficiencies": efficiency_rows(efficiencies),
        "losses": loss_rows(losses),
        "accuracy": [row for cell in loaded for row in accuracy_rows(cell, targets)],
        "ratios": ratio_rows(cells),
        "provenance": [row for cell in loaded for row in provenance_rows(cell)],
        "mpi": [row for cell in loaded for row in mpi_rows(cell)],
        "mpi_ranks": [row for cell in loaded for row in mpi_rank_rows(cell)],
    }
    built = {name: frame(found, TABLES[name]) for name, found in rows.items()}
    first = {"cells": cells, "throughput": throughput, "cell_efficiencies": efficiencies, "cell_losses": losses}
    return first | built


def frame(rows: list[dict[str, Any]], schema: TableSchema) -> pd.DataFrame:
    """A DataFrame with exactly the schema's columns and types, also when there are no rows."""
    import pandas as pd

    columns = {c.name: pd.Series([row[c.name] for row in rows], dtype=PANDAS_TYPES[c.type]) for c in schema.columns}
    return pd.DataFrame(columns)
