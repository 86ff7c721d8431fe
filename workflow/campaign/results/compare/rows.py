"""The rows of table `comparison`: ratios of all cells and metrics of two campaigns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from campaign.results.compare.alike import conditions, differing
from campaign.results.compare.environment import differences
from campaign.results.compare.folder import Side, origin
from campaign.results.compare.metrics import Metric, unit_of
from campaign.results.compare.ratios import Noise, Ratio, by_repeat, chance, noise, unpaired
from campaign.results.compare.samples import PLACE_KEYS, Place, Sample, counts, place_of, samples
from campaign.results.compare.verdicts import judge
from campaign.results.statistics import interval_or_nan

Row = dict[str, Any]
Key = tuple[Place, str]
ONE_REPEAT = "one repeat: an interval is not estimable"
NO_RATIO = {
    "ratio": math.nan, "ratio_low": math.nan, "ratio_high": math.nan, "noise_floor": math.nan, "chance": math.nan,
    "interval_method": "", "reason": "",
}  # fmt: skip


@dataclass
class Comparison:
    """All that is said of B against A, each told by where it comes from (`folder.origin`).

    `refused`: cells that measured another thing, with what differs; `accepted`: the same where that was to be accepted.
    `only`: cells of one of both alone, empty beside references, which name theirs. `lost`: what has valid repeats in A
    and none in B, which planned it. `environment`: facts that differ.
    """

    a: dict[str, str]
    b: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    accepted: list[Row] = field(default_factory=list)
    only: dict[str, list[str]] = field(default_factory=lambda: {"A": [], "B": []})
    lost: list[str] = field(default_factory=list)
    environment: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(
    a: Side, b: Side, metrics: Sequence[Metric], tolerances: Mapping[str, float], accept: Sequence[str] = ()
) -> Comparison:
    """Compare B with A. `accept`: keys in which cells may differ. docs/compare.md says what the verdicts mean."""
    found = Comparison(origin(a), origin(b), environment=differences(a, b))
    ours, theirs = ({place_of(row) for row in side.tables["cells"].to_dict("records")} for side in (a, b))
    lost = _valid(a) & (_asked(b, theirs) - theirs)
    found.only = {"A": _named(ours - theirs - lost), "B": _named(theirs - ours)}
    found.lost = _named(lost)
    unlike = differing(a, b)
    for place, said in sorted(unlike.items(), key=str):
        _note(found, cell_words(place), said, accept)
    barred = {place for place, said in unlike.items() if set(said) - set(accept)}
    for metric in metrics:
        before, after = samples(a.tables, metric), samples(b.tables, metric)
        pairs: dict[Key, tuple[Sample, Sample]] = {}
        for key in sorted(set(before) & set(after), key=str):
            what = f"{cell_words(*key)} {metric.source.words}".rstrip()
            if before[key].counted and not after[key].counted and what not in found.lost:
                found.lost.append(what)
            if key[0] in barred:
                continue
            said = conditions(before[key], after[key])
            if said:
                _note(found, f"{cell_words(*key)} {metric.name}", said, accept)
            if not set(said) - set(accept):
                pairs[key] = (before[key], after[key])
        found.rows += metric_rows(metric, pairs, tolerances[metric.name], (a.site, b.site))
    judge(found.rows)
    return found


def cell_words(place: Place, what: str = "") -> str:
    """A cell as a line names it, or what of it."""
    dataset, model, kind, nodes, batch, variant = place
    return f"{dataset} {model} {kind} nodes={nodes} batch={batch} {variant} {what}".rstrip()


def head(metric: Metric, key: Key, sites: tuple[str, str]) -> Row:
    """The columns of a row that say what it is of."""
    place, what = key
    return dict(zip(PLACE_KEYS, place, strict=True)) | {
        "site_a": sites[0], "site_b": sites[1], "what": what, "metric": metric.name, "unit": unit_of(metric),
        "better": metric.better,
    }  # fmt: skip


def told(ratio: Ratio, same: tuple[float, float], scatter: Noise, repeats: Sequence[int]) -> Row:
    """The columns that tell of a ratio. `chance` is not adjusted yet."""
    said = NO_RATIO | {"ratio": ratio.interval.value, "interval_method": ratio.interval.method}
    if not ratio.estimable:
        return said
    return said | {
        "ratio_low": ratio.interval.low, "ratio_high": ratio.interval.high, "noise_floor": scatter.floor(repeats),
        "chance": chance(ratio, same, scatter, repeats),
    }  # fmt: skip


def value_of(sample: Sample) -> float:
    """What the tables say of such repeats; NaN where a value is not positive."""
    if any(value <= 0 for value in sample.values.values()):
        return math.nan
    return interval_or_nan(list(sample.values.values())).value


def metric_rows(
    metric: Metric, pairs: Mapping[Key, tuple[Sample, Sample]], tolerance: float, sites: tuple[str, str]
) -> list[Row]:
    """The rows of one metric, not judged yet, from the repeats of both sides of every cell."""
    pairs = {key: pair for key, pair in pairs.items() if any(side.values for side in pair)}
    fit = [pair for pair in pairs.values() if not any(side.why_none for side in pair)]
    scatter = noise([logs for a, b in fit for logs in _scattering(metric, a, b)])
    same = 1 / (1 + tolerance), 1 + tolerance
    rows = []
    for key, (a, b) in pairs.items():
        row = head(metric, key, sites) | {
            "a": value_of(a), "b": value_of(b), "repeats_a": a.counted, "repeats_b": b.counted,
            "warned": a.warned + b.warned, "same_from": same[0], "same_to": same[1],
        }  # fmt: skip
        rows.append(row | _ratio(metric, a, b, same, scatter))
    return rows


def _asked(side: Side, there: set[Place]) -> set[Place]:
    """Planned cells, but those of targets that were not run: a target's own cells have no row before they finish."""
    planned = [(place_of(entry), entry.get("target", "")) for entry in side.plan["cells"]]
    run = {target for place, target in planned if place in there}
    return {place for place, target in planned if target in run}


def _valid(side: Side) -> set[Place]:
    """Cells that have a valid repeat."""
    return {place_of(row) for row in side.tables["cells"].to_dict("records") if counts(row)}


def _named(places: set[Place]) -> list[str]:
    return [cell_words(place) for place in sorted(places, key=str)]


def _note(found: Comparison, cell: str, said: Mapping[str, str], accept: Sequence[str]) -> None:
    """Put a cell's differences where they belong."""
    into = found.refused if set(said) - set(accept) else found.accepted
    into.append({"cell": cell, "difference": "; ".join(said.values()), "keys": sorted(said)})


def _scattering(metric: Metric, a: Sample, b: Sample) -> list[list[float]]:
    """Samples whose scatter is the metric's noise: each side's repeats, or the pairs' ratios."""
    if not metric.paired:
        return [a.logs, b.logs]
    return [[math.log(b.values[r] / a.values[r]) for r in sorted(set(a.values) & set(b.values))]]


def _ratio(metric: Metric, a: Sample, b: Sample, same: tuple[float, float], scatter: Noise) -> Row:
    for name, side in (("A", a), ("B", b)):
        if side.why_none:
            return NO_RATIO | {"reason": f"{name}: {side.why_none}"}
    common = sorted(set(a.values) & set(b.values))
    if metric.paired:
        if not common:
            return NO_RATIO | {"reason": "no repeat counts on both sides"}
        said = told(by_repeat(a.values, b.values), same, scatter, [len(common)])
        said["interval_method"] += ", by repeat"
    else:
        values = [list(side.values.values()) for side in (a, b)]
        said = told(unpaired(*values), same, scatter, [len(side) for side in values])
    if math.isnan(said["ratio_low"]):
        short = [name for name, side in (("A", a), ("B", b)) if len(side.values) < 2]
        said["reason"] = f"{' and '.join(short) or 'in common'}: {ONE_REPEAT}"
    return said
