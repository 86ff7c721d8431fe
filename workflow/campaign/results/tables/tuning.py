"""Rows of table `tuning`: every combination of settings against the stated one and against the best.

Repeats are blocks, and all intervals of a point hold together with 95% (`campaign.results.blocks`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.results.blocks import Blocks
from campaign.results.statistics import interval_or_nan
from campaign.results.tables.identity import POINT
from campaign.results.tables.tuning_schemas import ALIKE, BEST, MOST, SLOWER

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
KEYS = tuple(column.name for column in POINT)
GROUP = tuple(key for key in KEYS if key != "variant")


def tuning_rows(cells: pd.DataFrame, tuned: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """From table `cells` and the plan's `tuning`: rows of each study's points."""
    rows = []
    for name, study in tuned.items():
        mine = cells[cells["variant"].isin(study["choices"])]
        for _, point in mine.groupby(list(GROUP), sort=True):
            rows += _point(name, study, point)
    return rows


def _point(name: str, study: Mapping[str, Any], point: pd.DataFrame) -> list[Row]:
    order = [variant for variant in study["choices"] if (point["variant"] == variant).any()]
    groups = {variant: point[point["variant"] == variant] for variant in order}
    rates = {variant: _rates(group) for variant, group in groups.items()}
    compared = Blocks(rates)
    return [_row(name, study, variant, groups[variant], rates[variant], compared) for variant in order]


def _rates(group: pd.DataFrame) -> dict[int, float]:
    """Steady throughput by counted repeat."""
    known = group[group["counted"].astype(bool)].dropna(subset=["throughput_steady"])
    return {int(repeat): float(rate) for repeat, rate in zip(known["repeat"], known["throughput_steady"], strict=True)}


def _row(
    name: str, study: Mapping[str, Any], variant: str, group: pd.DataFrame, rates: Mapping[int, float], compared: Blocks
) -> Row:
    counted = group[group["counted"].astype(bool)]
    first = (counted if len(counted) else group).iloc[0]
    warned = (counted["verdict"] == "WARN").any()
    row: Row = {key: first[key] for key in (*KEYS, "implementation", "ranks")} | {"study": name}
    settings = [*study["choices"][variant].items()]
    for place in range(1, MOST + 1):
        key, value = settings[place - 1] if place <= len(settings) else ("", "")
        row |= {f"setting_{place}": key, f"value_{place}": value}
    whole = interval_or_nan([*rates.values()])
    row |= {
        "repeats": len(counted),
        "repeats_planned": len(group),
        "verdict": "INVALID" if counted.empty else "WARN" if warned else "OK",
        "throughput": whole.value,
        "throughput_low": whole.low,
        "throughput_high": whole.high,
        "against": study["against"],
    }
    reasons = [] if rates else ["no repeat counts"]
    best = compared.best()
    for column, other in (("gain", study["against"]), ("of_best", best)):
        found = compared.ratio(variant, other)
        row |= {column: found.value, f"{column}_low": found.low, f"{column}_high": found.high}
        if rates and math.isnan(found.low):
            reasons.append(f"{column}: an interval needs more repeats of both")
    row["standing"] = _standing(row, variant == best)
    row["reason"] = "; ".join(reasons)
    return row


def _standing(row: Row, best: bool) -> str:
    if best:
        return BEST
    if math.isnan(row["of_best_high"]):
        return ""
    return SLOWER if row["of_best_high"] < 1 else ALIKE
