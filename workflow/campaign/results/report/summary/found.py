"""What a campaign found: the BNN against the CNN at the largest scale, and what became of claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from campaign.results.claims.words import totals
from campaign.results.figures.catalogue import LARGE_BATCH, SCALING
from campaign.results.report.headline import serving
from campaign.results.report.summary.statement import Statement, Tables, absent, count, with_interval

if TYPE_CHECKING:
    import pandas as pd

# Of these a campaign has one curve of ratios per batch size; the largest is told.
CURVE = ["dataset", "model", "variant"]
POINT = [*CURVE, "nodes", "batch_size"]


def found(tables: Tables) -> list[Statement]:
    """A sentence per pair of implementations, at its most nodes and largest batch there; then the claims."""
    if missing := absent(tables, "ratios", "scaling"):
        said = [Statement(f"BNN and CNN are not compared here: table {missing[0]} was not made.")]
    else:
        said = _comparisons(tables)
    return [*said, *_claims(tables)]


def _comparisons(tables: Tables) -> list[Statement]:
    table = serving(tables["ratios"], SCALING, LARGE_BATCH)
    if table.empty:
        return [Statement("No BNN was run beside a CNN of the same point, so there is no ratio between them.")]
    rows = []
    order = table.sort_values([*CURVE, "nodes", "batch_size"], ascending=[False, False, True, True, True])
    for _, curve in order.groupby(CURVE, sort=False):
        rows.append(_comparison(curve.iloc[-1], tables["scaling"]))
    return rows


def _comparison(point: pd.Series, scaling: pd.DataFrame) -> Statement:
    """Throughput of the BNN over that of the CNN: the reciprocal of the ratio of their step times."""
    nodes = int(point["nodes"])
    where = (
        f"{point['model']} on {point['dataset']}, {count(nodes, 'node')}, batch {point['batch_size']} per rank "
        f"(variant {point['variant']})"
    )
    values: dict[str, Any] = {key: point[key] for key in POINT} | {"verdict": point["verdict"]}
    if math.isnan(point["ratio"]):
        return Statement(f"{where}: BNN and CNN are not compared: {point['reason']}.", values)
    ratio, low, high = (1 / point[name] for name in ("ratio", "ratio_high", "ratio_low"))
    values |= {"throughput_ratio": ratio, "throughput_ratio_low": low, "throughput_ratio_high": high}
    values |= {"pairs": int(point["pairs"])}
    text = (
        f"{where}: {point['bnn_implementation']} trains {with_interval(ratio, low, high)} times as many images per "
        f"second as {point['cnn_implementation']}, by {count(int(point['pairs']), 'pair')} of repeats"
        f"{_against_one(low, high)}"
    )
    text += ", with a warning" if point["verdict"] == "WARN" else ""
    if nodes == 1:
        return Statement(f"{text}.", values)
    said, more = _efficiencies(point, scaling)
    return Statement(f"{text}. {said}", values | more)


def _against_one(low: float, high: float) -> str:
    if math.isnan(low):
        return ""
    return ", which do not tell them apart" if low <= 1 <= high else ""


def _efficiencies(point: pd.Series, scaling: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """Scaling efficiency of both sides against their own baseline, from steady throughput."""
    here = scaling[(scaling[POINT] == point[POINT]).all(axis=1)]
    words: list[str] = []
    values: dict[str, Any] = {}
    for kind in ("bnn", "cnn"):
        side = here[here["kind"] == kind]
        if side.empty:
            continue
        row = side.iloc[0]
        names = ("efficiency_steady", "steady_low", "steady_high")
        values |= {f"{kind}_{name}": row[name] for name in names}
        known = not math.isnan(row["efficiency_steady"])
        said = with_interval(*row[list(names)]) if known else f"not known ({row['reason_steady']})"
        words.append(f"{said} of the {kind.upper()}")
        baseline = row["baseline_nodes"]
        values |= {"baseline_nodes": baseline}
    if not words:
        return "Its scaling efficiency is not known: table scaling has no row of it.", values
    return f"Scaling efficiency against one node: {' and '.join(words)}.", values


def _claims(tables: Tables) -> list[Statement]:
    claims = tables.get("claims")
    if claims is None or claims.empty:
        return [Statement("No ledger of claims was judged.")]
    counts = {str(verdict): int(many) for verdict, many in claims["verdict"].value_counts().items()}
    ledger = claims["ledger"].iloc[0]
    text = f"Of {count(len(claims), 'claim')} in the ledger {ledger}: {totals(counts)}."
    return [Statement(text, {"claims": len(claims), "verdicts": counts})]
