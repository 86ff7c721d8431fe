"""Predictions and pruning on the page: what each posterior predicts, and what is left of it with fewer weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaign.results.report.cells import anchor
from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH, number, percent, span, text
from campaign.results.statistics import worse
from campaign.results.tables.inference_schemas import SEMANTICS
from campaign.results.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
SWEEP = ("semantics", "scope", "by")
JOB = (
    Column("overall verdict", "verdict", look="verdict", meaning="The worse of the job's and its cell's."),
    Column("data set", "dataset", "dataset"), Column("model", "model", "model", href="anchor"),
    Column("width", "width", "width", "n"),
)  # fmt: skip
VARIANT, REPEAT = Column("variant", "variant", "variant"), Column("repeat", "repeat", "repeat", "n")
REASONS = Column("reasons", "reasons", "reasons", "wide")
PREDICTION_COLUMNS = (
    *JOB, Column("N", "nodes", "nodes", "n", "Nodes of its training."), Column("batch", "batch", "batch_size", "n"),
    VARIANT, REPEAT, Column("images", "images", "images", "n", "Held-out images."),
    Column("draws", "draws", "draws", "n", "Independent Monte-Carlo draws, one sample of all weights each."),
    Column("accuracy", "accuracy", "accuracy", "n", "Of the mean over draws."),
    Column("single draw", "single", "accuracy_single_draw accuracy_single_draw_std", "n",
           "Mean accuracy of draws taken one by one, and its standard deviation over them."),
    Column("NLL (nats)", "nll", "nll", "n", "Negative log likelihood per image, of the mean over draws."),
    Column("Brier", "brier", "brier", "n", "Squared distance of predicted probabilities from the truth."),
    Column("ECE", "ece", "calibration_error", "n", "Expected calibration error, of the mean over draws."),
    Column("entropy", "entropy", "predictive_entropy", "n", "Of the mean over draws, nats: total uncertainty."),
    Column("mutual information", "information", "mutual_information", "n",
           "The part of the entropy that comes from not knowing the weights, nats, mean over images."),
    Column("spread", "spread", "softmax_spread", "n",
           "Standard deviation over draws of the true class's probability."),
    Column("settled from", "settled", "settled_draws", meaning="Draws from which on the distribution of the true "
           "class's "
           "probability stays within one point of that of all draws, for 95% of subsets."),
    Column("s per draw", "seconds", look="n"),
    Column("median sigma", "sigma", "sigma_median sigma_median_start"),
    Column("bits", "bits", "effective_bits", "n", "Median over weights of log2(1 + |mu| / sigma)."), REASONS,
)  # fmt: skip
SWEEP_COLUMNS = (
    *JOB, VARIANT, REPEAT, Column("semantics", "semantics", "semantics", meaning='What "removed" means.'),
    Column("by", "by", "by"), Column("scope", "scope", "scope"),
    Column("unpruned", "unpruned", "accuracy_unpruned", "n", "Accuracy of the network with all weights."),
    Column("removed", "percent", "largest_percent", "n",
           "The largest share of kernel weights removed whose loss of accuracy ends below one point with 95% "
           "certainty."),
    Column("accuracy", "accuracy", look="n"),
    Column("loss (points, 95%)", "loss", look="n",
           meaning="Of accuracy: Monte-Carlo mean, the same images, paired."),
    Column("form", "form", "largest_form", meaning="The fastest form of the network at that level."),
    Column("times as fast", "speedup", "largest_speedup", "n",
           "As the unpruned dense network, timed in turns."),
    Column("95% interval", "interval", look="n"), REASONS,
)  # fmt: skip


def inference_section(tables: Mapping[str, pd.DataFrame]) -> Row:
    """`rows`: one per inference that was made, and their `table`; `missing`: the others with the reason."""
    jobs = tables["inference"]
    made = jobs[jobs["status"] != "MISSING"]
    cells = anchors(tables["cells"])
    rows = [_prediction(job, cells) for _, job in made.iterrows()]
    table = grid("inference-table", "Predictions", PREDICTION_COLUMNS, rows)
    return {"rows": rows, "missing": _missing(jobs), "table": table}


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
    """`rows`: one per sweep that was made, and their `table`; `missing`: the others with the reason.

    `semantics`: what "removed" means, in words.
    """
    jobs, levels = tables["pruning_summary"], tables["pruning"]
    made = jobs[jobs["status"] != "MISSING"]
    keys = [*IDENTITY_KEYS, *SWEEP]
    by_job = dict(list(levels.groupby(keys, sort=False)))
    none = levels.iloc[:0]
    cells = anchors(tables["cells"])
    rows = [_sweep(job, by_job.get(tuple(job[key] for key in keys), none), cells) for _, job in made.iterrows()]
    table = grid("pruning-table", "Pruning sweeps", SWEEP_COLUMNS, rows)
    return {"rows": rows, "missing": _missing(jobs), "semantics": list(SEMANTICS.values()), "table": table}


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
        "record": job, "title": job["folder"], "anchor": row if row in cells else "", "dataset": job["dataset"],
        "model": job["model"], "width": number(job["width"]), "nodes": job["nodes"],
        "batch": job["batch_size"], "variant": job["variant"], "repeat": job["repeat"],
        "verdict": worse(job["status"], job["verdict"]), "reasons": text(job["reasons"]),
    }  # fmt: skip


def _missing(jobs: pd.DataFrame) -> list[tuple[str, int]]:
    """Reasons with how many jobs."""
    counts = jobs.loc[jobs["status"] == "MISSING", "reasons"].value_counts()
    return [(str(reason), int(count)) for reason, count in counts.items()]
