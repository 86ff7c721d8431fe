"""What limits a campaign's curves at their most nodes, by its efficiencies."""

from __future__ import annotations

from campaign.results.report.efficiencies import limited, sentence
from campaign.results.report.summary.statement import Statement, Tables, absent, count


def limits(tables: Tables) -> list[Statement]:
    """A sentence for each limit: how many curves have it, and the one that it costs most."""
    if absent(tables, "efficiencies"):
        return [Statement("What limits the curves is not known: table efficiencies was not made.")]
    groups = limited(tables)
    total = sum(map(len, groups.values()))
    if not total:
        return [Statement("What limits the curves is not known: no cell serves a figure of scaling.")]
    said = []
    for what, points in groups.items():
        worst = min(points, key=lambda point: (point["global"] != point["global"], point["global"]))
        words = "The curve" if len(points) == 1 else "The lowest"
        text = f"{what}: {len(points)} of {count(total, 'curve')}. {words}: {sentence(worst)}"
        values = {"limit": what, "curves": len(points), "of": total, "lowest_global_efficiency": worst["global"]}
        said.append(Statement(text, values))
    return said
