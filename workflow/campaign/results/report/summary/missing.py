"""What a campaign did not measure: figures, points and jobs without a value, each with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from campaign.results.report.headline import gaps
from campaign.results.report.summary.statement import Statement, Tables, count, listed
from campaign.results.tables.bench import MEASURED
from campaign.results.tables.schemas import OF_REPORT

MOST = 6
MOST_REASONS = 3


def missing(tables: Tables, absent: Mapping[str, str]) -> list[Statement]:
    """Sentences on what is not there. `absent`: figures that are not drawn, with the reason."""
    said = [_tables(tables), _points(tables), *_efficiencies(tables), _jobs(tables), _bench(tables), _figures(absent)]
    kept = [each for each in said if each is not None]
    return kept or [Statement("All that this campaign asks for was measured.")]


def _tables(tables: Tables) -> Statement | None:
    names = [name for name in OF_REPORT if name not in tables]
    if not names:
        return None
    return Statement(
        f"{count(len(names), 'table was', 'tables were')} not made: {listed(names, MOST)}.", {"tables": names}
    )


def _points(tables: Tables) -> Statement | None:
    """Points of which no repeat counts."""
    table = tables.get("throughput")
    if table is None or not (table["repeats"] == 0).any():
        return None
    none = table[table["repeats"] == 0]
    names = [
        f"{row['model']} {row['kind']} on {row['nodes']} (batch {row['batch_size']})" for _, row in none.iterrows()
    ]
    text = f"{count(len(none), 'point has', 'points have')} no repeat that counts: {listed(names, MOST)}."
    return Statement(text, {"points": len(none)})


def _efficiencies(tables: Tables) -> list[Statement]:
    if "scaling" not in tables:
        return []
    said = [Statement(f"Scaling efficiencies without a value, {reason}.") for reason in gaps(tables)]
    table = tables.get("efficiencies")
    if table is not None and (reasons := sorted(set(table["reason_split"]) - {""})):
        said.append(Statement(f"Communication is not split into serialization and transfer: {'; '.join(reasons)}."))
    return said


def _jobs(tables: Tables) -> Statement | None:
    """Predictions and pruning sweeps that were planned and are not here."""
    words = {"inference": "prediction", "pruning_summary": "pruning sweep"}
    counts = {name: int((tables[name]["status"] == "MISSING").sum()) for name in words if name in tables}
    found = [count(many, words[name]) for name, many in counts.items() if many]
    return Statement(f"Planned, and not here: {listed(found)}.", counts) if found else None


def _bench(tables: Tables) -> Statement | None:
    runs = tables.get("bench_runs")
    if runs is None or runs.empty or (runs["state"] == MEASURED).all():
        return None
    absent = runs[runs["state"] != MEASURED]
    states = Counter(str(state) for state in absent["state"])
    text = f"{count(len(absent), 'benchmark')} of {len(runs)} against other implementations: {listed(states)}."
    return Statement(text, {"benchmarks": len(absent)})


def _figures(absent: Mapping[str, str]) -> Statement | None:
    if not absent:
        return None
    reasons = list(Counter(absent.values()))
    more = [count(len(reasons) - MOST_REASONS, "other reason")] if len(reasons) > MOST_REASONS else []
    why = "; ".join([*reasons[:MOST_REASONS], *more])
    text = f"{count(len(absent), 'figure is', 'figures are')} not drawn ({listed(absent, MOST)}): {why}."
    return Statement(text, {"figures": list(absent)})
