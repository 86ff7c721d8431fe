"""What cells come to on networks and at scales that were not run: the report's part on projections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from campaign.results.figures.projection import network_name
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import number, printed, span
from campaign.results.tables.projection_schemas import LOSSES

Row = dict[str, Any]
FAMILY = ["dataset", "model", "variant", "batch_size", "kind"]
# A projection has no verdict of a cell's kind, and its ranks are none that a reader can choose.
NOT_FACETS = ("verdict", "ranks")
COLUMNS = (
    Column("network", "network", "source"), Column("data set", "dataset", "dataset"), Column("model", "model", "model"),
    Column("kind", "kind", "kind"), Column("implementation", "implementation", "implementation"),
    Column("batch", "batch", "batch_size", "n"), Column("variant", "variant", "variant"),
    Column("N", "nodes", "nodes", "n", "Nodes that this is projected to."),
    Column("step (s)", "step", "step_seconds", "n", "Projected wall time of a step."),
    Column("95% interval", "interval", "low high", "n", "Prediction interval, by scales that were held out; - where "
           "fewer than three were measured on that network."),
    Column("range", "range", "range_low range_high", "n", "At both ends of what is assumed: no interval."),
    Column("samples/s", "throughput", "throughput", "n"),
    Column("efficiency", "efficiency", "efficiency", "n strong", "T1/(N TN), to the smallest measured scale."),
    Column("largest loss", "limit", "limit"), Column("standing", "standing", "", "wide"),
    Column("assumed", "assumed", "assumed", "wide"),
)  # fmt: skip
CLAIM_COLUMNS = (
    Column("claim", "statement", "statement", "wide"),
    Column("printed", "paper", "paper", "n", "What the publication prints, on its scale."),
    Column("projected", "projected", "projected", "n strong", "From cells of this site, on the publication's network."),
    Column("range", "range", "range_low range_high", "n", "At both ends of what is assumed: no interval."),
    Column("error", "error", "error", "n", "Projected / printed - 1."),
    Column("from", "cells", "", "wide"), Column("assumed", "assumed", "assumed", "wide"),
    Column("reason", "reason", "reason", "wide"),
)  # fmt: skip


def projection_section(tables: Mapping[str, pd.DataFrame], fold: Callable[[Row], Row]) -> Row | None:
    """A sentence per family and network, and all points; None where the site names no network."""
    rows = tables.get("efficiency_projection")
    if rows is None or rows.empty:
        return None
    limits = tables["projection_limits"]
    networks = [
        {"name": network_name(str(source)), "sentences": [sentence(family) for _, family in _families(here)]}
        for source, here in limits.groupby("source", sort=False)
    ]
    made = [_point(row) for row in rows.to_dict("records")]
    return {"networks": networks, "table": fold(grid("projection-table", "Projected steps", COLUMNS, made))}


def _families(rows: pd.DataFrame) -> Any:
    ordered = rows.sort_values(FAMILY, ascending=[False, False, True, True, True], kind="stable")
    return ordered.groupby(FAMILY, sort=False)


def sentence(rows: pd.DataFrame) -> str:
    """Up to how many nodes a family has the target efficiency, what is lost beyond, and what would move that."""
    asked = rows[rows["change"] == ""].iloc[0]
    what = f"{asked['model']}, {asked['implementation']}, {asked['dataset']}, batch {asked['batch_size']}"
    if pd.isna(asked["nodes"]):
        return f"{what}: {asked['reason']}."
    nodes = f"{_nodes(asked)} node{'' if asked['nodes'] == 1 else 's'}"
    said = f"{what}: efficiency {number(asked['target_efficiency'])} up to {nodes}"
    ends = [int(asked[name]) for name in ("worst_nodes", "best_nodes") if not pd.isna(asked[name])]
    if len(set(ends)) == 2:
        said += f" ({ends[0]:,} to {ends[1]:,} by what is assumed)"
    if asked["limit"]:
        said += f"; most is lost {'there' if asked['at_least'] else 'beyond'} by {LOSSES[asked['limit']]}"
    if asked["reason"]:
        said += f"; {asked['reason']}"
    if asked["at_least"]:
        return f"{said}."
    changes = [
        f"{row['change']}: {_nodes(row)}" for _, row in rows[rows["change"] != ""].iterrows() if pd.notna(row["nodes"])
    ]
    return f"{said}. {'With ' + '; with '.join(changes) + '.' if changes else ''}".rstrip()


def _nodes(row: pd.Series) -> str:
    return f"{'at least ' if row['at_least'] else ''}{int(row['nodes']):,}"


def _point(row: Mapping[str, Any]) -> Row:
    return {
        "record": {name: value for name, value in row.items() if name not in NOT_FACETS},
        "network": network_name(row["source"]), "dataset": row["dataset"], "model": row["model"], "kind": row["kind"],
        "implementation": row["implementation"], "batch": row["batch_size"], "variant": row["variant"],
        "nodes": row["nodes"], "step": number(row["step_seconds"]), "interval": span(row["low"], row["high"]),
        "range": span(row["range_low"], row["range_high"]), "throughput": number(row["throughput"]),
        "efficiency": number(row["efficiency"]), "limit": LOSSES.get(row["limit"], ""), "standing": row["verdict"],
        "assumed": row["assumed"],
    }  # fmt: skip


def projected_claims(tables: Mapping[str, pd.DataFrame]) -> Row | None:
    """Numbers that the publication prints at scales not run here, beside what is projected; None without any."""
    rows = tables.get("projection_claims")
    if rows is None or rows.empty:
        return None
    made = [_claim(row) for row in rows.to_dict("records")]
    return grid("projection-claims-table", "Printed and projected", CLAIM_COLUMNS, made)


def _claim(row: Mapping[str, Any]) -> Row:
    known = not math.isnan(row["projected"])
    unit = f" {row['unit']}" if row["unit"] else ""
    cells = f"{row['implementation']}, {row['dataset']}, batch {row['batch_size']}, {row['variant']}" if known else ""
    return {
        "record": row, "statement": row["statement"], "paper": printed(row["paper"]) + unit,
        "projected": number(row["projected"]) + (unit if known else ""),
        "range": span(row["range_low"], row["range_high"]), "error": f"{100 * row['error']:+.0f}%" if known else "",
        "cells": cells, "assumed": row["assumed"], "reason": row["reason"],
    }  # fmt: skip
