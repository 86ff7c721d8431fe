"""What `campaign losses` prints: where each second of a step goes, BNN beside CNN, from the records as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from bnn.errors import UserError
from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.results.report.losses import largest_words
from campaign.results.tables.build import frame
from campaign.results.tables.cells import LoadedCell
from campaign.results.tables.loss_schemas import CELL_LOSSES, LOSSES, STEP, WORDS
from campaign.results.tables.losses import cell_loss_rows, loss_rows
from campaign.results.tables.scaling import BASELINE_NODES

if TYPE_CHECKING:
    import pandas as pd


def losses_of(campaign: Campaign, layout: Layout, cell: Cell) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of tables `losses` and `cell_losses` of a cell's point and of that of the other kind beside it.

    Raises UserError where no repeat of the cell's point has finished, or a record is damaged.
    """
    wanted = {_point(replace(cell, kind=kind)) for kind in ("bnn", "cnn")}
    needed = wanted | {replace(point, nodes=BASELINE_NODES) for point in wanted}
    entries = [job.plan_entry(campaign.site.name) for job in campaign.cells if _point(job.cell) in needed]
    loaded = [LoadedCell(entry, layout.results) for entry in entries]
    mine = [each for each in loaded if _point(each.cell) == _point(cell)]
    if not any(each.summary for each in mine):
        raise UserError(f"{cell.name}: no repeat of it has finished: there is nothing to tell")
    cells = frame([row for each in loaded for row in cell_loss_rows(each)], CELL_LOSSES)
    points = frame(loss_rows(cells), LOSSES)
    return points[points["nodes"] == cell.nodes], cells[cells["nodes"] == cell.nodes]


def _point(cell: Cell) -> Cell:
    return replace(cell, repeat=1)


def losses_table(points: pd.DataFrame, cells: pd.DataFrame) -> tuple[Table, list[str]]:
    """A row per part and a column per kind, and below it the largest part of each kind in a sentence."""
    first = points.iloc[0]
    where = f"{first['dataset']} {first['model']}, batch {first['batch_size']}, {first['variant']}"
    table = Table(title=f"Seconds of a step: {where}, nodes {first['nodes']}, ranks {first['ranks']}")
    table.title_justify = "left"
    table.add_column("part")
    sides = [side for _, side in points.groupby("kind", sort=True)]
    for side in sides:
        table.add_column(f"{side.iloc[0]['kind'].upper()} ({side.iloc[0]['implementation']})", justify="right")
        table.add_column("95% interval", justify="right")
        table.add_column("of the step", justify="right")
    for part, words in WORDS.items():
        found = [side[side["part"] == part].iloc[0] for side in sides]
        if all(row["reason"].startswith(("told apart", "split", "not told apart")) for row in found):
            continue
        lined = [text for row in found for text in _three(row)]
        table.add_row(Text(words), *lined, end_section=part in ("between", "unexplained", STEP))
    said = []
    for side in sides:
        said.append(
            f"{side.iloc[0]['kind'].upper()}: {largest_words(side, cells[cells['kind'] == side.iloc[0]['kind']])}"
        )
        for reason, rows in side[[_lacks(row) for _, row in side.iterrows()]].groupby("reason", sort=True):
            said.append(f"  {reason}: {', '.join(WORDS[part] for part in rows['part'])}")
    return table, said


def _lacks(row: pd.Series) -> bool:
    return str(row["reason"]).startswith(("not measured", "no ", "the cell", "recorded"))


def _three(row: pd.Series) -> list[Text]:
    if row["reason"]:
        return [Text("not measured" if _lacks(row) else "-", style="dim"), Text(""), Text("")]
    interval = "" if row["low"] != row["low"] else f"{1000 * row['low']:.2f} to {1000 * row['high']:.2f}"
    return [Text(f"{1000 * row['seconds']:.2f} ms"), Text(interval), Text(f"{100 * row['share']:.1f}%")]
