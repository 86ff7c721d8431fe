"""Predictions and pruning on the page: what each posterior predicts, and what is left of it with fewer weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.figures.pruning import WORDS as SEMANTICS
from campaign.report.words import DASH, number, percent, span, text
from campaign.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
SWEEP = ("semantics", "scope", "by")


def inference_section(tables: Mapping[str, pd.DataFrame]) -> Row:
    """`rows`: a row per inference that was made; `missing`: the others with the reason."""
    jobs = tables["inference"]
    made = jobs[jobs["status"] != "MISSING"]
    return {"rows": [_prediction(job) for _, job in made.iterrows()], "missing": _missing(jobs)}


def _prediction(job: pd.Series) -> Row:
    start = job["sigma_median_start"]
    return _job(job) | {
        "images": number(job["images"]), "draws": number(job["draws"]),
        "accuracy": percent(job["accuracy"]), "single": percent(job["accuracy_single_draw"]),
        "nll": number(job["nll"]), "brier": number(job["brier"]), "ece": number(job["calibration_error"]),
        "entropy": number(job["predictive_entropy"]), "information": number(job["mutual_information"]),
        "spread": number(job["softmax_spread"]),
        "settled": f"S = {job['settled_draws']}" if number(job["settled_draws"]) != DASH else "not within these draws",
        "seconds": number(job["seconds_draws"] / job["draws"]),
        "sigma": f"{number(job['sigma_median'])} (start {number(start)})", "bits": number(job["effective_bits"]),
    }  # fmt: skip


def pruning_section(tables: Mapping[str, pd.DataFrame]) -> Row:
    """`rows`: a row per sweep that was made; `missing`: the others with the reason; `semantics` in words."""
    jobs, levels = tables["pruning_summary"], tables["pruning"]
    made = jobs[jobs["status"] != "MISSING"]
    keys = [*IDENTITY_KEYS, *SWEEP]
    by_job = dict(list(levels.groupby(keys, sort=False)))
    rows = [_sweep(job, by_job[tuple(job[key] for key in keys)]) for _, job in made.iterrows()]
    return {"rows": rows, "missing": _missing(jobs), "semantics": list(SEMANTICS.values())}


def _sweep(job: pd.Series, levels: pd.DataFrame) -> Row:
    best = levels[(levels["level"] >= 0) & (levels["percent"] == job["largest_percent"])]
    row = _job(job) | {
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


def _job(job: pd.Series) -> Row:
    return {
        "dataset": job["dataset"], "model": job["model"], "width": number(job["width"]), "nodes": job["nodes"],
        "batch": job["batch_size"], "variant": job["variant"], "repeat": job["repeat"],
        "verdict": job["status"], "reasons": text(job["reasons"]), "folder": job["folder"],
    }  # fmt: skip


def _missing(jobs: pd.DataFrame) -> list[tuple[str, int]]:
    """Reasons with how many jobs."""
    counts = jobs.loc[jobs["status"] == "MISSING", "reasons"].value_counts()
    return [(str(reason), int(count)) for reason, count in counts.items()]
