"""Numbers of a publication at scales that this site has not run, beside what its cells come to on that network.

Nothing is judged by it: what is projected is no measurement, and another processor is another processor. How far it is
off is said, whatever it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from campaign.results.claims.ledger import Claim, Ledger
from campaign.results.claims.numbers import SCALES, printed
from campaign.results.claims.rows import unit_of
from campaign.results.projection.cells import of_family
from campaign.results.projection.fabrics import load_fabric
from campaign.results.projection.families import Family
from campaign.results.projection.messages import RefusedError
from campaign.results.projection.networks import OfFabric
from campaign.results.projection.step import Model
from campaign.results.tables.projection_schemas import PROJECTION_CLAIMS

Row = dict[str, Any]
POINT = ("model", "kind", "nodes", "batch_size")  # what a claim has to name
EFFICIENCY, SECONDS = ("scaling", "efficiency_total"), ("cells", "seconds_total")


def claim_rows(ledger: Ledger, families: Sequence[Family]) -> list[Row]:
    """Rows of PROJECTION_CLAIMS, one per claim of a scale on a known network; `families`: those of its width."""
    return [_row(claim, ledger, families) for claim in ledger.claims if _projectable(claim, ledger)]


def _projectable(claim: Claim, ledger: Ledger) -> bool:
    if claim.expression["function"] != "value" or not ledger.hardware.get(claim.hardware, {}).get("fabric"):
        return False
    of = claim.expression["of"]
    named = all(name in of.get("where", {}) for name in POINT)
    what = of["table"], of["column"]
    return (
        named
        and not {"minus", "per"} & set(of)
        and (what == EFFICIENCY or (what == SECONDS and claim.work is not None))
    )


def _row(claim: Claim, ledger: Ledger, families: Sequence[Family]) -> Row:
    where = claim.expression["of"]["where"]
    row: Row = dict.fromkeys(PROJECTION_CLAIMS.names)
    row |= {
        "id": claim.id,
        "statement": claim.statement,
        "scale": claim.scale,
        "unit": unit_of(claim),
        "paper": printed(claim.printed).value,
    }
    row |= dict.fromkeys(("site", "dataset", "variant", "implementation", "source", "assumed", "reason"), "")
    row |= {"model": where["model"], "kind": where["kind"], "nodes": where["nodes"]}
    row["claim_batch_size"] = where["batch_size"]
    family = _nearest(claim, ledger, families)
    if family is None:
        return row | {"reason": "no cell here is of this network, at its width and with an implementation like its own"}
    network = OfFabric(load_fabric(ledger.hardware[claim.hardware]["fabric"]))
    row |= of_family(family) | {"source": network.source}
    factor = where["batch_size"] / family.key.batch_size
    said = ["another processor than the publication's", *family.said, *network.assumed]
    if factor != 1:
        said.insert(1, f"from batch {family.key.batch_size}: passes, input and spread in proportion")
    row["assumed"] = "; ".join(said)
    try:
        values = _values(claim, Model.of(family, network).of_batch(factor), where)
    except RefusedError as why:
        return row | {"reason": str(why)}
    change = SCALES[claim.scale][0]
    middle, *ends = (change(value) for value in values)
    low, high = (None, None) if any(map(math.isnan, ends)) else (min(ends), max(ends))
    return row | {"projected": middle, "range_low": low, "range_high": high, "error": middle / row["paper"] - 1}


def _nearest(claim: Claim, ledger: Ledger, families: Sequence[Family]) -> Family | None:
    """The family like the claim's: of its data set before others, of its batch size, else of the largest."""
    where = claim.expression["of"]["where"]
    alike = [
        family for family in families
        if (family.key.model, family.key.kind) == (where["model"], where["kind"])
        and family.implementation in ledger.sides["judged"][family.key.kind]
    ]  # fmt: skip
    return max(
        alike,
        key=lambda family: (
            family.key.dataset == where.get("dataset"), family.key.batch_size == where["batch_size"],
            family.key.batch_size, family.key,
        ),
        default=None,
    )  # fmt: skip


def _values(claim: Claim, model: Model, where: Any) -> list[float]:
    """As measured, not as printed: by the model, and at both ends of what is assumed."""
    step = model.step(where["nodes"])
    seconds = [step.parts.total, step.low, step.high]
    if claim.work is None:
        base = model.step(model.base.nodes).parts.total
        return [base / each for each in seconds]
    steps = claim.work["epochs"] * claim.work["examples"] / (where["batch_size"] * where["nodes"] * model.per_node)
    return [steps * each for each in seconds]
