"""Which jobs of inference and pruning a figure draws, how they are called, and what is said of them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from campaign.results.figures.select import NothingToDrawError, model_name, variant_words
from campaign.results.tables.schemas import IDENTITY_KEYS

COUNTED = ("OK", "WARN")
TRAINING = "its training, as the table of cells says"
SWEEP_KEYS = ("semantics", "scope", "by")
# What tells jobs apart beside the network, with how it is said.
WORDS = {
    "dataset": "{}", "width": "width {:g}", "nodes": "N = {}", "batch_size": "batch {}", "variant": "{}",
    "repeat": "repeat {}", "semantics": "{}", "scope": "{}", "by": "by {}",
}  # fmt: skip


def counted(jobs: pd.DataFrame, what: str, **choice: Any) -> pd.DataFrame:
    """The jobs with these values that count (WARN does), the paper's width before narrower networks.

    Raises NothingToDrawError naming what is lacking and, of jobs without a valid record, why.
    """
    for column, value in choice.items():
        jobs = jobs[jobs[column] == value]
    good = jobs[jobs["status"].isin(COUNTED) & jobs["verdict"].isin(COUNTED)]
    if good.empty:
        asked = "".join(f", {WORDS.get(column, column + ' {}').format(value)}" for column, value in choice.items())
        raise NothingToDrawError(f"{what}{asked}: none of its {len(jobs)} jobs counts{_reasons(jobs)}")
    order = good.assign(other=good["variant"] != "base", narrow=-good["width"])
    order = order.sort_values(["narrow", "other", "variant", "nodes", "dataset", "batch_size", "repeat"], kind="stable")
    return order.drop(columns=["other", "narrow"])


def _reasons(jobs: pd.DataFrame) -> str:
    found = sorted({str(row["reasons"] or row["status"]) for _, row in jobs.iterrows()})
    return f" ({'; '.join(found)})" if found else ""


def of_job(table: pd.DataFrame, job: pd.Series, keys: tuple[str, ...] = IDENTITY_KEYS) -> pd.DataFrame:
    """The rows of the same cell (and of the same sweep, where `keys` say so)."""
    chosen = pd.Series(data=True, index=table.index)
    for key in keys:
        chosen &= table[key] == job[key]
    return table[chosen]


def warned(job: pd.Series) -> bool:
    """Whether the job or the cell whose posterior it took has a warning."""
    return "WARN" in (job["status"], job["verdict"])


def name_of(job: pd.Series, among: pd.DataFrame) -> str:
    """The network and whatever tells the job from the others."""
    differing = [key for key in WORDS if key in among and among[key].nunique() > 1]
    parts = [WORDS[key].format(job[key]) for key in differing]
    return ", ".join([model_name(job["model"]), *parts])


def point_words(job: pd.Series) -> str:
    """A trained network in full: size, data, nodes, batch, variant."""
    width = "" if job["width"] == 1 else f", width {job['width']:g}"
    place = f"N = {job['nodes']}, batch {job['batch_size']}, {job['variant']}"
    return f"{model_name(job['model'])}{width}, {job['dataset']}, {place}"


def data_note(jobs: pd.DataFrame) -> str:
    """Data sets, and of every variant what departs from the paper's model."""
    return f"Data: {', '.join(sorted(map(str, jobs['dataset'].unique())))}.{variant_words(jobs)}"


def warning_note(jobs: pd.DataFrame) -> str:
    """The warnings of the jobs, each once."""
    found = sorted({str(job["reasons"] or TRAINING) for _, job in jobs.iterrows() if warned(job)})
    return f"Warned: {'; '.join(found)}." if found else ""
