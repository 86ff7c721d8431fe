"""Throughput and efficiency at numbers of nodes that were not measured: the rows of table `efficiency_projection`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bnn.records.columns import Column, TableSchema
from campaign.results.projection import verdicts
from campaign.results.projection.families import Family
from campaign.results.projection.heldout import FEWEST
from campaign.results.projection.messages import RefusedError
from campaign.results.projection.scales import Errors, interval, measured
from campaign.results.projection.step import LOSSES, Model, Parts

Row = dict[str, Any]
MEASURED_HERE = "among the measured scales"

EFFICIENCY_PROJECTION = TableSchema(
    name="efficiency_projection",
    version=1,
    columns=(
        Column("site", "string", "", "site of the cells that it starts from"),
        Column("dataset", "string", "", "data set"),
        Column("model", "string", "", "network"),
        Column("kind", "string", "", "bnn or cnn"),
        Column("batch_size", "int64", "samples", "training examples per rank and step"),
        Column("variant", "string", "", "named variant of the settings"),
        Column("implementation", "string", "", "bnn-<estimator> or the CNN baseline's name"),
        Column("nodes", "int64", "nodes", "number of nodes that this is projected to"),
        Column("ranks", "int64", "ranks", "ranks of all nodes, as many per node as were measured"),
        Column("source", "string", "", "'projected:' and what it rests on, a fabric's facts or a measured curve"),
        Column("step_seconds", "float64", "s", "wall time of a step (median); empty where it is refused"),
        Column("low", "float64", "s", "lower end of its 95% prediction interval; empty where none can be estimated"),
        Column("high", "float64", "s", "upper end of its 95% prediction interval; empty where none can be estimated"),
        Column("model_seconds", "float64", "s", "the same by the model alone: the sum of its parts below"),
        Column("range_low", "float64", "s", "by the model, at the best ends of what is assumed: no interval"),
        Column("range_high", "float64", "s", "by the model, at the worst ends of what is assumed: no interval"),
        Column("throughput", "float64", "samples/s", "training examples of all ranks / step_seconds"),
        Column("efficiency", "float64", "", "T1/(N TN) to the smallest measured scale, by step_seconds"),
        Column("efficiency_low", "float64", "", "lower end of its 95% prediction interval"),
        Column("efficiency_high", "float64", "", "upper end of its 95% prediction interval"),
        Column("work", "float64", "s per step", "part: input, passes, update and between steps at the smallest scale"),
        *(Column(name, "float64", "s per step", f"part: {words}") for name, words in LOSSES.items()),
        Column("hidden", "float64", "s per step", "messages behind the backward pass: beside the parts, never lost"),
        Column("limit", "string", "", f"the largest loss: one of {', '.join(LOSSES)}; empty where nothing is lost"),
        Column("verdict", "string", "", "'inside the model', or why it is not (docs/projection.md)"),
        Column("assumed", "string", "", "what was assumed or left out, separated by '; '"),
    ),
)


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
