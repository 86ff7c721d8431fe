"""Predictive distributions of one image per class, a panel each: the paper's Fig. 5 and Fig. 9."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from campaign.results.figures.context import Context
from campaign.results.figures.density import METHOD, Density, density, draw_density, finish_axis, point_handle
from campaign.results.figures.jobs import mark_corner
from campaign.results.figures.marks import entry, marked
from campaign.results.figures.posteriors import (
    SWEEP_KEYS,
    counted,
    data_note,
    of_job,
    point_words,
    warned,
    warning_note,
)
from campaign.results.figures.predictions import LABEL
from campaign.results.figures.select import NothingToDrawError, Tables, model_name
from campaign.results.figures.style import COLOURS, INK, RC, finish, mark, new_figure
from campaign.results.tables.schemas import IDENTITY_KEYS

COLUMNS, MOST_PANELS = 5, 10
DRAWS, PRUNED_DRAWS = 400, 200  # the paper's
MOST_LEVELS = 5
Curve = tuple[Density, Any, str]  # with its colour, and the series that it is of


def classes_figure(tables: Tables, context: Context, *, model: str) -> Figure:
    """Fig. 5: of the model trained on the fewest nodes, the first 400 draws or as many as there are."""
    job = counted(tables["inference"], "predictions by class", model=model).sort_values("nodes", kind="stable").iloc[0]
    rows = _first(of_job(tables["inference_true_class"], job), DRAWS)
    panels = [
        (image, label, [(density(values), COLOURS["bnn"], model_name(job["model"]))])
        for image, label, values in _images(rows, job["model"])
    ]
    figure = _draw(panels, job, words=True)
    made = int(rows["draw"].nunique())
    short = f" (the paper: {DRAWS}; the job made no more)" if made < DRAWS else ""
    notes = [
        f"{point_words(job)}, repeat {job['repeat']}; {made} draws{short}. One image per class, the first of its "
        "class; above each panel mean ± standard deviation. Every panel has its own height.",
        f"{METHOD} {data_note(pd.DataFrame([job]))} {warning_note(pd.DataFrame([job]))}",
    ]
    title = f"Softmax value of the true class, one image per class, {model_name(model)} on {context.site}"
    return finish(figure, title, _marks(panels, job), notes)


def pruned_classes_figure(tables: Tables, context: Context, *, model: str) -> Figure:
    """Fig. 9: a curve per share of weights removed (by weight, truly zero), the first 200 draws."""
    job = counted(tables["pruning_summary"], "pruned predictions", model=model, semantics="zero", by="weight").iloc[0]
    keys = (*IDENTITY_KEYS, *SWEEP_KEYS)
    rows = _first(of_job(tables["pruning_true_class"], job, keys), PRUNED_DRAWS)
    accuracies = of_job(tables["pruning"], job, keys).set_index("level")["accuracy"]
    levels = chosen_levels(rows)
    colours = [INK, *sns.color_palette("rocket_r", len(levels) + 1)[1:]]
    panels: dict[int, tuple[int, int, list[Curve]]] = {}
    words = {level: _level_words(rows, level, accuracies) for level in levels}
    for level, colour in zip(levels, colours, strict=False):
        for image, label, values in _images(rows[rows["level"] == level], model):
            panels.setdefault(image, (image, label, []))[2].append((density(values), colour, words[level]))
    made = int(rows["draw"].nunique())
    short = f" (the paper: {PRUNED_DRAWS})" if made < PRUNED_DRAWS else ""
    figure = _draw(list(panels.values()), job, words=False, root=True)
    handles = [
        entry(Line2D([], [], color=colour, label=words[level])) for level, colour in zip(levels, colours, strict=False)
    ]
    notes = [
        f"{point_words(job)}, repeat {job['repeat']}; {made} draws{short}; a pruned weight has mean 0 and "
        f"sigma 0 (zero, {job['scope']}, by weight). One image per class, the first of its class. Axes of density have "
        "a square-root scale of their own height.",
        f"{METHOD} {data_note(pd.DataFrame([job]))} {warning_note(pd.DataFrame([job]))}",
    ]
    title = f"Softmax value of the true class by share of weights removed, {model_name(model)} on {context.site}"
    return finish(figure, title, [*handles, *_marks(list(panels.values()), job)], notes)


def chosen_levels(rows: pd.DataFrame) -> list[int]:
    """Levels by ascending percent, each percent once; at most MOST_LEVELS, evenly spaced with both ends."""
    levels = rows.drop_duplicates("level").sort_values(["percent", "level"]).drop_duplicates("percent")["level"]
    found = [int(level) for level in levels]
    if len(found) <= MOST_LEVELS:
        return found
    return [found[round(index)] for index in np.linspace(0, len(found) - 1, MOST_LEVELS)]


def _level_words(rows: pd.DataFrame, level: int, accuracies: pd.Series) -> str:
    percent = rows.loc[rows["level"] == level, "percent"].iloc[0]
    known = level in accuracies.index and pd.notna(accuracies[level])
    return f"{percent:.3g}% removed" + (f" (accuracy {accuracies[level]:.3f})" if known else "")


def _first(rows: pd.DataFrame, draws: int) -> pd.DataFrame:
    """The first draws. Raises NothingToDrawError when no value was kept."""
    rows = rows[(rows["draw"] < draws) & rows["probability"].notna()]
    if rows.empty:
        raise NothingToDrawError("no softmax values of single images were kept")
    return rows


def _images(rows: pd.DataFrame, model: str) -> list[tuple[int, int, np.ndarray]]:
    """(image, class, values) by class; the first MOST_PANELS classes."""
    found = [
        (int(group["image"].iloc[0]), int(label), group["probability"].to_numpy(dtype=float))
        for label, group in rows.sort_values(["label", "draw"]).groupby("label")
    ]
    if not found:
        raise NothingToDrawError(f"{model_name(model)}: no softmax values of single images were kept")
    return found[:MOST_PANELS]


def _draw(panels: Sequence[tuple[int, int, list[Curve]]], job: pd.Series, *, words: bool, root: bool = False) -> Figure:
    count = -(-len(panels) // COLUMNS)
    figure, axes = new_figure(COLUMNS, count, height=1.65 if words else 1.5)
    with mpl.rc_context(RC):
        for ax in axes[len(panels) :]:
            ax.remove()
        for index, (ax, (image, label, curves)) in enumerate(zip(axes, panels, strict=False)):
            for place, (found, colour, series) in enumerate(curves):
                with marked(ax, series, pd.DataFrame([job])):
                    draw_density(ax, found, colour, place=place, linewidth=1.2)
            if root:
                ax.set_yscale("function", functions=(_root, np.square))
            finish_axis(ax, [found for found, *_ in curves], label=False)
            title = f"class {label}, image {image}"
            ax.set_title(f"{title}\n{curves[0][0].words}" if words else title, loc="left", fontsize=7.5)
            _plain(ax, root)
            mark_corner(ax, job)
            if index % COLUMNS == 0:
                ax.set_ylabel("density", fontsize=8)
        figure.supxlabel(LABEL, fontsize=9)
    return figure


def _root(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(values, 0, None))


def _plain(ax: Axes, root: bool) -> None:
    """Few, small ticks; on a square-root scale at round numbers of it."""
    ax.tick_params(labelsize=7)
    top = ax.get_ylim()[1]
    if not len(ax.get_yticks()):
        return
    if root:
        steps = [value for value in (1, 4, 10, 25, 60, 150, 400) if value < top]
        ax.set_yticks([0, *steps[-3:]])
    else:
        ax.yaxis.set_major_locator(MaxNLocator(3))


def _marks(panels: Sequence[tuple[int, int, list[Curve]]], job: pd.Series) -> list[Line2D]:
    alike = any(found.curve is None for _, _, curves in panels for found, *_ in curves)
    handles = [point_handle()] if alike else []
    return handles + ([mark("WARN", "model with a warning")] if warned(job) else [])
