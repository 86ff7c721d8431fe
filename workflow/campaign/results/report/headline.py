"""The report's numbers in front: BNN against CNN, scaling, accuracy, parameters. Rows of text for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnn.models.describe import INPUT_SHAPES, describe
from campaign.results.figures.catalogue import ACCURACY, LARGE_BATCH, SCALING
from campaign.results.report import published
from campaign.results.report.words import DASH, mebibytes, number, percent, span
from campaign.results.statistics import paired
from campaign.results.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, "pd.DataFrame"]
Row = dict[str, Any]
VERDICTS = ("OK", "WARN", "INVALID")  # from best to worst


def serving(table: pd.DataFrame, *roles: str) -> pd.DataFrame:
    """Rows that serve one of the roles."""
    import pandas as pd

    chosen = [bool(set(roles) & set(found.split(","))) for found in table["roles"]]
    return table[pd.Series(chosen, table.index, dtype=bool)]


def ratio_rows(tables: Tables) -> list[Row]:
    """BNN / CNN step-time ratios, both sides named; the paper's stands only where its implementations were run."""
    rows = []
    table = serving(tables["ratios"], SCALING, LARGE_BATCH)
    order = ["dataset", "model", "variant", "nodes", "batch_size"]
    for _, row in table.sort_values(order, ascending=[False, False, True, True, True]).iterrows():
        sides = (row["bnn_implementation"], row["cnn_implementation"])
        like_paper = sides == published.TIME_RATIO_SIDES and SCALING in row["roles"].split(",")
        rows.append(
            {
                "model": row["model"], "dataset": row["dataset"], "nodes": row["nodes"], "batch": row["batch_size"],
                "sides": f"{sides[0]} / {sides[1]}", "width": number(row["width"]),
                "bnn": number(row["bnn_step_seconds"]), "cnn": number(row["cnn_step_seconds"]),
                "ratio": number(row["ratio"]), "interval": span(row["ratio_low"], row["ratio_high"]),
                "pairs": row["pairs"], "verdict": row["verdict"], "reason": row["reason"],
                "published": f"{published.TIME_RATIO:g}" if like_paper else DASH,
            }
        )  # fmt: skip
    return rows


def cards(tables: Tables) -> list[Row]:
    """A few numbers in large print: for each network the step-time ratio of the point that was measured best."""
    made: list[Row] = []
    ratios = serving(tables["ratios"], SCALING).dropna(subset=["ratio"])
    for (model, bnn, cnn), rows in ratios.groupby(["model", "bnn_implementation", "cnn_implementation"], sort=False):
        best = best_measured(rows)
        interval = f"95% interval {span(best['ratio_low'], best['ratio_high'])}, {best['pairs']} pairs"
        others = f", the best measured of {len(rows)} points" if len(rows) > 1 else ""
        made.append(
            {
                "value": f"{number(best['ratio'])}×",
                "label": f"{model}: step time of {bnn} over {cnn}",
                "verdict": best["verdict"],
                "detail": f"N = {best['nodes']}, batch {best['batch_size']}{others}; {interval}",
            }
        )
    return sorted(made, key=lambda card: card["label"], reverse=True)


def best_measured(rows: pd.DataFrame) -> pd.Series:
    """Of ratios of the same sides, the one to trust most.

    OK comes before WARN, then whichever has an interval, more pairs of repeats, and the narrower interval (high / low);
    of alike ones the one with the most nodes and the largest batch.
    """

    def trust(index: Any) -> tuple[float, ...]:
        row = rows.loc[index]
        width = row["ratio_high"] / row["ratio_low"]
        known = math.isfinite(width)
        return (
            VERDICTS.index(row["verdict"]) if row["verdict"] in VERDICTS else len(VERDICTS),
            not known, -row["pairs"], width if known else 0.0, -row["nodes"], -row["batch_size"],
        )  # fmt: skip

    return rows.loc[min(rows.index, key=trust)]


def efficiency_rows(tables: Tables) -> list[Row]:
    """Scaling efficiency of every family of points at its most nodes."""
    rows = []
    table = serving(tables["scaling"], SCALING, LARGE_BATCH)
    order = ["dataset", "model", "variant", "batch_size", "kind"]
    table = table.sort_values(order, ascending=[False, False, True, True, True])
    for _, family in table.groupby(order, sort=False):
        last = family.sort_values("nodes").iloc[-1]
        key = (last["model"], last["kind"])
        comparable = last["nodes"] == published.SPEEDUP_NODES and SCALING in last["roles"].split(",")
        rows.append(
            {
                "model": last["model"], "dataset": last["dataset"], "implementation": last["implementation"],
                "batch": last["batch_size"], "nodes": last["nodes"],
                "steady": number(last["efficiency_steady"]), "interval": span(last["steady_low"], last["steady_high"]),
                "total": number(last["efficiency_total"]), "verdict": last["verdict"],
                "published": number(published.SPEEDUP.get(key)) if comparable else DASH,
            }
        )  # fmt: skip
    return rows


def gaps(tables: Tables) -> list[str]:
    """Why scaling efficiencies are missing, each definition and reason once."""
    table = serving(tables["scaling"], SCALING, LARGE_BATCH)
    found = []
    for words, column in (("from steady throughput", "reason_steady"), ("from total time", "reason_total")):
        found += [f"{words}: {reason}" for reason in sorted(set(table[column])) if reason]
    return found


def accuracy_rows(tables: Tables) -> list[Row]:
    """Time to training accuracy of the BNN and the CNN, paired by repeat, in both definitions."""
    table = tables["accuracy"]
    if table.empty:
        return []
    rows = []
    keys = ["dataset", "model", "variant", "batch_size", "nodes", "target", "definition"]
    for (dataset, model, _, batch, nodes, target, definition), group in serving(table, ACCURACY).groupby(keys):
        sides = {kind: group[group["kind"] == kind] for kind in ("bnn", "cnn")}
        times = {k: s[s["reached"]].set_index("repeat")["seconds"].to_dict() for k, s in sides.items()}
        interval = paired(times["bnn"], times["cnn"])
        known = published.ACCURACY_TIME_RATIO.get((int(nodes), float(target)))
        rows.append(
            {
                "model": model, "dataset": dataset, "batch": batch, "nodes": nodes, "target": f"{target:g}",
                "definition": definition, **{k: _times(times[k], sides[k]) for k in sides},
                "ratio": number(interval.value), "interval": span(interval.low, interval.high),
                "published": number(known) if model == "vgg16" and definition == "running" else DASH,
            }
        )  # fmt: skip
    return rows


def _times(times: Mapping[int, float], side: pd.DataFrame) -> str:
    """Geometric mean in seconds with how many repeats arrived."""
    if side.empty:
        return "not run"
    best = side["best"].max()
    if not times and math.isnan(best):
        return "no epoch completed"
    if not times:
        return f"not reached (highest {best:.3f})"
    centre = paired(times, dict.fromkeys(times, 1.0)).value
    missing = len(side) - len(times)
    return f"{number(centre)} s" + (f" ({missing} of {len(side)} not reached)" if missing else "")


def parameter_rows(tables: Tables) -> list[Row]:
    """Parameters of the paper's models: printed, as described here, and as counted in the cells that ran them."""
    cells = tables["cells"]
    rows = []
    for (model, kind), (total, trainable) in published.PARAMETERS.items():
        ours = describe(model, kind, INPUT_SHAPES[model], 10, 1.0)
        ran = cells[(cells["model"] == model) & (cells["kind"] == kind) & (cells["width"] == 1)]
        counted = sorted({int(n) for n in ran["parameters_total"].dropna()})
        rows.append(
            {
                "model": model, "kind": kind, "total": f"{total:,}", "trainable": f"{trainable:,}",
                "ours": f"{ours.parameters:,}", "ours_trainable": f"{ours.trainable:,}",
                "ran": ", ".join(f"{n:,}" for n in counted) or DASH,
                "agrees": (ours.parameters, ours.trainable) == (total, trainable),
            }
        )  # fmt: skip
    return rows


def anchor(cell: Mapping[str, Any] | pd.Series) -> str:
    """The id of a cell's row on the page."""
    return "cell-" + "-".join(str(cell[key]) for key in IDENTITY_KEYS)


def cell_rows(tables: Tables) -> list[Row]:
    """Every cell of the plan, whatever became of it."""
    rows = []
    for _, cell in tables["cells"].iterrows():
        std = "" if number(cell["throughput_steady_std"]) == DASH else f" ± {number(cell['throughput_steady_std'], 2)}"
        accuracy = cell["held_out_accuracy"]
        rows.append(
            {
                "anchor": anchor(cell),
                "verdict": cell["verdict"], "reasons": cell["reasons"], "dataset": cell["dataset"],
                "model": cell["model"], "implementation": cell["implementation"],
                "nodes": cell["nodes"], "batch": cell["batch_size"],
                "variant": cell["variant"], "repeat": cell["repeat"], "engine": cell["engine"],
                "steady": number(cell["throughput_steady"]) + std, "paper": number(cell["throughput_paper"]),
                "variation": percent(cell["coefficient_of_variation"]), "others": number(cell["foreign_cores"], 2),
                "step": number(cell["step_seconds"]),
                "exchange": number(cell["seconds_exchange"], 2), "steps": number(cell["steps"]),
                "startup": number(cell["seconds_startup"]), "total": number(cell["seconds_total"]),
                "memory": mebibytes(cell["peak_memory_bytes"]), "accuracy": percent(accuracy), "folder": cell["folder"],
            }
        )  # fmt: skip
    return rows
