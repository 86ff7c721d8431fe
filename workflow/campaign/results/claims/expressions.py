"""The closed set of functions that a ledger may name: from tables to a number with its 95% interval.

Intervals are those of docs/intervals.md, over repeats; none is defined here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnn.metrics import Interval
from campaign.results.claims.measures import Measured, Side, cells_of, measure, selected
from campaign.results.claims.numbers import PRINTED, rounded
from campaign.results.statistics import NO_INTERVAL, interval_or_nan
from campaign.results.tables.schemas import POINT_KEYS
from campaign.results.tables.schemas import TABLES as SCHEMAS

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, "pd.DataFrame"]
Expression = Mapping[str, Any]
# Tables that a claim may be judged by: those with a row per cell or point.
NAMES = ("cells", "throughput", "scaling", "ratios", "accuracy", "mpi_ranks", "inference", "pruning")
TABLES: dict[str, list[str]] = {name: SCHEMAS[name].names for name in NAMES}
NUMBERS = {
    name: [column.name for column in SCHEMAS[name].columns if column.type in ("int32", "int64", "float64")]
    for name in NAMES
}
# Columns whose interval is in the table already: its ends, and how many repeats it is of.
INTERVALS = {
    ("throughput", "throughput_steady"): ("throughput_low", "throughput_high", "repeats"),
    ("throughput", "epoch_seconds"): ("epoch_seconds_low", "epoch_seconds_high", "repeats"),
    ("scaling", "efficiency_steady"): ("steady_low", "steady_high", "pairs"),
    ("scaling", "efficiency_total"): ("total_low", "total_high", "pairs"),
    ("ratios", "ratio"): ("ratio_low", "ratio_high", "pairs"),
}
# What each function needs, and what it may be given besides.
ARGUMENTS: dict[str, tuple[set[str], set[str]]] = {
    "value": ({"of"}, {"pool"}),
    "same": ({"of"}, set()),
    "ratio": ({"of", "to"}, {"pool"}),
    "slope": ({"of", "over"}, {"to"}),
    "best": ({"of", "at", "among"}, {"best"}),
    "arithmetic": ({"product"}, {"divided_by"}),
    "softplus": ({"number"}, set()),
}


@dataclass(frozen=True)
class Estimate:
    """A number, its 95% interval (NaN: none), of how many repeats, cells' names and sites; or why there is none.

    `exact`: computed or counted, so that no repeat would change it. `missing`: nothing to judge by; `unlike`: what
    there is does not serve.
    """

    interval: Interval = NO_INTERVAL
    repeats: int = 0
    cells: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    exact: bool = False
    missing: str = ""
    unlike: str = ""


def estimate(expression: Expression, tables: Tables, side: Side) -> Estimate:
    """What an expression of a checked ledger comes to; `side` says which variant where the expression says none."""
    return FUNCTIONS[expression["function"]](expression, tables, side)


def _value(expression: Expression, tables: Tables, side: Side) -> Estimate:
    """A column: over repeats, the geometric mean of pooled points each; or an interval that its table has."""
    selection = expression["of"]
    if "repeat" not in TABLES[selection["table"]]:
        return _tabled(selection, tables, side)
    found = measure(tables, selection, side, expression.get("pool", ()))
    return _over_repeats(found)


def _tabled(selection: Mapping[str, Any], tables: Tables, side: Side) -> Estimate:
    rows, missing, unlike = selected(tables, selection, side)
    if missing or unlike or len(rows) > 1:
        return Estimate(missing=missing, unlike=unlike or ("" if missing else "several points match"))
    row = rows.iloc[0]
    low, high, count = INTERVALS[selection["table"], selection["column"]]
    value, least, greatest = (float(row[column]) for column in (selection["column"], low, high))
    interval = Interval(value, least, greatest, str(row["interval_method"]))
    cells = tables["cells"]
    keys = [key for key in POINT_KEYS if key in rows.columns]
    of_point = cells[(cells[keys] == row[keys]).all(axis=1) & cells["counted"].fillna(False).astype(bool)]
    return Estimate(interval, int(row[count]), cells_of(of_point), (str(row["site"]),))


def _same(expression: Expression, tables: Tables, side: Side) -> Estimate:
    """What all selected rows agree on: a count. Its interval is from the least to the greatest."""
    rows, missing, unlike = selected(tables, expression["of"], side)
    if missing or unlike:
        return Estimate(missing=missing, unlike=unlike)
    values = rows[expression["of"]["column"]].astype(float)
    interval = Interval(float(values.median()), float(values.min()), float(values.max()), "count")
    return Estimate(interval, len(rows), cells_of(rows), tuple(sorted(set(rows["site"]))), exact=True)


def _ratio(expression: Expression, tables: Tables, side: Side) -> Estimate:
    """`of` over `to`, paired by repeat and point; of several points of a repeat the geometric mean."""
    ours, theirs = (measure(tables, expression[name], side, expression.get("pool", ())) for name in ("of", "to"))
    both = _joined(ours, theirs)
    return _over_repeats(both)


def _joined(ours: Measured, theirs: Measured) -> Measured:
    for one in (ours, theirs):
        if one.missing or one.unlike:
            return one
    if min(*ours.values.values(), *theirs.values.values()) <= 0:
        return Measured(unlike="a ratio of numbers that are not all positive")
    common = sorted(set(ours.values) & set(theirs.values))
    if not common:
        return Measured(missing="no repeat has both sides")
    ratios = {key: ours.values[key] / theirs.values[key] for key in common}
    return Measured(ratios, tuple(sorted({*ours.cells, *theirs.cells})), tuple(sorted({*ours.sites, *theirs.sites})))


def _over_repeats(found: Measured) -> Estimate:
    if found.missing or found.unlike:
        return Estimate(missing=found.missing, unlike=found.unlike)
    if min(found.values.values()) <= 0:
        return Estimate(unlike="a number that is not positive, which has no interval on the logarithm")
    whole = _whole({key: math.log(value) for key, value in found.values.items()})
    means = [math.exp(float(np.mean(list(points.values())))) for points in whole]
    return Estimate(interval_or_nan(means), len(means), found.cells, found.sites)


def _whole(logs: Mapping[Any, float]) -> list[dict[tuple[Any, ...], float]]:
    """Points by repeat, of the repeats that have as many as any: others would mix what is measured with what is not."""
    repeats: dict[int, dict[tuple[Any, ...], float]] = {}
    for (repeat, point), value in sorted(logs.items()):
        repeats.setdefault(repeat, {})[point] = value
    most = max(len(points) for points in repeats.values())
    full = [points for points in repeats.values() if len(points) == most]
    return [points for points in full if set(points) == set(full[0])]


def _slope(expression: Expression, tables: Tables, side: Side) -> Estimate:
    """Factor by which `of` (over `to`) grows per doubling of `over`: a least-squares line on logarithms per repeat."""
    pool = (expression["over"],)
    found = measure(tables, expression["of"], side, pool)
    if "to" in expression:
        found = _joined(found, measure(tables, expression["to"], side, pool))
    if found.missing or found.unlike:
        return Estimate(missing=found.missing, unlike=found.unlike)
    if min(found.values.values()) <= 0 or min(point[0] for _, point in found.values) <= 0:
        return Estimate(unlike="a slope on logarithms of numbers that are not all positive")
    whole = _whole({key: math.log(value) for key, value in found.values.items()})
    if len(whole[0]) < 2:
        return Estimate(missing=f"only one value of {expression['over']} was measured")
    lines = [np.polyfit([math.log2(point[0]) for point in points], list(points.values()), 1)[0] for points in whole]
    return Estimate(interval_or_nan([math.exp(line) for line in lines]), len(lines), found.cells, found.sites)


def _best(expression: Expression, tables: Tables, side: Side) -> Estimate:
    """Variant `at` over the best of the others, by repeat. The best of noisy others looks better than it is: that is
    against the claim, never for it. `best: lowest` where less is better, as of times."""
    wanted = expression["among"]
    where = {**expression["of"].get("where", {}), "variant": wanted}
    found = measure(tables, {**expression["of"], "where": where}, side, ("variant",))
    if found.missing or found.unlike:
        return Estimate(missing=found.missing, unlike=found.unlike)
    repeats: dict[int, dict[str, float]] = {}
    for (repeat, (variant,)), value in sorted(found.values.items()):
        repeats.setdefault(repeat, {})[variant] = value
    full = [values for values in repeats.values() if set(values) == set(wanted)]
    if not full:
        return Estimate(missing=f"no repeat has all of the variants {', '.join(wanted)}")
    if min(value for values in full for value in values.values()) <= 0:
        return Estimate(unlike="a comparison of numbers that are not all positive")
    lowest = expression.get("best") == "lowest"
    ratios = []
    for values in full:
        others = [value for variant, value in values.items() if variant != expression["at"]]
        mine = values[expression["at"]]
        ratios.append(min(others) / mine if lowest else mine / max(others))
    return Estimate(interval_or_nan(ratios), len(ratios), found.cells, found.sites)


def _arithmetic(expression: Expression, _tables: Tables, _side: Side) -> Estimate:
    """Product of printed positive numbers over that of others; its interval is what their rounding leaves open."""
    value = low = high = 1.0
    for text in expression["product"]:
        number = rounded(text)
        value, low, high = value * number.value, low * number.low, high * number.high
    for text in expression.get("divided_by", ()):
        number = rounded(text)
        value, low, high = value / number.value, low / number.high, high / number.low
    return Estimate(Interval(value, low, high, PRINTED), exact=True)


def _softplus(expression: Expression, _tables: Tables, _side: Side) -> Estimate:
    """log(1 + exp(x)), what makes a scale of an untransformed one."""
    value = math.log1p(math.exp(float(expression["number"])))
    return Estimate(Interval(value, value, value, "computed"), exact=True)


FUNCTIONS: dict[str, Callable[[Expression, Tables, Side], Estimate]] = {
    "value": _value,
    "same": _same,
    "ratio": _ratio,
    "slope": _slope,
    "best": _best,
    "arithmetic": _arithmetic,
    "softplus": _softplus,
}
