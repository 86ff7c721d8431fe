"""What `campaign project cells` does: reads a site's records, writes projected steps, says up to where they scale."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bnn.errors import UserError
from bnn.records.columns import write_table
from campaign.io.files import os_errors_named
from campaign.io.schema import did_you_mean
from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.projection.cells import MOST_NODES, POWERS, Projection
from campaign.results.projection.fabrics import BUILT_IN, load_fabric
from campaign.results.projection.families import Family, families
from campaign.results.projection.networks import OfCurve, OfFabric
from campaign.results.projection.read import read_curves
from campaign.results.projection.target import Answer
from campaign.results.tables.cells import LoadedCell
from campaign.results.tables.projection_schemas import EFFICIENCY_PROJECTION, LOSSES
from campaign.tell.projection import whole_numbers

NODES = ",".join(map(str, POWERS))  # what is asked for without --nodes


@dataclass(frozen=True)
class Question:
    """What is asked: of a fabric by name, or of a curve of measured allreduces."""

    nodes: list[int]
    fabric: str | None = None
    fabrics: Path = BUILT_IN
    allreduce: Path | None = None
    node: str | None = None
    library: str | None = None
    target: float | None = None
    elsewhere: bool = False  # whether the cells ran on another network than this one


@dataclass(frozen=True)
class Told:
    """Rows of EFFICIENCY_PROJECTION, answers by family (none without a target), and what there is to say."""

    rows: pd.DataFrame
    answers: list[tuple[Family, Answer | str]]
    said: list[str]


def project_cells(layout: Layout, question: Question, out: Path) -> Told:
    """Write EFFICIENCY_PROJECTION to `out`. Raises UserError where an option or a record cannot be used."""
    if layout.root.resolve() in out.resolve().parents:
        raise UserError(
            f"{out}: --out: what is in {layout.root} is the campaign's own; what is projected by hand lies elsewhere"
        )
    if question.allreduce is not None and out.resolve() == question.allreduce.resolve():
        raise UserError(f"{out}: --out is the file of measurements itself")
    if question.target is not None and not 0 < question.target < 1:
        raise UserError(f"--target-efficiency: {question.target:g} is not between 0 and 1")
    if (question.fabric is None) == (question.allreduce is None):
        raise UserError("a network is needed: --fabric NAME or --allreduce FILE, and only one of them")
    network: OfFabric | None = None
    if question.fabric is not None:
        network = OfFabric(load_fabric(question.fabric, question.fabrics))
    plan = read_plan(layout.plan)
    found, said = families(LoadedCell(entry, layout.results) for entry in plan["cells"])
    if not found:
        raise UserError(f"{layout.plan}: no cell of it is there to project from" + (f" ({said[0]})" if said else ""))
    projection = Projection(found, network or _curve(question, found), question.elsewhere)
    frame = pd.DataFrame(projection.rows(question.nodes), columns=EFFICIENCY_PROJECTION.names)
    with os_errors_named(out):
        write_table(frame, out, EFFICIENCY_PROJECTION)
    answers = [] if question.target is None else projection.answers(question.target, question.nodes)
    refused = int(frame["step_seconds"].isna().sum())
    said.append(f"{out}: {len(frame)} points of {len(found)} families, {refused} refused; {projection.network.source}")
    return Told(frame, answers, said)


def _curve(question: Question, found: Sequence[Family]) -> OfCurve:
    """The one curve of the file that --node and --library leave."""
    assert question.allreduce is not None
    curves = read_curves(question.allreduce)
    left = [
        curve for curve in curves
        if question.node in (None, curve.node) and question.library in (None, curve.library)
    ]  # fmt: skip
    if len(left) != 1:
        names = ", ".join(f"{curve.node} {curve.library}" for curve in left or curves)
        how = "no" if not left else "more than one"
        near = did_you_mean(question.node, {c.node for c in curves}) if question.node and not left else ""
        raise UserError(f"{question.allreduce}: {how} curve by --node and --library (of: {names}){near}")
    ranks = sorted({nodes * family.per_node for family in found for nodes in question.nodes})
    return OfCurve(left[0], [curve for curve in curves if curve is not left[0]], ranks)


def as_json(told: Told, target: float | None) -> str:
    """Rows as they are in the table, and the answers to the target."""
    rows = json.loads(told.rows.to_json(orient="records"))
    answers = []
    for family, found in told.answers:
        entry: dict[str, Any] = {**family.key._asdict(), "target_efficiency": target}
        if isinstance(found, str):
            answers.append(entry | {"reason": found})
            continue
        changes = {what: _limit(limit.nodes, limit.open, limit.why) for what, limit in found.changes}
        answers.append(
            entry
            | _limit(found.limit.nodes, found.limit.open, found.limit.why)
            | {"efficiency": None if math.isnan(found.efficiency) else found.efficiency, "limit": found.largest}
            | {"worst": _limit(found.worst.nodes, found.worst.open, found.worst.why)}
            | {"best": _limit(found.best.nodes, found.best.open, found.best.why), "changes": changes}
        )
    return json.dumps({"rows": rows, "answers": answers}, indent=1)


def _limit(nodes: int, still_met: bool, why: str) -> dict[str, Any]:
    return {"nodes": nodes or None, "at_least": still_met, "why": why}


def answer_lines(family: Family, found: Answer | str, target: float) -> list[str]:
    """The answer to a target in words."""
    if isinstance(found, str):
        return [f"{family.key}: {found}"]
    first = f"{family.key}: efficiency {target:g} up to {found.limit.words()} nodes"
    if found.limit.why:
        first = f"{family.key}: efficiency {target:g}: {found.limit.why}"
    else:
        first += f" ({found.efficiency:.3f} there; {found.worst.words()} to {found.best.words()} by what is assumed)"
    if found.largest:
        first += f"; limit: {LOSSES[found.largest]}"
    by_words: dict[str, list[str]] = {}
    for what, limit in found.changes:
        by_words.setdefault(limit.why or what, []).append(what)
    words = dict(found.changes)
    return [first, *(f"  {', '.join(names)}: {words[names[0]].words()}" for names in by_words.values())]


def counts(text: str) -> list[int]:
    """Numbers of nodes of an option. Raises UserError for what is no list of different whole numbers."""
    found = whole_numbers(text, "--nodes", "number of nodes")
    if found[-1] > MOST_NODES:
        raise UserError(f"--nodes: {found[-1]} is more than {MOST_NODES}, the most that the model is made for")
    return found
