"""Figures and the report's section of methods from small made-up tables: what is drawn, said, judged and refused."""

from __future__ import annotations

import math
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from campaign.plan.content import plan_content
from campaign.results.figures.catalogue import available, not_measured
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.method_data import MARK, TEXT, hardest_shifts, methods_of
from campaign.results.figures.select import NothingToDrawError
from campaign.results.figures.style import notice, save
from campaign.results.report import write_report
from campaign.results.report.methods import listed, methods_section, sentence, standings
from tests.support.campaigns import campaign
from tests.support.cells import built_campaign
from tests.support.methods import MADE, method_frames, method_rows, timed_rows
from tests.unit.test_after_jobs import with_study
from tests.unit.test_report import Page

FIGURES = ("uncertainty", "uncertainty_draws")


def draw(name: str, tables: dict[str, pd.DataFrame]) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return draw_figure(name, tables, Context("a toy machine", "ranks"))


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("half", [0.03, math.nan, 3.0])
def test_every_method_is_labelled_in_every_panel_inside_of_it(name: str, half: float) -> None:
    """With intervals, with none, and with such as dwarf the points."""
    rows = method_rows(0.03 if math.isnan(half) else half)
    for row in rows:
        for key in row:
            if key.endswith("_low") and half != 0.03:
                row[key] = math.nan if math.isnan(half) else max(row[key], 1e-9)
            if key.endswith("_high") and math.isnan(half):
                row[key] = math.nan
    figure = draw(name, method_frames(rows))
    figure.draw_without_rendering()
    for ax in figure.axes:
        named = [text for text in ax.texts if isinstance(text, Annotation) and text.get_text() in MADE]
        assert sorted(text.get_text() for text in named) == sorted(MADE)
        panel = ax.get_window_extent()
        for text in named:
            box = text.get_window_extent()
            assert panel.y0 - 2 < box.y0 < box.y1 < panel.y1 + 2
    ticks = [tick.get_text() for ax in figure.axes for tick in (*ax.get_xticklabels(), *ax.get_yticklabels())]
    assert not any("$" in text for text in [*ticks, words(figure)])


def test_clean_and_the_hardest_shifts_are_drawn_and_the_rest_is_named() -> None:
    figure = draw("uncertainty", method_frames())
    for ax in figure.axes:
        marks = [line.get_marker() for line in ax.lines if line.get_marker() not in ("None", "")]
        assert {shape: marks.count(shape) for shape in set(marks)} == dict.fromkeys(("o", "s", "^"), len(MADE))
    said = words(figure)
    assert "the table has rotation:1, too" in said
    assert "Cost 1: cnn-kernels (base)" in said
    assert hardest_shifts(pd.DataFrame({"shift": ["", "blur:2", "blur:4", "jpeg:1"]})) == ["blur:4", "jpeg:1"]


def test_the_front_is_drawn_through_the_methods_that_none_beats_by_its_centre() -> None:
    ax = draw("uncertainty", method_frames()).axes[0]
    (front,) = [line for line in ax.lines if line.get_label() == "_front"]
    assert front.get_xydata().tolist() == [[1.0, 0.98], [1.03, 0.90]]


def test_the_time_to_an_nll_has_panels_of_its_own_and_names_who_has_none() -> None:
    figure = draw("uncertainty", method_frames(timed_rows()))
    assert [ax.get_xlabel() for ax in figure.axes] == ["relative cost of a training step"] * 2 + [
        "training time to NLL 1.6 (s)"
    ] * 2
    for ax in figure.axes[2:]:
        names = {text.get_text() for text in ax.texts if isinstance(text, Annotation)}
        assert names == {"deterministic", "IVON", "flipout"}
        places = {x for line in ax.lines if line.get_marker() == "o" for x, _ in line.get_xydata()}
        assert places == {10.0, 11.0, 40.0}
    (front,) = [line for line in figure.axes[2].lines if line.get_label() == "_front"]
    assert front.get_xydata().tolist() == [[10.0, 1.10], [11.0, 0.90]]
    late = "local reparameterization; reparameterization; temperature-scaled"
    assert f"Without a time to NLL 1.6 (table methods says why): {late}." in words(figure)
    alone = [row if row["method"] == "IVON" else row | {"seconds_to_nll": None} for row in timed_rows()]
    assert len(draw("uncertainty", method_frames(alone)).axes) == 2, "one method alone is no comparison"


def test_names_stand_apart_and_can_be_read() -> None:
    """Also where points are crowded at the bottom of a panel, as calibrated methods are."""
    crowd = {"calibration_error": 0.02, "calibration_error_low": 0.015, "calibration_error_high": 0.025}
    rows = method_rows(temperature_scaled=crowd, deterministic=crowd | {"method": "ensemble of 3 (temperature-scaled)"})
    figure = draw("uncertainty", method_frames(rows))
    figure.draw_without_rendering()
    for ax in figure.axes:
        names = [text for text in ax.texts if isinstance(text, Annotation)]
        assert len(names) > 4
        boxes = [Text.get_window_extent(text) for text in names]
        for (one, box), (other, another) in combinations(zip(names, boxes, strict=True), 2):
            assert not box.overlaps(another), (one.get_text(), other.get_text())
        assert {"ensemble of 3\n(temperature-scaled)"} <= {text.get_text() for text in names}
        for text in names:
            assert contrast(text.get_color()) >= TEXT
    many = methods_of(pd.DataFrame({"series": list("abcdefghijkl")}))
    assert all(contrast(method.colour) >= MARK for method in many.values())
    numbers = [text for text in draw("uncertainty_draws", method_frames()).axes[0].texts if text.get_text().isdigit()]
    assert numbers
    assert all(contrast(text.get_color()) >= TEXT for text in numbers)


def contrast(colour: Any) -> float:
    """With white, by WCAG's formula."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 1.05 / (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05)


def test_curves_of_draws_end_where_the_method_stands() -> None:
    ax = draw("uncertainty_draws", method_frames()).axes[0]
    curves = [line for line in ax.lines if line.get_marker() == "o"]
    assert sorted(len(line.get_xdata()) for line in curves) == [1, 1, 6, 6, 6, 6]
    assert [text.get_text() for text in ax.texts].count("50") == 4


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_to_draw_says_why(name: str) -> None:
    with pytest.raises(NothingToDrawError, match="no method has predicted so far"):
        draw(name, method_frames([]))
    rows = [row | {"repeats": 0, "reason": "not made yet"} for row in method_rows()]
    with pytest.raises(NothingToDrawError, match=r"none of the 24 rows has a value \(not made yet\)"):
        draw(name, method_frames(rows))


def test_a_page_without_their_predictions_says_so_in_place_of_the_figures(tmp_path: Path) -> None:
    """As all_figures leaves it, of a campaign whose methods only their own target runs."""
    study = with_study(prune=None, target="methods", infer={"draws": 5, "kinds": ["bnn", "cnn"]})
    plan = plan_content(campaign(study))
    assert set(FIGURES) <= set(available(plan))
    figures = {name: tmp_path / f"{name}.svg" for name in FIGURES}
    for name, path in figures.items():
        with pytest.raises(NothingToDrawError) as reason:
            draw(name, method_frames([]))
        save(notice(name, str(reason.value)), path, path.with_suffix(".png"))
    tables = built_campaign()[1] | method_frames([])
    write_report(plan, tables, figures, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("no method has predicted so far; where a study is of target methods, that makes them") == 2
    assert "No method was set beside another" in page


def test_variants_of_one_method_and_warnings_are_told_apart() -> None:
    more = [
        row | {"variant": "other", "verdict": "WARN", "nll": 0.5} for row in method_rows() if row["method"] == "IVON"
    ]
    said = words(draw("uncertainty", method_frames(method_rows() + more)))
    assert "IVON\n(IVON)" in said  # beside its point, what stands in brackets below
    assert "IVON\n(other)" in said
    assert "With a warning in some repeat (table methods): IVON (other)." in said


def test_the_figures_are_there_where_conventional_networks_predict_too() -> None:
    bare = plan_content(campaign(with_study()))
    assert not set(FIGURES) & set(available(bare))
    assert "kinds of section infer" in not_measured(bare)["uncertainty"]
    both = plan_content(campaign(with_study(infer={"draws": 5, "kinds": ["bnn", "cnn"]})))
    assert set(FIGURES) <= set(available(both))


def row(name: str, cost: tuple[float, float], nll: tuple[float, float]) -> dict[str, Any]:
    low_high = {"cost_low": cost[0], "cost_high": cost[1], "nll_low": nll[0], "nll_high": nll[1]}
    return {"series": name, "cost": sum(cost) / 2, "nll": sum(nll) / 2} | low_high


def test_standings_by_hand() -> None:
    rows = [
        row("plain", (1, 1), (1.0, 1.1)), row("scaled", (1, 1), (0.8, 0.9)), row("dear", (2.0, 2.1), (0.6, 0.7)),
        row("useless", (1.5, 1.6), (0.95, 0.99)), row("close", (1.9, 2.2), (0.65, 0.79)),
    ]  # fmt: skip
    found = {each.name: each for each in standings(rows)}
    assert found["plain"].beaten_by == ("scaled",)
    assert found["scaled"].beaten_by == found["scaled"].like == ()
    assert found["useless"].beaten_by == ("scaled",)
    assert found["close"].like == ("dear",)
    assert found["dear"].like == ("close",)
    single = [one | {"nll_low": math.nan, "nll_high": math.nan} for one in rows[:2]]
    assert [each.like for each in standings(single)] == [("scaled",), ("plain",)], "one repeat tells nothing"


BOUNDS = st.tuples(st.integers(1, 9), st.integers(0, 3)).map(lambda pair: (float(pair[0]), float(sum(pair))))


@given(st.lists(st.tuples(BOUNDS, BOUNDS), min_size=2, max_size=6))
def test_standings_hold_for_every_truth_within_the_intervals(boxes: list[Any]) -> None:
    """What is called beaten is so at both ends; the front is beaten by none; not all can be beaten."""
    rows = [row(str(index), *box) for index, box in enumerate(boxes)]
    found = standings(rows)
    assert not all(each.beaten_by for each in found)
    by_name = {one["series"]: one for one in rows}
    for each in found:
        mine = by_name[each.name]
        for name in each.beaten_by:
            other = by_name[name]
            assert other["cost_high"] <= mine["cost_low"]
            assert other["nll_high"] <= mine["nll_low"]
        if not each.beaten_by and not each.like:
            for other in rows:
                dearer = other["cost_low"] > mine["cost_high"] or other["nll_low"] > mine["nll_high"]
                assert other is mine or dearer


def test_the_sentence_names_front_dominated_and_undecided() -> None:
    said = methods_section(method_frames())["sentences"]
    assert len(said) == 1
    assert said[0].startswith("ResNet-18, width 0.25 on photographs, N = 1, batch 64. On the front")
    front, dominated, open_ = said[0].split(". ", 1)[1].split(". ")
    assert "IVON (cost 1.03, NLL 0.9)" in front
    assert "deterministic (cost 1, NLL 1.1) by temperature-scaled" in dominated
    assert "reparameterization (cost 1.2, NLL 1.25) by deterministic, temperature-scaled and IVON" in dominated
    assert (
        open_
        == "Cannot be told apart by their 95% intervals: flipout (cost 2.1, NLL 0.95) from temperature-scaled and IVON."
    )
    alone = pd.DataFrame(method_rows()).query("method == 'IVON'").assign(series="IVON")
    assert sentence(alone) == ""
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")


def test_the_page_has_a_row_per_method_and_shift_and_no_number_that_is_none(tmp_path: Path) -> None:
    bare = dict.fromkeys(("nll_low", "nll_high", "ood_auroc_entropy"), math.nan)
    tables = built_campaign()[1] | method_frames([each | bare for each in method_rows()])
    write_report(built_campaign()[0], tables, {}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    text = " ".join(Page(page).text)
    assert page.count("cnn-kernels (base)") == len(method_rows())
    assert "Cannot be told apart by their 95% intervals: " in text
    assert not {"nan", "NaN", "<NA>", "None"} & set(text.split())
    empty = built_campaign()[1] | method_frames([])
    write_report(built_campaign()[0], empty, {}, tmp_path / "report.html")
    assert "No method was set beside another" in (tmp_path / "report.html").read_text()
