"""Figures of inference and pruning from small made-up tables: what is drawn, marked, said and refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campaign.results.figures.catalogue import FIGURES, available, not_measured
from campaign.results.figures.classes import MOST_LEVELS, chosen_levels
from campaign.results.figures.context import Context
from campaign.results.figures.density import ALIKE, GRID, density
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.inference_reliability import wilson
from campaign.results.figures.inference_runtime import elapsed, fit
from campaign.results.figures.predictions import most_varied, sizes_of
from campaign.results.figures.pruning import means
from campaign.results.figures.select import NothingToDrawError
from tests.support.frames import PERCENTS, Frames, cell, inference_frames, pruning_frames

PREDICTED = ["fig4a", "fig4b", "fig5a", "fig5b", "inference_runtime", "inference_convergence", "inference_reliability"]
PRUNED = ["fig8", "fig9a", "fig9b", "snr", "pruning_speed"]
MADE = inference_frames() | pruning_frames()
DIRTY = {"status": "WARN", "reasons": "the working tree had uncommitted changes"}


def draw(name: str, tables: Frames | None = None) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # singular limits, missing glyphs
        return draw_figure(name, tables or MADE, Context("a toy machine", "ranks"))


def words(figure: Figure) -> str:
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return "\n".join(" ".join(text.get_text().split()) for text in found if text.get_text())


def labelled(figure: Figure, label: str) -> list[Any]:
    return list(figure.findobj(lambda artist: artist.get_label() == f"_{label}"))


def triangles(figure: Figure) -> int:
    """Marks of a warning that stand in axes, not in the legend."""
    return sum(line.get_marker() == "^" and line.get_color() == "#B8860B" for ax in figure.axes for line in ax.lines)


def curves(ax: Axes) -> list[np.ndarray]:
    return [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == len(GRID)]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60))
def test_a_density_has_area_one_on_its_interval_or_is_a_point_mass(values: list[float]) -> None:
    found = density(np.array(values))
    assert (found.curve is None) == (np.std(values, ddof=1) < ALIKE)
    if found.curve is not None:
        assert np.trapezoid(found.curve, GRID) == pytest.approx(1, abs=0.01)
        assert (found.curve >= 0).all()


def test_a_density_keeps_the_mass_at_its_ends() -> None:
    generator = np.random.default_rng(0)
    ends = density(np.concatenate([generator.beta(1, 30, 300), generator.beta(30, 1, 300)]))
    assert ends.curve is not None
    assert ends.curve[0] > 4 * ends.curve[len(GRID) // 2] < ends.curve[-1]
    with pytest.raises(ValueError, match="finite"):
        density(np.array([np.nan]))


@pytest.mark.parametrize("name", PREDICTED + PRUNED)
def test_every_figure_draws_in_every_panel_and_without_raw_mathematics(name: str) -> None:
    figure = draw(name)
    figure.draw_without_rendering()
    for ax in figure.axes:
        assert ax.lines or ax.patches or ax.collections
    ticks = [tick.get_text() for ax in figure.axes for tick in (*ax.get_xticklabels(), *ax.get_yticklabels())]
    assert not any("$" in text for text in [*ticks, words(figure)])
    assert "a toy machine" in figure.get_suptitle()


def test_figure_4_has_a_curve_per_number_of_draws_of_the_image_that_varies_most() -> None:
    figure = draw("fig4a")
    assert len(curves(figure.axes[0])) == len(sizes_of(1000)) == 6
    rows = MADE["inference_true_class"].query("model == 'vgg16' and nodes == 1")
    image = most_varied(rows)
    spread = rows.groupby("image")["probability"].std()
    assert spread[image] == spread.max()
    assert f"Image {image}," in words(figure)
    assert f"Image {image}," in words(draw("fig4b"))
    assert "trained on N = 2" in draw("fig4b").get_suptitle()


def test_fewer_draws_than_the_papers_are_said() -> None:
    assert [sizes_of(draws) for draws in (5, 10, 300)] == [[5], [10], [10, 50, 100, 200, 300]]
    few = inference_frames([cell() | {"made": 300, "spread": 1.0}])
    assert "No 1000 draws: the job made 300" in words(draw("fig4a", few))
    assert "300 draws (the paper: 400; the job made no more)" in words(draw("fig5a", few))
    assert "(the paper: 400" not in words(draw("fig5a"))
    with pytest.raises(NothingToDrawError, match="trained on N = 1"):
        draw("fig4b", few)


def test_alike_draws_are_labelled_point_masses_and_never_an_empty_panel() -> None:
    alike = inference_frames([cell() | {"made": 400, "spread": 0.0}])
    single = draw("fig4a", alike)
    assert len(labelled(single, "point-mass")) == len(sizes_of(400))
    assert not curves(single.axes[0])
    assert "point mass at 0.97:" in words(single)
    assert triangles(single) == 1
    assert "degenerate posterior: draws all alike" in words(single)
    classes = draw("fig5a", alike)
    assert len(labelled(classes, "point-mass")) == len(classes.axes) == 10
    assert "every distance is 0" in words(draw("inference_convergence", alike))


def test_levels_with_and_without_a_density_share_a_panel() -> None:
    figure = draw("fig9b")
    for ax in figure.axes:
        assert len(curves(ax)) == len(PERCENTS) - 1
        assert sum(line.get_label() == "_point-mass" for line in ax.lines) == 1  # 30% is made of alike draws
    assert "90% removed (accuracy 0.962)" in words(figure)
    assert "(the paper: 200)" in words(draw("fig9b", pruning_frames([cell("fc")], draws=40)))


def test_at_most_so_many_levels_with_both_ends() -> None:
    rows = pd.DataFrame({"level": range(-1, 20), "percent": [0.0, *np.arange(0, 100, 5.0)]})
    found = chosen_levels(rows)
    assert len(found) == MOST_LEVELS
    assert (found[0], found[-1]) == (-1, 19)


def test_time_is_of_ranks_side_by_side_and_its_line_finds_slope_and_intercept() -> None:
    both = pd.DataFrame({"draw": range(4), "rank": [0, 0, 1, 1], "seconds": [1.0, 1.0, 1.5, 1.5]})
    assert elapsed(both, 2.0) == pytest.approx([3.0, 3.5, 4.0, 5.0])
    line = fit(7.0 + 0.25 * np.arange(1, 101))
    assert (line.slope, line.intercept) == pytest.approx((0.25, 7.0))
    assert (line.low, line.high) == pytest.approx((0.25, 0.25))
    noisy = fit(np.cumsum(np.random.default_rng(1).exponential(0.5, 1000)))
    assert noisy.low < 0.5 < noisy.high
    assert np.isnan(fit(np.array([1.0])).slope)


def test_a_start_that_was_not_measured_is_said() -> None:
    unknown = dict(MADE)
    unknown["inference"] = MADE["inference"].assign(seconds_startup=np.nan)
    assert "Where start-up was not measured" in words(draw("inference_runtime", unknown))
    assert "Where start-up was not measured" not in words(draw("inference_runtime"))


def test_convergence_says_where_it_settled_or_that_it_did_not() -> None:
    assert "VGG-16, N = 1: settled from 200 draws on" in words(draw("inference_convergence"))
    assert len(labelled(draw("inference_convergence"), "settled")) == 3
    never = dict(MADE)
    never["inference"] = MADE["inference"].assign(settled_draws=pd.NA)
    figure = draw("inference_convergence", never)
    assert "VGG-16, N = 1: not settled within 1000 draws" in words(figure)
    assert not labelled(figure, "settled")
    assert [line.get_xdata()[0] for line in labelled(figure, "published")] == [400, 400]


def test_empty_bins_have_no_accuracy_but_their_place_among_the_counts() -> None:
    figure = draw("inference_reliability")
    accuracy, counts = figure.axes[1], figure.axes[3]  # of the only job of ResNet-18
    rows = MADE["inference_reliability"].query("model == 'resnet18'").sort_values("bin")
    series = [line for line in accuracy.lines if line.get_marker() == "o"]
    assert list(series[0].get_ydata()) == pytest.approx(list(rows["accuracy"].dropna()))
    stairs = counts.patches[0].get_data()
    assert list(stairs.values) == list(rows["count"])
    assert len(stairs.edges) == 16
    assert "ResNet-18, N = 1: ECE 0.0123" in words(figure)
    low, high = wilson(90, 100)
    assert low < 0.9 < high < 1


def test_means_of_seeds_are_taken_level_by_level() -> None:
    long = pd.DataFrame({"level": [0, 1, 2], "percent": [0.0, 50.0, 90.0], "nll": [0.1, 0.2, 0.9]})
    short = pd.DataFrame({"level": [0, 2], "percent": [0.0, 92.0], "nll": [0.3, 1.1]})
    found = means([long, short], "nll")
    assert list(found["percent"]) == [0.0, 50.0, 91.0]
    assert list(found["mean"]) == pytest.approx([0.2, 0.2, 1.0])
    assert list(found["low"].isna()) == [False, True, False]
    # t(0.975, 1) = 12.706; standard error 0.1
    assert found["high"].iloc[0] == pytest.approx(0.2 + 12.706 * 0.1, rel=1e-4)


def test_figure_8_keeps_networks_apart_and_marks_what_is_published() -> None:
    cells = [cell("fc"), cell("conv"), cell("conv", variant="conv64") | {"job": {"width": 0.25}}]
    figure = draw("fig8", pruning_frames(cells))
    titles = [ax.get_title(loc="left") for ax in figure.axes[:3]]
    assert titles == ["Conv (base)", "Conv, width 0.25 (conv64)", "FC (base)"]
    assert [line.get_xdata()[0] for line in labelled(figure, "published")] == [80, 80, 60]
    assert "softplus(0) = 0.693" in words(figure)
    bands = [path for ax in figure.axes for band in ax.collections for path in band.get_paths()]
    assert not any(np.isfinite(path.vertices).all() and len(path.vertices) for path in bands)  # of one seed
    assert "1 repeat (of other seeds)" in words(figure)


def test_figure_8_shows_the_spread_of_seeds_and_their_warnings() -> None:
    cells = [cell("fc", repeat=1), cell("fc", repeat=2) | {"job": DIRTY}, cell("fc", repeat=3)]
    figure = draw("fig8", pruning_frames(cells))
    assert all(band.get_paths() for ax in figure.axes for band in ax.collections)
    assert triangles(figure) == 2 * 3  # both panels, three meanings
    assert "Warned: the working tree had uncommitted changes." in words(figure)
    assert triangles(draw("fig8")) == 0


def test_a_band_of_accuracy_ends_where_accuracy_does() -> None:
    tables = pruning_frames([cell("fc", repeat=1), cell("fc", repeat=2)])
    shaken = tables["pruning"]["accuracy"].where(tables["pruning"]["repeat"] == 1, 0.5)
    top = draw("fig8", tables | {"pruning": tables["pruning"].assign(accuracy=shaken)}).axes[0]
    heights = np.concatenate([path.vertices[:, 1] for band in top.collections for path in band.get_paths()])
    assert (heights.min(), heights.max()) == (0, 1)
    assert top.get_ylim()[1] < 1.1


def test_a_warning_of_the_training_is_told_apart() -> None:
    figure = draw("fig9b", pruning_frames([cell("fc") | {"job": {"verdict": "WARN"}}]))
    assert "Warned: its training, as the table of cells says." in words(figure)
    assert triangles(figure) == 10


def test_an_invalid_seed_is_not_counted() -> None:
    bad = {"status": "INVALID", "reasons": "non-finite predictions"}
    one = pruning_frames([cell("fc"), cell("fc", repeat=2) | {"job": bad}])
    assert "1 repeat (of other seeds)" in words(draw("fig8", one))
    with pytest.raises(NothingToDrawError, match="non-finite predictions"):
        draw("fig8", pruning_frames([cell("fc") | {"job": bad}]))


def test_speed_stands_above_its_price_and_names_the_fastest() -> None:
    figure = draw("pruning_speed")
    half = len(figure.axes) // 2
    assert [ax.get_title(loc="left").split("\n")[1] for ax in figure.axes[:half]] == ["by weight", "by unit"] * 2
    assert all(ax.get_ylabel() for ax in (figure.axes[0], figure.axes[half]))
    assert "accuracy lost (points)" in words(figure)
    weight, unit = figure.axes[0], figure.axes[1]
    rings = [line for line in weight.lines if line.get_markersize() == 9]
    best = MADE["pruning"].query("model == 'conv' and semantics == 'zero' and by == 'weight' and repeat == 1")
    best = best[best["level"] >= 0]
    assert list(rings[0].get_ydata()) == pytest.approx(list(1 / best["speedup"]))
    assert "4×" in [text.get_text() for text in weight.texts]
    assert "10×" in [text.get_text() for text in unit.texts]


def test_forms_that_were_not_timed_are_not_drawn() -> None:
    figure = draw("pruning_speed")
    assert "dead units removed" in words(figure)
    assert "both" not in [text.get_text() for text in figure.legends[0].get_texts()]
    unknown = dict(MADE)
    times = [column for column in MADE["pruning"] if column.startswith(("seconds", "speedup"))]
    unknown["pruning"] = MADE["pruning"].assign(**dict.fromkeys(times, np.nan))
    assert "fastest" in words(draw("pruning_speed", unknown))  # drawn all the same: the losses were measured


def test_ratios_are_shares_of_each_layer() -> None:
    ax = draw("snr").axes[0]
    for patch in ax.patches:
        stairs = patch.get_data()
        assert np.sum(stairs.values * np.diff(stairs.edges)) == pytest.approx(100)
    assert [line.get_xdata()[0] for line in labelled(draw("snr"), "published")] == pytest.approx([20, 20])


@pytest.mark.parametrize("name", PREDICTED + PRUNED)
def test_without_a_job_that_counts_a_figure_is_refused_with_the_reason(name: str) -> None:
    missing = dict(MADE)
    for table in ("inference", "pruning_summary"):
        missing[table] = MADE[table].assign(status="MISSING", reasons="not made yet")
    with pytest.raises(NothingToDrawError, match="not made yet"):
        draw(name, missing)
    with pytest.raises(NothingToDrawError):
        draw(name, {table: frame.iloc[:0] for table, frame in MADE.items()})


@pytest.mark.parametrize("name", ["fig4a", "fig5a", "fig9a"])
def test_values_that_were_not_kept_are_no_figure(name: str) -> None:
    lost = {
        table: frame.assign(probability=np.nan) if "probability" in frame else frame for table, frame in MADE.items()
    }
    with pytest.raises(NothingToDrawError, match="softmax value"):
        draw(name, lost)


def a_plan(infer: list[tuple[str, int]], prune: list[str], target: str = "") -> dict[str, object]:
    return {
        "cells": [], "bench": [], "site": {},
        "infer": [cell(model, nodes) | {"target": target} for model, nodes in infer],
        "prune": [cell(model) | {"target": target} for model in prune],
    }  # fmt: skip


def test_figures_are_there_for_the_jobs_that_a_plan_has() -> None:
    assert set(PREDICTED + PRUNED) <= set(FIGURES)
    both = a_plan([("vgg16", 1), ("vgg16", 2), ("resnet18", 1)], ["conv", "fc"])
    assert set(PREDICTED + PRUNED) <= set(available(both))
    one = not_measured(a_plan([("vgg16", 1)], ["fc"]))
    assert "several nodes" in one["fig4b"]
    assert "resnet18" in one["fig5b"]
    assert "conv" in one["fig9a"]
    assert "fig9b" not in one
    for nothing in (a_plan([], []), a_plan([("vgg16", 1)], ["fc"], target="pruning_full")):
        assert set(PREDICTED + PRUNED) <= set(not_measured(nothing))
