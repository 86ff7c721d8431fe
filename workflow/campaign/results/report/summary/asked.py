"""What a campaign asks for, by its plan and the table of cells."""

from __future__ import annotations

from collections import Counter
from typing import Any

from campaign.results.report.summary.statement import Statement, Tables, between, count, listed

KINDS = {"bnn": "Bayesian", "cnn": "conventional"}
JOBS = {"infer": ("prediction", ""), "prune": ("pruning sweep", ""), "bench": ("benchmark", "")}


def asked(plan: dict[str, Any], tables: Tables) -> list[Statement]:
    """Cells with their axes, then jobs beside them. What only a target of its own runs does not count."""
    cells = tables["cells"].to_dict("records") if "cells" in tables else _of_all(plan["cells"])
    name, site = str(plan["campaign"]), str(plan["site"].get("title") or plan["site"]["name"])
    if not cells:
        return [Statement(f"Campaign {name} on {site} asks for no cell.", {"cells": 0}), *_beside(plan)]
    axes = {key: sorted({cell[key] for cell in cells}) for key in ("model", "kind", "dataset", "nodes", "batch_size")}
    repeats = Counter(tuple(cell[key] for key in (*axes, "variant")) for cell in cells)  # of each point
    label = str(plan["site"].get("node_label") or "nodes")
    text = (
        f"Campaign {name} on {site} asks for {count(len(cells), 'cell')} (training runs): "
        f"{count(len(axes['model']), 'model')} ({listed(axes['model'])}), "
        f"{listed(KINDS.get(kind, kind) for kind in axes['kind'])}, on {listed(axes['dataset'])}; "
        f"{label}: {listed(axes['nodes'], 8)}; batches of {between(axes['batch_size'])} per rank, "
        f"{between(repeats.values())} {'repeat' if max(repeats.values()) == 1 else 'repeats'} of each of "
        f"{count(len(repeats), 'point')}."
    )
    values = {"campaign": name, "site": str(plan["site"]["name"]), "cells": len(cells), "points": len(repeats)}
    return [
        Statement(text, values | axes | {"repeats": [min(repeats.values()), max(repeats.values())]}),
        *_beside(plan),
    ]


def _of_all(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the target of all figures runs."""
    return [job for job in jobs if not job.get("target")]


def _beside(plan: dict[str, Any]) -> list[Statement]:
    found = {key: len(_of_all(plan.get(key, []))) for key in JOBS}
    words = [count(many, *JOBS[key]) for key, many in found.items() if many]
    return [Statement(f"Besides, it asks for {listed(words)}.", found)] if words else []
