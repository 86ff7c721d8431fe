"""Made-up ledgers and cells for tests of claims."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from campaign.results.claims.ledger import LEDGER, Claim, Ledger
from campaign.results.tables.build import frame
from campaign.results.tables.schemas import CELLS

OF = {"table": "cells", "column": "throughput_steady", "where": {"kind": "bnn"}}
TO = {"table": "cells", "column": "throughput_steady", "where": {"kind": "cnn"}}


def claim(**changes: Any) -> Claim:
    """A ratio of BNN to CNN throughput that is printed as 0.50, with a margin of 10%."""
    given: dict[str, Any] = {
        "id": "half", "section": "1", "at": "text", "statement": "Half.", "type": "ratio", "scope": "ratio",
        "hardware": "big", "definition": "steady throughput", "printed": {"value": "0.50"},
        "expression": {"function": "ratio", "of": OF, "to": TO}, "margin": 0.1, "margin_reason": "a tenth",
        "command": "run it",
    }  # fmt: skip
    return Claim(**(given | changes))


def content() -> dict[str, Any]:
    """A ledger's content of that one claim."""
    head = yaml.safe_load(LEDGER.read_text())
    head["hardware"] = {"big": {"name": "a big machine", "sites": ["big"]}}
    entry = {key: value for key, value in vars(claim()).items() if value and key not in ("bound", "scale")}
    return {**head, "claims": [entry]}


def cell(kind: str, repeat: int, throughput: float, **more: Any) -> dict[str, Any]:
    """A row of table `cells`."""
    sides = {"bnn": "bnn-flipout-reference", "cnn": "cnn-plain"}
    row: dict[str, Any] = dict.fromkeys(CELLS.names)
    row |= {
        "site": "toy", "dataset": "synthetic", "model": "vgg16", "kind": kind, "nodes": 1, "batch_size": 16,
        "variant": "reference", "repeat": repeat, "implementation": sides[kind], "width": 1.0, "verdict": "OK",
        "counted": True, "throughput_steady": throughput,
    }  # fmt: skip
    return row | more


def cells(*rows: dict[str, Any]) -> dict[str, pd.DataFrame]:
    return {"cells": frame(list(rows), CELLS)}


def ledger(**more: Any) -> Ledger:
    """A ledger of that claim, judged on implementations like the paper's."""
    sides = {"variant": "reference", "bnn": ["bnn-flipout-reference"], "cnn": ["cnn-plain"]}
    beside = {"variant": "base", "bnn": ["bnn-flipout"], "cnn": ["cnn"]}
    given: dict[str, Any] = {
        "name": "toy", "title": "toy", "sha256": "0" * 64, "hardware": {"big": {"name": "big", "sites": ["big"]}},
        "everywhere": {"width": 1.0}, "sides": {"judged": sides, "beside": beside}, "claims": (claim(),),
    }  # fmt: skip
    return Ledger(**(given | more))
