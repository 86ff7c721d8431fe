"""Reference files of a site: what each metric of a cell is expected to be, as users of ReFrame know it.

ReFrame's tuple (value, lower, upper, unit): from value x (1 + lower) to value x (1 + upper) is as it should be, where
lower is a fraction from -1 to 0, upper one from 0 on, and null sets no bound.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnn.errors import UserError
from campaign.io.schema import check, did_you_mean
from campaign.io.yamlfile import read_yaml
from campaign.results.compare.folder import Side, origin
from campaign.results.compare.metrics import METRICS, Metric, unit_of
from campaign.results.compare.ratios import Noise, against, noise
from campaign.results.compare.rows import (
    NO_RATIO,
    ONE_REPEAT,
    Comparison,
    Key,
    Row,
    cell_words,
    head,
    told,
    value_of,
)
from campaign.results.compare.samples import Sample, samples
from campaign.results.compare.verdicts import judge


@dataclass(frozen=True)
class Reference:
    """What a metric of a cell is expected to be: `value` in the metric's unit, allowed ratios to it from, to."""

    value: float
    same: tuple[float, float]


@dataclass(frozen=True)
class References:
    """A file of references: by the cell's words, as `campaign compare` prints them, and the metric's name."""

    path: Path
    site: str
    cells: Mapping[str, Mapping[str, Reference]]

    def metrics(self) -> list[str]:
        """Names of the metrics that it has references of."""
        return list(dict.fromkeys(name for cell in self.cells.values() for name in cell))


def load_references(path: Path) -> References:
    """Read and check a file of references. Raises UserError naming the file, the key and what is wrong with it."""
    content = read_yaml(path)
    check(content, "references", str(path))
    cells = {}
    for cell, given in content["references"].items():
        for name in given:
            if name not in METRICS:
                raise UserError(f"{path}: references.{cell}.{name}: no metric{did_you_mean(name, METRICS)}")
        cells[cell] = {
            name: _reference(each, METRICS[name], f"{path}: references.{cell}.{name}") for name, each in given.items()
        }
    return References(path, content["site"], cells)


def _reference(given: Sequence[float | str | None], metric: Metric, origin: str) -> Reference:
    """One tuple, checked."""
    if len(given) != 4:
        raise UserError(f"{origin}: expected [value, low, high, unit], not {len(given)} of these")
    value, low, high, unit = given
    for name, number in (("value", value), ("low", low), ("high", high)):
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
        if not is_number and not (number is None and name != "value"):
            raise UserError(f"{origin}: {name} {number!r} is no number{'' if name == 'value' else ' and not null'}")
    if unit != unit_of(metric):
        raise UserError(f"{origin}: unit {unit!r}: {metric.name} is in {unit_of(metric)!r}")
    if float(value) <= 0:  # type: ignore[arg-type]
        raise UserError(f"{origin}: value {value} must be more than 0")
    if low is not None and not -1 <= float(low) <= 0:
        raise UserError(f"{origin}: low {low} must be from -1 to 0: it is a share of the value, -0.05 for 5% less")
    if high is not None and float(high) < 0:
        raise UserError(f"{origin}: high {high} must be 0 or more: it is a share of the value, 0.05 for 5% more")
    if low is None and high is None:
        raise UserError(f"{origin}: low and high are both null: nothing would be asked of it")
    edges = (0.0 if low is None else 1 + float(low), math.inf if high is None else 1 + float(high))
    return Reference(float(value), edges)  # type: ignore[arg-type]


def reference_text(side: Side, metrics: Sequence[Metric], tolerances: Mapping[str, float]) -> str:
    """A file of references that says what a campaign reached, each metric within its tolerance; a start to edit.

    Raises UserError where the campaign has no value of any of the metrics.
    """
    found: dict[str, list[str]] = {}
    for metric in metrics:
        for key, sample in sorted(samples(side.tables, metric).items(), key=str):
            if sample.why_none:
                continue
            edge = tolerances[metric.name]
            given = [float(f"{value_of(sample):.6g}"), round(1 / (1 + edge) - 1, 6), edge, unit_of(metric)]
            found.setdefault(cell_words(*key), []).append(f"    {metric.name}: {json.dumps(given)}")
    if not found:
        raise UserError(f"{side.layout.root}: no cell has a value of these metrics")
    cells = [line for cell, lines in found.items() for line in (f"  {json.dumps(cell)}:", *lines)]
    return "\n".join([f"site: {json.dumps(side.site)}", "references:", *cells]) + "\n"


def compare_with(references: References, side: Side, metrics: Sequence[Metric]) -> Comparison:
    """Compare a campaign (B) with references (A), of these metrics.

    Raises UserError naming file and key where the file is of another site, or the campaign has no such cell or no
    value of the metric.
    """
    path = references.path
    if references.site != side.site:
        raise UserError(f"{path}: site: references are of {references.site!r}, {side.layout.root} is of {side.site!r}")
    found = Comparison({"folder": str(path), "site": references.site, "started": "", "revision": ""}, origin(side))
    found.a |= {"stopped": "", "campaign": "references", "title": references.site}
    for metric in metrics:
        mine = {cell_words(*key): (key, sample) for key, sample in samples(side.tables, metric).items()}
        asked = {cell: given[metric.name] for cell, given in references.cells.items() if metric.name in given}
        scatter = noise([sample.logs for _, sample in mine.values() if not sample.why_none])
        for cell, reference in asked.items():
            if cell not in mine:
                raise UserError(f"{path}: references.{cell}: no cell of {side.layout.root}{did_you_mean(cell, mine)}")
            key, sample = mine[cell]
            if not sample.values:
                why = sample.why_none
                raise UserError(f"{path}: references.{cell}.{metric.name}: missing in {side.layout.root}: {why}")
            found.rows.append(_row(metric, key, sample, reference, scatter, side.site))
        left = sorted(cell for cell, (_, sample) in mine.items() if sample.values and cell not in asked)
        if asked and left:
            found.notes.append(f"without a reference of {metric.name}: {'; '.join(left)}")
    judge(found.rows)
    return found


def _row(metric: Metric, key: Key, sample: Sample, reference: Reference, scatter: Noise, site: str) -> Row:
    low, high = reference.same
    row = head(metric, key, (site, site)) | {
        "a": reference.value, "b": value_of(sample), "repeats_a": 0, "repeats_b": sample.counted,
        "warned": sample.warned, "same_from": low, "same_to": high,
    }  # fmt: skip
    if sample.why_none:
        return row | NO_RATIO | {"reason": sample.why_none}
    values = list(sample.values.values())
    said = told(against(values, reference.value), reference.same, scatter, [len(values)])
    if math.isnan(said["ratio_low"]):
        said["reason"] = ONE_REPEAT
    return row | said
