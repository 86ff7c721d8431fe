"""Every cell of the plan on the page, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from campaign.names.cell import Cell
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import mebibytes, number, percent, with_spread
from campaign.results.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, "pd.DataFrame"]
Row = dict[str, Any]
SUFFIX = ".html"
COLUMNS = (
    Column("verdict", "verdict", "verdict", "verdict"),
    Column("data set", "dataset", "dataset"),
    Column("model", "model", "model", href="page"),
    Column("implementation", "implementation", "implementation"),
    Column("N", "nodes", "nodes", "n", "Number of nodes."),
    Column("batch", "batch", "batch_size", "n", "Training examples per rank and step."),
    Column("variant", "variant", "variant"),
    Column("repeat", "repeat", "repeat", "n"),
    Column("reasons", "reasons", "reasons", "wide", "Why the verdict is not OK."),
    Column("steady (samples/s)", "steady", "throughput_steady throughput_steady_std", "n",
           "Samples divided by seconds after the warm-up steps: the headline. Behind it: the standard deviation of the "
           "rates of those steps."),
    Column("step times vary by", "variation", "coefficient_of_variation", "n",
           "Standard deviation over mean of the steady step times."),
    Column("other programs (CPUs)", "others", "foreign_cores", "n",
           "CPUs that other programs kept busy during the steady steps."),
    Column("paper's (samples/s)", "paper", "throughput_paper", "n",
           "The paper's throughput: mean over all steps of samples divided by rank 0's step time."),
    Column("step (s)", "step", "step_seconds", "n", "Mean time from a steady step to the next, of its slowest rank."),
    Column("of it exchange (s)", "exchange", "seconds_exchange", "n",
           "Mean time per steady step, over ranks, of waiting for gradients."),
    Column("steps", "steps", "steps", "n"),
    Column("start-up (s)", "startup", "seconds_startup", "n", "Before the first step."),
    Column("total (s)", "total", "seconds_total", "n", "Wall time of the run on rank 0, start-up included."),
    Column("memory (MiB)", "memory", "peak_memory_bytes", "n",
           "Largest resident memory of a rank. In CSV files it is in bytes."),
    Column("held-out accuracy", "accuracy", "held_out_accuracy", "n",
           "Of the mean over Monte-Carlo draws, last evaluation."),
)  # fmt: skip


def cell_table(rows: list[Row]) -> Row:
    """Of `cell_rows`."""
    return grid("cells-table", "Cells", COLUMNS, rows)


def anchor(cell: Mapping[str, Any] | pd.Series) -> str:
    """The id of a cell's row on the page."""
    return "cell-" + "-".join(str(cell[key]) for key in IDENTITY_KEYS)


def page_of(cell: Mapping[str, Any] | pd.Series) -> str:
    """The name of a cell's own page."""
    return Cell(**{key: cell[key] for key in IDENTITY_KEYS}).name + SUFFIX


def page_address(cell: Mapping[str, Any] | pd.Series) -> str:
    """Where a cell's own page is, from the report's."""
    return quote(f"report/cells/{page_of(cell)}")


def cell_rows(tables: Tables, with_pages: bool = False) -> list[Row]:
    """Every cell of the plan, whatever became of it; `with_pages`: with a link to its page."""
    rows = []
    for _, cell in tables["cells"].iterrows():
        accuracy = cell["held_out_accuracy"]
        rows.append(
            {
                "anchor": anchor(cell), "id": anchor(cell), "record": cell, "title": cell["folder"],
                "page": page_address(cell) if with_pages else "",
                "verdict": cell["verdict"], "reasons": cell["reasons"], "dataset": cell["dataset"],
                "model": cell["model"], "implementation": cell["implementation"],
                "nodes": cell["nodes"], "batch": cell["batch_size"],
                "variant": cell["variant"], "repeat": cell["repeat"], "engine": cell["engine"],
                "steady": with_spread(cell["throughput_steady"], cell["throughput_steady_std"]),
                "paper": number(cell["throughput_paper"]),
                "variation": percent(cell["coefficient_of_variation"]), "others": number(cell["foreign_cores"], 2),
                "step": number(cell["step_seconds"]),
                "exchange": number(cell["seconds_exchange"], 2), "steps": number(cell["steps"]),
                "startup": number(cell["seconds_startup"]), "total": number(cell["seconds_total"]),
                "memory": mebibytes(cell["peak_memory_bytes"]), "accuracy": percent(accuracy), "folder": cell["folder"],
            }
        )  # fmt: skip
    return rows
