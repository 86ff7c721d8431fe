"""What `campaign compare` prints."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table
from rich.text import Text

from campaign.results.compare.rows import Comparison
from campaign.results.compare.said import without_row
from campaign.results.compare.schema import BETTER, WORSE
from campaign.results.compare.write import ordered, shown

STYLES = {WORSE: "bold red", BETTER: "green"}
MOST_NAMED = 10


def comparison_table(found: Comparison, whole: bool) -> Table:
    """Verdict, cell, metric, both values, ratio and interval; without `whole`, only what `is_told` says."""
    heads = ("verdict", "cell", "metric", "A", "B", "unit", "B / A", "95% interval", "remark")
    table = Table(*heads, title=f"B ({found.b['folder']}) against A ({found.a['folder']})")
    for row in ordered([row for row in found.rows if whole or is_told(row)]):
        said = shown(row)
        cells = (said["cell"], said["metric"], said["a"], said["b"], said["unit"], said["ratio"], said["interval"])
        verdict = Text(said["verdict"], style=STYLES.get(said["verdict"], ""))
        table.add_row(verdict, *map(Text, (*cells, said["reason"])))
    return table


def is_told(row: dict[str, Any]) -> bool:
    """Whether a row is printed unasked: it is worse or better, or would be if its ratio had no error."""
    if math.isnan(row["ratio"]):
        return False
    return row["verdict"] in STYLES or not row["same_from"] <= row["ratio"] <= row["same_to"]


def lists(found: Comparison) -> list[str]:
    """Lines on cells that could not be compared, and on what else differs between both sides."""
    lines = [f"refused: {each['cell']}: {each['difference']}" for each in found.refused]
    lines += [f"compared although it differs: {each['cell']}: {each['difference']}" for each in found.accepted]
    for title, cells in without_row(found):
        more = f"; and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
        lines.append(f"{title}: {'; '.join(cells[:MOST_NAMED])}{more}")
    lines += [f"{row['fact']}: {row['a']} in A, {row['b']} in B" for row in found.environment]
    return lines + found.notes
