"""Where each second of a step goes, in a sentence per curve at its most nodes: the report's part on losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bnn.records.parts import COMMUNICATION, COMPUTE, UNEXPLAINED
from campaign.results.figures.catalogue import LARGE_BATCH, SCALING
from campaign.results.report.headline import serving
from campaign.results.report.words import number, span
from campaign.results.tables.loss_schemas import INFLATION, STEP, WORDS

if TYPE_CHECKING:
    import pandas as pd

FAMILY = ["dataset", "model", "variant", "batch_size", "kind"]
OFTEN = 0.5  # of the steps: from here on a rank that is the last one is named


def loss_sentences(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """A sentence for every curve: the seconds of a step at its most nodes, and the largest part of them."""
    table = serving(tables["losses"], SCALING, LARGE_BATCH)
    ordered = table.sort_values(FAMILY, ascending=[False, False, True, True, True], kind="stable")
    said = []
    for _, family in ordered.groupby(FAMILY, sort=False):
        point = family[family["nodes"] == family["nodes"].max()]
        first = point.iloc[0]
        what = f"{first['model']}, {first['implementation']}, {first['dataset']}, batch {first['batch_size']}"
        nodes = f"{first['nodes']} node{'s' if first['nodes'] > 1 else ''}"
        cells = tables["cell_losses"]
        mine = cells[(cells[[*FAMILY, "nodes"]] == first[[*FAMILY, "nodes"]]).all(axis=1)]
        said.append(f"{what}, {nodes}: {largest_words(point, mine)}")
    return said


def largest_words(point: pd.DataFrame, cells: pd.DataFrame) -> str:
    """What a step's time goes to, in a sentence, from the rows of tables `losses` and `cell_losses` of one point."""
    rows = point.set_index("part")
    step = rows.loc[STEP]
    if step["reason"]:
        return f"not known ({step['reason']})."
    parts = rows[rows["adds"].astype(bool)].drop(index=UNEXPLAINED, errors="ignore")
    largest = parts["seconds"].idxmax()
    said = f"{_seconds(step['seconds'])} s a step, most of it {WORDS[str(largest)]} ({_part(parts.loc[largest])})"
    beside = parts[parts["group"] != COMPUTE]
    if parts.loc[largest, "group"] == COMPUTE and len(beside):
        other = str(beside["seconds"].idxmax())
        said += f"; beside computation most is {WORDS[other]} ({_part(beside.loc[other])})"
        said += _late(other, beside.loc[other], cells)
    inflation = rows.loc[INFLATION]
    if not inflation["reason"]:
        said += f"; computation takes {_inflation(inflation)}"
    rest = rows.loc[UNEXPLAINED]
    return f"{said}; " + (
        "what is unexplained is not measured."
        if rest["reason"]
        else f"{100 * rest['share']:.1f}% of it is unexplained."
    )


def _late(name: str, row: pd.Series, cells: pd.DataFrame) -> str:
    """Which rank the others wait for, where one rank is the last in most steps."""
    if row["group"] != COMMUNICATION or name != "late":
        return ""
    shares = cells[cells["counted"].astype(bool)].groupby("rank")["late_share"].mean().dropna()
    if shares.empty or shares.max() < OFTEN:
        return ""
    return f", in {100 * shares.max():.0f}% of the steps rank {int(shares.idxmax())}"


def _inflation(row: pd.Series) -> str:
    """By how much computation takes longer or shorter than on one node, as far as repeats tell."""
    low, high = float(row["low"]), float(row["high"])
    if low <= 0 <= high:
        return f"as long as on one node, as far as its repeats tell ({_seconds(low)} to {_seconds(high)} s more)"
    interval = "one repeat" if math.isnan(low) else f"{span(min(abs(low), abs(high)), max(abs(low), abs(high)))} s"
    more = "more" if row["seconds"] >= 0 else "less"
    return f"{_seconds(abs(row['seconds']))} s {more} than on one node ({interval})"


def _part(row: pd.Series) -> str:
    return f"{_seconds(row['seconds'])} s, {100 * row['share']:.1f}%"


def _seconds(value: float) -> str:
    return number(value)
