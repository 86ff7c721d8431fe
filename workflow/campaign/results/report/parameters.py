"""Parameters of the paper's models: printed, as described here, and as counted in the cells that ran them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnn.models.describe import INPUT_SHAPES, describe
from campaign.results.report import published
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, "pd.DataFrame"]
Row = dict[str, Any]
COLUMNS = (
    Column("model", "model"),
    Column("kind", "kind"),
    Column("total", "ours", look="n"),
    Column("trainable", "ours_trainable", look="n"),
    Column("counted in cells", "ran", look="n", meaning="What cells reported that ran the model at full width."),
    Column("printed total", "total", look="published"),
    Column("printed trainable", "trainable", look="published"),
    Column("agree", "agreement"),
)


def parameter_table(tables: Tables) -> Row:
    """A row per model and kind that the paper prints."""
    rows = [row | {"agreement": "yes" if row["agrees"] else "NO"} for row in parameter_rows(tables)]
    return grid("parameters-table", "Parameters of the models", COLUMNS, rows)


def parameter_rows(tables: Tables) -> list[Row]:
    """Parameters of the paper's models: printed, as described here, and as counted in the cells that ran them."""
    cells = tables["cells"]
    rows = []
    for (model, kind), (total, trainable) in published.PARAMETERS.items():
        ours = describe(model, kind, INPUT_SHAPES[model], 10, 1.0)
        ran = cells[(cells["model"] == model) & (cells["kind"] == kind) & (cells["width"] == 1)]
        counted = sorted({int(n) for n in ran["parameters_total"].dropna()})
        rows.append(
            {
                "model": model, "kind": kind, "total": f"{total:,}", "trainable": f"{trainable:,}",
                "ours": f"{ours.parameters:,}", "ours_trainable": f"{ours.trainable:,}",
                "ran": ", ".join(f"{n:,}" for n in counted) or DASH,
                "agrees": (ours.parameters, ours.trainable) == (total, trainable),
            }
        )  # fmt: skip
    return rows
