"""Predictive distribution of one image against the number of Monte-Carlo draws: the paper's Fig. 4."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from campaign.results.figures.context import Context
from campaign.results.figures.density import METHOD, density, draw_density, finish_axis, point_handle
from campaign.results.figures.jobs import mark_corner
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.posteriors import counted, data_note, of_job, point_words, warned, warning_note
from campaign.results.figures.select import NothingToDrawError, Tables, model_name
from campaign.results.figures.style import RC, WIDTH, finish, mark, new_figure

SIZES = (10, 50, 100, 200, 400, 1000)
LABEL = "softmax value of the true class"


def draws_figure(tables: Tables, context: Context, *, model: str, most: bool) -> Figure:
    """A curve per number of draws, the first S of one job; of the model trained on the fewest nodes or on the most.

    Both show the image whose value varies most in the model of the fewest nodes. Raises NothingToDrawError without a
    job that counts, or with one node count where `most` is asked for.
    """
    jobs = _one_point(counted(tables["inference"], "predictions against draws", model=model))
    job = jobs.iloc[-1 if most else 0]
    if most and job["nodes"] == jobs.iloc[0]["nodes"]:
        raise NothingToDrawError(f"the only model of {model_name(model)} that counts was trained on N = {job['nodes']}")
    table = tables["inference_true_class"]
    image = most_varied(of_job(table, jobs.iloc[0]))
    rows = of_job(table, job)
    rows = rows[rows["image"] == image].sort_values("draw")
    if rows["probability"].notna().sum() == 0:
        raise NothingToDrawError(f"predictions against draws: no softmax value of image {image} in this model")
    figure, (ax,) = new_figure(width=0.75 * WIDTH)
    sizes = sizes_of(len(rows))
    found = [density(rows["probability"].to_numpy(dtype=float)[:size]) for size in sizes]
    colours = sns.color_palette("viridis_r", len(sizes) + 1)[1:]
    handles = []
    with mpl.rc_context(RC):
        for place, (size, one, colour) in enumerate(zip(sizes, found, colours, strict=True)):
            last = place == len(sizes) - 1
            style = {"linewidth": 1.9 if last else 1.2, "zorder": 3 + place}
            label = f"{size} draws: {one.words}"
            with marked(ax, label, pd.DataFrame([job])):
                draw_density(ax, one, colour, place=place, **style)
            handles.append(Line2D([], [], color=colour, linewidth=style["linewidth"], label=label))
            entry(handles[-1])
        finish_axis(ax, found, label=True)
        mark_corner(ax, job)
        ax.set_xlabel(LABEL)
        ax.set_ylabel("density")
    handles += [point_handle()] if any(one.curve is None for one in found) else []
    handles += [mark("WARN", "model with a warning")] if warned(job) else []
    short = f" No {SIZES[-1]} draws: the job made {len(rows)}." if len(rows) < SIZES[-1] else ""
    notes = [
        f"{point_words(job)}, repeat {job['repeat']}. Image {image}, class {rows['label'].iloc[0]}: of one image per "
        "class that whose value has the largest standard deviation over draws in the model of the fewest nodes. S "
        f"draws are the first S of one job; legend: mean ± standard deviation.{short}",
        f"{METHOD} {data_note(jobs)} {warning_note(pd.DataFrame([job]))}",
    ]
    title = f"Predictions of one image by Monte-Carlo draws, trained on N = {job['nodes']}, {context.site}"
    return finish(figure, title, handles, notes)


def _one_point(jobs: pd.DataFrame) -> pd.DataFrame:
    """Of the first data set, width, variant and batch size: the first repeat on each node count, fewest first."""
    first = jobs.iloc[0]
    for key in ("dataset", "width", "variant", "batch_size"):
        jobs = jobs[jobs[key] == first[key]]
    return jobs.sort_values(["nodes", "repeat"]).drop_duplicates("nodes")


def most_varied(rows: pd.DataFrame) -> int:
    """The image whose value varies most over draws. Raises NothingToDrawError when there are no values."""
    spread = rows.groupby("image")["probability"].std(ddof=0).dropna()
    if spread.empty:
        raise NothingToDrawError("no softmax values of single images were kept")
    return int(spread.idxmax())


def sizes_of(draws: int) -> list[int]:
    """The paper's numbers of draws as far as there are so many; where they end early, all draws too."""
    sizes = [size for size in SIZES if size <= draws]
    return sizes if draws in sizes or draws > SIZES[-1] else [*sizes, draws]
