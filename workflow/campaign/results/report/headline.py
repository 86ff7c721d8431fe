"""The report's numbers in front: BNN against CNN, scaling, time to accuracy. Rows of text for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from campaign.results.figures.catalogue import ACCURACY, LARGE_BATCH, SCALING
from campaign.results.report import published
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH, number, span
from campaign.results.statistics import NO_INTERVAL, paired

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, "pd.DataFrame"]
Row = dict[str, Any]
VERDICTS = ("OK", "WARN", "INVALID")  # from best to worst

VARIANT = Column("variant", "variant", "variant")
MODEL, DATASET = Column("model", "model", "model"), Column("data set", "dataset", "dataset")
NODES = Column("N", "nodes", "nodes", "n", "Number of nodes.")
BATCH = Column("batch per rank", "batch", "batch_size", "n", "Training examples per rank and step; fixed as N grows.")
INTERVAL = "95% over repeats that ran side by side; with one repeat there is none."
RATIO_COLUMNS = (
    MODEL, DATASET, VARIANT, NODES, BATCH, Column("width", "width", "width", "n",
           "Factor on every hidden layer's channels; 1 is the paper's model."),
    Column("BNN / CNN", "sides", look="tight", meaning="The implementations that are compared."),
    Column("BNN step (s)", "bnn", "bnn_step_seconds", "n", "Time from a steady step to the next."),
    Column("CNN step (s)", "cnn", "cnn_step_seconds", "n", "Time from a steady step to the next."),
    Column("ratio", "ratio", "ratio", "n strong", "Step time of the BNN over that of the CNN, paired by repeat."),
    Column("95% interval", "interval", "ratio_low ratio_high", "n", INTERVAL),
    Column("pairs", "pairs", "pairs", "n", "Repeats that count on both sides."),
    Column("verdict", "verdict", "verdict", "verdict", beside="reason"),
    Column("published", "published", look="published",
           meaning=f"{published.TIME_RATIO:g} in the paper's {published.TIME_RATIO_SECTION}, for the time of 64 epochs "
           f"overall ({published.MACHINE}); only beside plain Flipout against a plain CNN."),
)  # fmt: skip
EFFICIENCY_COLUMNS = (
    MODEL, DATASET, VARIANT, Column("implementation", "implementation", "implementation"), BATCH, NODES,
    Column("from steady throughput", "steady", "efficiency_steady", "n strong",
           "T1 / (N TN) against the same cell on one node; T is the time of an epoch from steady throughput."),
    Column("95% interval", "interval", "steady_low steady_high", "n", INTERVAL),
    Column("from total time", "total", "efficiency_total", "n",
           "T1 / (N TN), T being the whole run with its start-up (the paper's); only where both did the same epochs."),
    Column("verdict", "verdict", "verdict", "verdict"),
    Column("published", "published", look="published",
           meaning=f'What the paper\'s section 4.1 prints as "computation speed-up" at {published.SPEEDUP_NODES} '
           "ranks; only beside points of that size, of plain Flipout on these images."),
)  # fmt: skip
ACCURACY_COLUMNS = (
    MODEL, DATASET, VARIANT, BATCH, NODES, Column("BNN / CNN", "sides", look="tight", meaning="The implementations."),
    Column("accuracy", "target", look="n", meaning="Training accuracy to reach."),
    Column("definition", "definition", meaning="running: mean since the first step (the paper's); epoch: mean of an "
           "epoch."),
    Column("BNN", "bnn", look="n", meaning="Training time without start-up, geometric mean over repeats."),
    Column("CNN", "cnn", look="n", meaning="Training time without start-up, geometric mean over repeats."),
    Column("ratio", "ratio", look="n", meaning="BNN over CNN, paired by repeat, where all repeats of both get there."),
    Column("95% interval", "interval", look="n", meaning=INTERVAL),
    Column("published", "published", look="published",
           meaning=f"The ratio in the paper's section 4.2, VGG-16, batch 256 ({published.MACHINE}); only beside plain "
           "Flipout against a plain CNN on these images."),
)  # fmt: skip


def ratio_table(tables: Tables) -> Row:
    """BNN / CNN step-time ratios."""
    return grid("ratios-table", "Step time of the BNN over that of the CNN", RATIO_COLUMNS, ratio_rows(tables))


def efficiency_table(tables: Tables) -> Row:
    """Scaling efficiency of every family of points at its most nodes."""
    return grid("efficiencies-table", "Scaling efficiency", EFFICIENCY_COLUMNS, efficiency_rows(tables))


def accuracy_table(tables: Tables) -> Row:
    """Time to training accuracy."""
    return grid("accuracy-table", "Time to training accuracy", ACCURACY_COLUMNS, accuracy_rows(tables))


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
        like_paper = sides == published.SIDES and SCALING in row["roles"].split(",")
        rows.append(
            {
                "record": row, "variant": row["variant"],
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
        comparable &= last["dataset"] in published.DATASETS and last["implementation"] in published.SIDES
        rows.append(
            {
                "record": last, "variant": last["variant"], "model": last["model"], "dataset": last["dataset"],
                "implementation": last["implementation"],
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
    for (dataset, model, variant, batch, nodes, target, definition), group in serving(table, ACCURACY).groupby(keys):
        records = group.to_dict("records")
        sides = {kind: [record for record in records if record["kind"] == kind] for kind in ("bnn", "cnn")}
        times = {k: {each["repeat"]: each["seconds"] for each in side if each["reached"]} for k, side in sides.items()}
        # (of some repeats that get there and some that do not, the fast ones alone would be compared)
        interval = paired(times["bnn"], times["cnn"]) if all(each["reached"] for each in records) else NO_INTERVAL
        names = tuple(side[0]["implementation"] if side else DASH for side in sides.values())
        known = published.ACCURACY_TIME_RATIO.get((int(nodes), float(target)))
        like_paper = names == published.SIDES and dataset in published.DATASETS
        like_paper &= (model, batch, definition) == ("vgg16", published.ACCURACY_BATCH, "running")
        rows.append(
            {
                "record": records[0], "records": records, "variant": variant, "sides": " / ".join(names),
                "model": model, "dataset": dataset, "batch": batch, "nodes": nodes, "target": f"{target:g}",
                "definition": definition, **{k: _times(times[k], sides[k]) for k in sides},
                "ratio": number(interval.value), "interval": span(interval.low, interval.high),
                "published": number(known) if like_paper else DASH,
            }
        )  # fmt: skip
    return rows


def _times(times: Mapping[int, float], side: Sequence[Row]) -> str:
    """Geometric mean in seconds with how many repeats arrived."""
    if not side:
        return "not run"
    best = max((each["best"] for each in side if not math.isnan(each["best"])), default=math.nan)
    if not times and math.isnan(best):
        return "no epoch completed"
    if not times:
        return f"not reached (highest {best:.3f})"
    centre = paired(times, dict.fromkeys(times, 1.0)).value
    missing = len(side) - len(times)
    return f"{number(centre)} s" + (f" ({missing} of {len(side)} not reached)" if missing else "")
