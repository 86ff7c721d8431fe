"""Methods side by side on the page: what each costs and buys, and which are worth their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campaign.results.figures.method_data import POINT_KEYS, clean, named, point_title
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH, number, percent, span, text

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
COST, NLL = "cost", "nll"


def _measured(label: str, name: str, meaning: str) -> Column:
    return Column(label, name, f"{name} {name}_low {name}_high", "n", f"{meaning} In brackets: 95% over repeats.")


COLUMNS = (
    Column("verdict", "verdict", "verdict", "verdict"), Column("method", "method", "method"),
    Column("shift", "shift", "shift", meaning="What was done to the images, as kind:severity."),
    _measured("cost", "cost", "Time of a steady training step in that of a conventional network timed in the same "
              "campaign (baseline), paired by repeat."),
    _measured("NLL (nats)", "nll", "Negative log likelihood per held-out image."),
    _measured("ECE", "calibration_error", "Expected calibration error: mean over images of their bin's |accuracy - "
              "confidence|."),
    _measured("debiased", "calibration_error_debiased", "Root mean square calibration error without what chance adds."),
    _measured("Brier", "brier", "Squared distance of predicted probabilities from the truth."),
    Column("accuracy", "accuracy", "accuracy", "n"),
    _measured("AURC", "aurc", "Area under risk against coverage."),
    _measured("s to NLL", "seconds_to_nll", "Training time until the NLL on held-out images was first measured at the "
              "campaign's nll_target or below, in all repeats."),
    Column("that NLL", "nll_target", "nll_target", "n"),
    Column("other data set", "ood", "ood"),
    _measured("AUROC", "ood_auroc_entropy", "Of telling the other data set's images apart by predictive entropy."),
    _measured("s per image", "seconds_per_image", "Of all draws."),
    Column("draws", "draws", "draws", "n"), Column("images", "images", "images", "n"),
    Column("repeats", "repeats", "repeats", "n"), Column("data set", "dataset", "dataset"),
    Column("model", "model", "model"), Column("width", "width", "width", "n"), Column("N", "nodes", "nodes", "n"),
    Column("batch", "batch", "batch_size", "n"), Column("variant", "variant", "variant"),
    Column("baseline", "baseline", "baseline"), Column("reason", "reason", "reason", "wide"),
)  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """Where a method stands among those of its point, by 95% intervals of cost and NLL.

    `beaten_by`: no dearer and no worse, one of both less, whatever the intervals leave open; `like`: the others that
    may be so, or may not. A method of which neither is known of any other is on the front.
    """

    name: str
    beaten_by: tuple[str, ...]
    like: tuple[str, ...]


def standings(rows: Sequence[Mapping[str, Any]]) -> list[Standing]:
    """Of rows with `series`, and the ends of the intervals of `cost` and `nll`; an end that is NaN tells nothing."""
    found = []
    for row in rows:
        others = [other for other in rows if other is not row]
        beaten = [other["series"] for other in others if _beats(other, row)]
        like = [other["series"] for other in others if not _beats(other, row) and not _worse(other, row)]
        found.append(Standing(row["series"], tuple(beaten), tuple(like)))
    return found


def _beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether it is beyond doubt no dearer and no worse, and cheaper or better."""
    no_more = all(one[f"{key}_high"] <= other[f"{key}_low"] for key in (COST, NLL))
    return no_more and any(one[f"{key}_high"] < other[f"{key}_low"] for key in (COST, NLL))


def _worse(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether it is beyond doubt dearer, or worse."""
    return any(one[f"{key}_low"] > other[f"{key}_high"] for key in (COST, NLL))


def methods_section(tables: Mapping[str, pd.DataFrame]) -> Row:
    """`sentences`: of each point which methods are worth their cost; `table`: a row per method, point and shift."""
    methods = tables["methods"]
    if methods.empty:
        return {"sentences": [], "table": None}
    rows = named(methods)
    sentences = [sentence(group) for _, group in rows.groupby(POINT_KEYS, sort=True)]
    table = grid("methods-table", "Methods side by side", COLUMNS, [_row(row) for _, row in rows.iterrows()])
    return {"sentences": [words for words in sentences if words], "table": table}


def sentence(rows: pd.DataFrame) -> str:
    """On the methods of one point, images as they are; empty of fewer than two with a cost and an NLL."""
    told = clean(rows).dropna(subset=[COST, NLL]).to_dict("records")
    if len(told) < 2:
        return ""
    stand = standings(told)
    said = {row["series"]: f"{row['series']} (cost {number(row[COST])}, NLL {number(row[NLL])})" for row in told}
    front = [said[each.name] for each in stand if not each.beaten_by and not each.like]
    beaten = [f"{said[each.name]} by {listed(each.beaten_by)}" for each in stand if each.beaten_by]
    like = [f"{said[each.name]} from {listed(each.like)}" for each in stand if each.like and not each.beaten_by]
    parts = [
        f"on the front of training cost and NLL beyond doubt: {listed(front) if front else 'none'}",
        f"dominated: {'; '.join(beaten) if beaten else 'none'}",
        f"cannot be told apart by their 95% intervals: {'; '.join(like) if like else 'none'}",
    ]
    return f"{point_title(rows.iloc[0])}. {'. '.join(part[0].upper() + part[1:] for part in parts)}."


def listed(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _row(row: pd.Series) -> Row:
    def both(name: str) -> str:
        value = number(row[name])
        ends = span(row[f"{name}_low"], row[f"{name}_high"])
        return value if DASH in (value, ends) else f"{value} ({ends})"

    made = {column.key: both(column.key) for column in COLUMNS if column.of.endswith("_high")}
    return made | {
        "verdict": row["verdict"], "method": row["method"], "variant": row["variant"], "model": row["model"],
        "dataset": row["dataset"], "nodes": row["nodes"], "batch": row["batch_size"], "width": number(row["width"]),
        "shift": row["shift"] or "none", "record": row,
        "accuracy": percent(row["accuracy"]),
        "draws": number(row["draws"]), "images": number(row["images"]), "repeats": row["repeats"],
        "nll_target": number(row["nll_target"]),
        "ood": text(row["ood"]), "baseline": text(row["baseline"]), "reason": text(row["reason"]),
    }  # fmt: skip
