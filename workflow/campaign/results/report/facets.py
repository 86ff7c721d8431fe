"""What a reader filters by: attributes of table rows, of series in figures and of claims, and the choices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import pandas as pd

# Facet -> its words. Those of a record are its columns of the same name; `claim` is the verdict of a claim.
FACETS = {
    "dataset": "data set",
    "model": "model",
    "kind": "kind",
    "variant": "variant",
    "ranks": "ranks",
    "verdict": "verdict",
    "claim": "claims",
}
OF_CELLS = tuple(name for name in FACETS if name != "claim")
KINDS = ("bnn", "cnn")
VERDICTS = ("OK", "WARN", "INVALID", "MISSING")


def facets(records: Iterable[Mapping[str, Any]], claim: str = "") -> dict[str, str]:
    """Attributes (data-FACET) of what rests on these records of tables: tokens of all their values.

    What has no value of a facet has no such attribute, and no choice of that facet hides it. A record that compares
    the kinds is of both. The ranks of a job after training are those of its training.
    """
    values: dict[str, dict[str, None]] = {name: {} for name in OF_CELLS}
    for record in records:
        for name in OF_CELLS:
            for value in _values(record, name):
                values[name][token(value)] = None
    found = {name: " ".join(tokens) for name, tokens in values.items() if tokens}
    return {f"data-{name}": text for name, text in (found | ({"claim": token(claim)} if claim else {})).items()}


def _values(record: Mapping[str, Any], name: str) -> Iterable[Any]:
    if name == "kind" and "kind" not in record and "bnn_implementation" in record:
        return KINDS
    value = record.get("trained_ranks") if name == "ranks" and "trained_ranks" in record else record.get(name)
    known = value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))
    return (value,) if known else ()


def token(value: Any) -> str:
    """A value as one word of an attribute."""
    return quote(f"{value:g}" if isinstance(value, float) else str(value), safe="-_.:+")


def choices(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The filter bar: facets of which the campaign has several values, with `name`, `words` and `options`."""
    cells, claims = tables["cells"], tables.get("claims")
    made = []
    for name, words in FACETS.items():
        if name == "claim":
            values = [] if claims is None else sorted(set(claims["verdict"]))
        elif name == "verdict":
            values = [verdict for verdict in VERDICTS if (cells["verdict"] == verdict).any()]
        else:
            values = sorted(cells[name].dropna().unique())
        if len(values) > 1:
            options = [{"value": token(value), "words": str(value)} for value in values]
            made.append({"name": name, "words": words, "options": options})
    return made
