"""What figures with a series per inference job share: a panel per network, its colours, marks and legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from campaign.results.figures.posteriors import counted, name_of, of_job, warned
from campaign.results.figures.select import NothingToDrawError, Tables
from campaign.results.figures.style import LINES, MARKERS, mark_style
from campaign.results.tables.schemas import IDENTITY_KEYS


@dataclass(frozen=True)
class JobSeries:
    """One job's row of table `inference` and its rows of another table, with the look of its series."""

    job: pd.Series
    rows: pd.DataFrame
    name: str
    style: dict[str, Any]  # colour, line and marker

    @property
    def warned(self) -> bool:
        return warned(self.job)

    @property
    def cell(self) -> pd.DataFrame:
        """The identity of its cell, a row."""
        return pd.DataFrame([self.job[list(IDENTITY_KEYS)]])


def job_series(tables: Tables, table: str, column: str) -> dict[str, list[JobSeries]]:
    """By network the jobs that count and have a value in `column` of `table`, with all their rows of it.

    Raises NothingToDrawError when none has.
    """
    jobs = counted(tables["inference"], table.replace("_", " "))
    found: dict[str, list[JobSeries]] = {}
    for model, mine in jobs.groupby("model", sort=False):
        colours = sns.color_palette("colorblind", len(mine))
        for index, (_, job) in enumerate(mine.iterrows()):
            rows = of_job(tables[table], job)
            if rows[column].notna().any():
                style = {
                    "color": colours[index],
                    "linestyle": LINES[index % len(LINES)],
                    "marker": MARKERS[index % len(MARKERS)],
                }
                found.setdefault(str(model), []).append(JobSeries(job, rows, name_of(job, jobs), style))
    if not found:
        raise NothingToDrawError(f"{table.replace('_', ' ')}: the {len(jobs)} jobs that count recorded no {column}")
    return found


def all_jobs(series: dict[str, list[JobSeries]]) -> pd.DataFrame:
    return pd.DataFrame([one.job for mine in series.values() for one in mine])


def mark_corner(ax: Axes, job: pd.Series) -> None:
    """A triangle above the upper right corner of axes that show one job, if that has a warning."""
    if warned(job):
        style = mark_style("WARN") | {"linestyle": "none", "zorder": 7, "clip_on": False}
        ax.plot([1.0], [1.06], transform=ax.transAxes, **style)


def mark_warned(ax: Axes, one: JobSeries, x: float, y: float) -> None:
    """A triangle at a point of a series with a warning."""
    if one.warned:
        ax.plot([x], [y], **(mark_style("WARN") | {"linestyle": "none", "zorder": 7}))
