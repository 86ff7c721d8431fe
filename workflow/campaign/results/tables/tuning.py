"""Rows of table `tuning`: every combination of settings against the stated one and against the best, in pairs.

Many are compared at once, and the best is chosen by looking: intervals of ratios are Student's t on the logarithm of
pairs of one repeat, at 1 - 5% / comparisons (Bonferroni), so that all of a point hold together with 95%. Against the
stated combination there are as many as others; against the best, which any may be, as many as there are pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.results.statistics import interval_or_nan, simultaneous_ratio
from campaign.results.tables.identity import POINT
from campaign.results.tables.tuning_schemas import ALIKE, BEST, MOST, SLOWER

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
KEYS = tuple(column.name for column in POINT)
GROUP = tuple(key for key in KEYS if key != "variant")
FEW = 3  # repeats that a ratio's interval needs


def tuning_rows(cells: pd.DataFrame, tuned: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """From table `cells` and the plan's `tuning`: rows of each study's points, combinations as listed."""
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
    best = _best(rates)
    return [_row(name, study, variant, groups[variant], rates, best) for variant in order]


def _rates(group: pd.DataFrame) -> dict[int, float]:
    """Steady throughput by counted repeat."""
    known = group[group["counted"].astype(bool)].dropna(subset=["throughput_steady"])
    return {int(repeat): float(rate) for repeat, rate in zip(known["repeat"], known["throughput_steady"], strict=True)}


def _best(rates: Mapping[str, Mapping[int, float]]) -> str:
    """The variant of the highest geometric mean over the repeats that all measured ones have; empty of one alone."""
    known = {variant: values for variant, values in rates.items() if values}
    common = set.intersection(*(set(values) for values in known.values())) if len(known) > 1 else set()
    if not common:
        return ""
    return max(known, key=lambda variant: sum(math.log(known[variant][repeat]) for repeat in common))


def _row(
    name: str, study: Mapping[str, Any], variant: str, group: pd.DataFrame, rates: Mapping[str, Mapping[int, float]],
    best: str,
) -> Row:  # fmt: skip
    counted = group[group["counted"].astype(bool)]
    first = (counted if len(counted) else group).iloc[0]
    warned = (counted["verdict"] == "WARN").any()
    row: Row = {key: first[key] for key in (*KEYS, "implementation", "ranks")} | {"study": name}
    settings = [*study["choices"][variant].items()]
    for place in range(1, MOST + 1):
        key, value = settings[place - 1] if place <= len(settings) else ("", "")
        row |= {f"setting_{place}": key, f"value_{place}": value}
    whole = interval_or_nan([*rates[variant].values()])
    row |= {
        "repeats": len(counted),
        "repeats_planned": len(group),
        "verdict": "INVALID" if counted.empty else "WARN" if warned else "OK",
        "throughput": whole.value,
        "throughput_low": whole.low,
        "throughput_high": whole.high,
        "against": study["against"],
    }
    reasons = [] if rates[variant] else ["no repeat counts"]
    others = sum(1 for values in rates.values() if values) - 1
    pairs = others * (others + 1) // 2
    for column, other, comparisons in (("gain", study["against"], others), ("of_best", best, pairs)):
        found = simultaneous_ratio(rates[variant], rates.get(other, {}), comparisons)
        row |= {column: found.value, f"{column}_low": found.low, f"{column}_high": found.high}
        same = other == variant and not math.isnan(found.value)
        if same:
            row |= {f"{column}_low": 1.0, f"{column}_high": 1.0}
        elif rates[variant] and math.isnan(found.low):
            reasons.append(f"{column}: an interval needs {FEW} repeats of both")
    row["standing"] = _standing(row, variant == best)
    row["reason"] = "; ".join(reasons)
    return row


def _standing(row: Row, best: bool) -> str:
    if best:
        return BEST
    if math.isnan(row["of_best_high"]):
        return ""
    return SLOWER if row["of_best_high"] < 1 else ALIKE
