"""Predictions and pruning on the page: what each posterior predicts, and what is left of it with fewer weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.results.figures.pruning import WORDS as SEMANTICS
from campaign.results.report.headline import anchor
from campaign.results.report.words import DASH, number, percent, span, text
from campaign.results.statistics import worse
from campaign.results.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
SWEEP = ("semantics", "scope", "by")


def inference_section(tables: Mapping[str, pd.DataFrame]) -> Row:
    """`rows`: a row per inference that was made; `missing`: the others with the reason."""
    jobs = tables["inference"]
    made = jobs[jobs["status"] != "MISSING"]
    cells = anchors(tables["cells"])
    return {"rows": [_prediction(job, cells) for _, job in made.iterrows()], "missing": _missing(jobs)}


def anchors(cells: pd.DataFrame) -> set[str]:
    """The ids of the rows of the page's table of cells."""
    return {anchor(cell) for _, cell in cells.iterrows()}


def _prediction(job: pd.Series, cells: set[str]) -> Row:
    start = job["sigma_median_start"]
    return _job(job, cells) | {
        "images": number(job["images"]), "draws": number(job["draws"]),
        "accuracy": percent(job["accuracy"]), "single": _single(job),
        "nll": number(job["nll"]), "brier": number(job["brier"]), "ece": number(job["calibration_error"]),
        "entropy": number(job["predictive_entropy"]), "information": number(job["mutual_information"]),
        "spread": number(job["softmax_spread"]),
        "settled": _settled(job),
        "seconds": number(job["seconds_draws"] / job["draws"]),
        "sigma": f"{number(job['sigma_median'])} (start {number(start)})", "bits": number(job["effective_bits"]),
    }  # fmt: skip


def _single(job: pd.Series) -> str:
    """Mean accuracy of single draws with its standard deviation over them."""
    spread = percent(job["accuracy_single_draw_std"])
    return percent(job["accuracy_single_draw"]) + ("" if spread == DASH else f" ± {spread}")


def _settled(job: pd.Series) -> str:
    """S from which on the distribution has settled, or that it has not."""
    settled = number(job["settled_draws"])
    if settled != DASH:
        return f"S = {settled}"
    return "not measured" if number(job["settled_tolerance"]) == DASH else "not within these draws"


def pruning_section(tables: Mapping[str, pd.DataFrame]) -> Row:
    """`rows`: a row per sweep that was made; `missing`: the others with the reason; `semantics` in words."""
    jobs, levels = tables["pruning_summary"], tables["pruning"]
    made = jobs[jobs["status"] != "MISSING"]
    keys = [*IDENTITY_KEYS, *SWEEP]
    by_job = dict(list(levels.groupby(keys, sort=False)))
    none = levels.iloc[:0]
    cells = anchors(tables["cells"])
    rows = [_sweep(job, by_job.get(tuple(job[key] for key in keys), none), cells) for _, job in made.iterrows()]
    return {"rows": rows, "missing": _missing(jobs), "semantics": list(SEMANTICS.values())}


def _sweep(job: pd.Series, levels: pd.DataFrame, cells: set[str]) -> Row:
    best = levels[(levels["level"] >= 0) & (levels["percent"] == job["largest_percent"])]
    row = _job(job, cells) | {
        "semantics": job["semantics"], "by": job["by"], "scope": job["scope"],
        "unpruned": percent(job["accuracy_unpruned"]),
        "percent": f"{number(job['largest_percent'])}%", "accuracy": DASH, "loss": DASH,
        "form": text(job["largest_form"]), "speedup": number(job["largest_speedup"]), "interval": DASH,
    }  # fmt: skip
    if best.empty:
        return row | {"percent": "none"}
    level = best.iloc[0]
    return row | {
        "accuracy": percent(level["accuracy"]),
        "loss": f"{level['accuracy_loss']:.2f} ({span(level['accuracy_loss_low'], level['accuracy_loss_high'])})",
        "interval": span(level["speedup_low"], level["speedup_high"]),
    }


def _job(job: pd.Series, cells: set[str]) -> Row:
    """What both tables say of a job; `anchor` is empty where the page does not list its cell."""
    row = anchor(job)
    return {
        "anchor": row if row in cells else "", "dataset": job["dataset"],
        "model": job["model"], "width": number(job["width"]), "nodes": job["nodes"],
        "batch": job["batch_size"], "variant": job["variant"], "repeat": job["repeat"],
        "verdict": worse(job["status"], job["verdict"]), "reasons": text(job["reasons"]), "folder": job["folder"],
    }  # fmt: skip


def _missing(jobs: pd.DataFrame) -> list[tuple[str, int]]:
    """Reasons with how many jobs."""
    counts = jobs.loc[jobs["status"] == "MISSING", "reasons"].value_counts()
    return [(str(reason), int(count)) for reason, count in counts.items()]
