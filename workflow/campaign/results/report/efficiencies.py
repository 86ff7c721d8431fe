"""What limits every curve at its most nodes, in a sentence each, by what it is: the report's part on efficiencies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from campaign.results.figures.catalogue import LARGE_BATCH, SCALING
from campaign.results.report.headline import serving
from campaign.results.report.words import DASH, number, span
from campaign.results.tables.efficiency_schemas import EFFICIENCIES, FACTORS

if TYPE_CHECKING:
    import pandas as pd

FAMILY = ["dataset", "model", "variant", "batch_size", "kind"]
LITTLE = 0.95  # from here on nothing is called a limit


def limits(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """What limits curves -> a sentence for each of these: its global efficiency at its most nodes, and which factor.

    What limits most curves comes first.
    """
    return {what: [sentence(point) for point in points] for what, points in limited(tables).items()}


def limited(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[pd.Series]]:
    """What limits curves -> the row of table `efficiencies` of each of these at its most nodes, as `limits`."""
    table = serving(tables["efficiencies"], SCALING, LARGE_BATCH)
    ordered = table.sort_values(FAMILY, ascending=[False, False, True, True, True])
    found: dict[str, list[pd.Series]] = defaultdict(list)
    for _, family in ordered.groupby(FAMILY, sort=False):
        point = family.sort_values("nodes").iloc[-1]
        found[limit(point)].append(point)
    return dict(sorted(found.items(), key=lambda group: -len(group[1])))


def limit(point: pd.Series) -> str:
    """What limits a point, in the words of a heading."""
    if not point["limited_by"]:
        return "Not known"
    if min(point[name] for name in FACTORS) >= LITTLE:
        return f"No factor below {LITTLE:g}"
    if " or " in point["limited_by"]:
        return "Factors that the repeats do not tell apart"
    return str(point["limited_by"]).capitalize()


def sentence(point: pd.Series) -> str:
    """What limits one point, in words."""
    what = f"{point['model']}, {point['implementation']}, {point['dataset']}, batch {point['batch_size']}"
    where = f"{what}, {point['nodes']} node{'s' if point['nodes'] > 1 else ''}"
    if not point["limited_by"]:
        return f"{where}: not known ({point['reason']})."
    found = f"{where}: global efficiency {_value(point, 'global')}"
    lowest = min(FACTORS, key=lambda name: point[name])
    words = EFFICIENCIES[lowest][0]
    if point[lowest] >= LITTLE:
        return f"{found}; no factor is below {LITTLE:g}."
    if " or " in point["limited_by"]:
        which = point["limited_by"].replace(" or ", ", ")
        return f"{found}; its repeats do not tell which limits it: {which} (lowest: {words}, {_value(point, lowest)})."
    return f"{found}; it is limited by {point['limited_by']}, {_value(point, lowest)}."


def _value(point: pd.Series, name: str) -> str:
    interval = span(point[f"{name}_low"], point[f"{name}_high"])
    return number(point[name]) + ("" if interval == DASH else f" ({interval})")
