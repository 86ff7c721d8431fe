"""Throughput and efficiency at numbers of nodes that were not measured: the rows of table `efficiency_projection`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from campaign.results.projection import verdicts
from campaign.results.projection.families import Family
from campaign.results.projection.heldout import FEWEST
from campaign.results.projection.messages import RefusedError
from campaign.results.projection.scales import Errors, interval, measured
from campaign.results.projection.step import Model, Parts
from campaign.results.tables.projection_schemas import EFFICIENCY_PROJECTION

Row = dict[str, Any]
MEASURED_HERE = "among the measured scales"


def efficiency_rows(
    family: Family, model: Model, nodes: Sequence[int], found: Errors | None, source: str, assumed: Sequence[str] = ()
) -> list[Row]:
    """Rows of EFFICIENCY_PROJECTION of a family, one for each of `nodes`.

    `found`: errors at held-out scales; None where the cells ran on another network than the model's.
    """
    row: Row = dict.fromkeys(EFFICIENCY_PROJECTION.names)
    row |= {"site": family.site, **family.key._asdict(), "implementation": family.implementation, "source": source}
    row["assumed"] = "; ".join((*_assumed(family, model, found), *family.said, *assumed))
    rows = []
    for count in nodes:
        ranks = count * family.per_node
        here = row | {"nodes": count, "ranks": ranks}
        try:
            rows.append(here | _projected(family, model, count, found))
        except RefusedError as why:
            rows.append(here | {"limit": "", "verdict": str(why)})
    return rows


def _projected(family: Family, model: Model, nodes: int, found: Errors | None) -> Row:
    projected, base = model.step(nodes), model.step(model.base.nodes).parts.total
    prediction = interval(family, model, nodes, found) if found else None
    total = projected.parts.total
    seconds = prediction.microseconds if prediction else total
    if nodes <= (measured(family)[-1].nodes if found else model.base.nodes):
        verdict = MEASURED_HERE
    elif prediction is None:
        verdict = verdicts.NOT_ESTIMABLE
    else:
        verdict = verdicts.of_interval(prediction.low, prediction.high)
    return {
        "step_seconds": seconds,
        "low": prediction.low if prediction else None,
        "high": prediction.high if prediction else None,
        "model_seconds": total,
        "range_low": _known(projected.low),
        "range_high": _known(projected.high),
        "throughput": nodes * family.per_node * family.key.batch_size / seconds,
        "efficiency": base / seconds,
        "efficiency_low": base / prediction.high if prediction else None,
        "efficiency_high": base / prediction.low if prediction else None,
        **_parts(projected.parts),
        "limit": projected.parts.largest,
        "verdict": verdict,
    }


def _parts(parts: Parts) -> Row:
    return parts._asdict()


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _assumed(family: Family, model: Model, found: Errors | None) -> list[str]:
    said = []
    if found is None:
        said.append("the cells ran on another network")
    elif len(measured(family)) >= FEWEST:
        said.append("the cells ran on this network")
    if model.spread is not None and not model.spread.apart:
        said.append("late ranks: all of the spread over one rank's steps is its own (from none of it, in the range)")
    return said
