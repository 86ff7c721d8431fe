"""What the page knows of figures' series and points, and the exact values beside its texts."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.marks import COUNTER, KEYS, Mark, entry, mark, mark_points, marked, number_marks
from campaign.results.figures.style import finish, save
from campaign.results.report.facets import choices, facets, token
from campaign.results.report.figure_rows import figure_rows
from campaign.results.report.grid import exact
from campaign.results.report.series import Points, rerun
from campaign.results.report.svg import inline_svg
from campaign.results.tables.schemas import TABLES
from tests.support.cells import built_campaign

values = st.one_of(st.text(), st.integers(-(2**53), 2**53))


@given(st.text(), st.text(), st.lists(st.tuples(values, values), max_size=4), st.integers(0, 999))
def test_a_mark_is_read_as_it_was_written(
    series: str, table: str, points: list[tuple[object, ...]], index: int
) -> None:
    mark = Mark(series, table, "value", tuple(points))
    assert Mark.read(f"{mark.text()}{COUNTER}{index}") == mark


@pytest.mark.parametrize("text", ["", "patch_1", "mark:", "mark:[]##1", "mark:{}##1", "mark:[1,2]##3", "mark:x"])
def test_another_id_is_no_mark(text: str) -> None:
    assert Mark.read(text) is None


def test_ids_of_marks_are_unique_and_the_same_however_often_a_figure_is_saved(tmp_path: Path) -> None:
    figure = Figure()
    ax = figure.subplots()
    rows = pd.DataFrame([dict.fromkeys(KEYS, 1)])
    for _ in range(3):
        mark_points(ax.plot([1], [2], marker="o")[0], "one ## series", "cells", "steps", rows)
    save(figure, tmp_path / "a.svg", tmp_path / "a.png")
    first = (tmp_path / "a.svg").read_bytes()
    number_marks(figure)
    save(figure, tmp_path / "a.svg", tmp_path / "a.png")
    assert (tmp_path / "a.svg").read_bytes() == first
    ids = re.findall(r"id='(mark:[^']*)'", html.unescape(first.decode()))
    assert len(ids) == len(set(ids)) == 3


def test_all_that_is_drawn_within_a_block_is_of_its_series_and_nothing_else() -> None:
    ax = Figure().subplots()
    (before,) = ax.plot([1, 2])
    rows = built_campaign()[1]["cells"].iloc[:2]
    with marked(ax, "inside", rows):
        (line,) = ax.plot([1, 2])
        band = ax.fill_between([0, 1], [0, 1], [1, 2])
        mark(named := ax.annotate("x", (0, 0)), "own")
    (after,) = ax.plot([1, 2])
    assert before.get_gid() is after.get_gid() is None
    for artist in (line, band):
        found = Mark.read(f"{artist.get_gid()}{COUNTER}0")
        assert found is not None
        assert (found.series, found.value) == ("inside", "")
        assert found.points == tuple(tuple(row[key] for key in KEYS) for row in rows.to_dict("records"))
    assert named.get_gid() == Mark("own").text()


def drawn(tmp_path: Path, tables: dict[str, pd.DataFrame]) -> str:
    plan, made = built_campaign()
    save(draw_figure("fig2a", made, Context.from_plan(plan)), tmp_path / "x.svg", tmp_path / "x.png")
    return str(inline_svg(tmp_path / "x.svg", "fig2a", "label", Points(tables)))


def test_points_say_what_their_rows_say_and_an_old_figures_points_say_nothing(tmp_path: Path) -> None:
    tables = dict(built_campaign()[1])
    text = drawn(tmp_path, tables)
    bars = tables["throughput"].query("model == 'vgg16'")
    bars = bars[bars["roles"].str.contains("scaling") & bars["throughput_steady"].notna()]
    for value in bars["throughput_steady"]:
        assert f": {value:.6g} samples/s" in text
    assert text.count("data-point") == text.count("<title>") > len(bars)
    assert "mark:" not in text
    gone = drawn(tmp_path, tables | {name: tables[name].iloc[:0] for name in ("throughput", "cells")})
    assert "data-point" not in gone
    assert "<title>" not in gone
    assert gone.count("data-series") == text.count("data-series")


def test_an_image_of_which_nothing_can_be_asked_is_an_image_and_others_are_groups(tmp_path: Path) -> None:
    for entries, role in ((False, "img"), (True, "group")):
        figure = Figure()
        ax = figure.subplots()
        (line,) = ax.plot([1, 2], label="a series")
        mark(line, "a series")
        finish(figure, "title", [entry(line)] if entries else [], [])
        save(figure, tmp_path / "x.svg", tmp_path / "x.png")
        text = str(inline_svg(tmp_path / "x.svg", "x", "label", Points({})))
        assert f'role="{role}"' in text
        assert text.count('data-entry="a series"') == (2 if entries else 0)  # its sample and its name
        assert text.count('data-series="a series"') == 1


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4))
def test_coordinates_are_rounded_to_a_hundredth_of_a_point(
    tmp_path_factory: pytest.TempPathFactory, x: float, y: float
) -> None:
    path = tmp_path_factory.mktemp("svg") / "x.svg"
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">'
        f'<path d="M {x:f} {y:f} \n L 0.123456 1e-7 z"/></svg>'
    )
    written = re.search(r' d="M (\S+) (\S+) L (\S+) 1e-7 z"', str(inline_svg(path, "f", "l")))
    assert written is not None
    assert abs(float(written[1]) - x) <= 0.00501
    assert abs(float(written[2]) - y) <= 0.00501


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**62), 2**62)))
def test_exact_values_are_read_back_as_they_were(value: float) -> None:
    assert type(value)(exact(value)) == value
    assert exact(np.float64(value)) == exact(float(value))


def test_what_is_not_there_is_empty() -> None:
    assert [exact(each) for each in (None, float("nan"), pd.NA, "")] == [""] * 4
    assert [exact(each) for each in (True, np.bool_(False), "a b")] == ["True", "False", "a b"]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_tokens_are_single_words_that_tell_values_apart(found: list[str]) -> None:
    tokens = [token(value) for value in found]
    assert all(re.fullmatch(r"[\w.:+%~-]+", each, re.ASCII) for each in tokens)
    assert len(set(tokens)) == len(set(found))
    attributes = facets([{"variant": value} for value in found])
    assert set(attributes["data-variant"].split(" ")) == set(tokens)


def test_a_choice_is_offered_where_there_are_several_values() -> None:
    tables = built_campaign()[1]
    offered = {each["name"]: [option["words"] for option in each["options"]] for each in choices(tables)}
    assert offered["verdict"] == ["OK", "WARN", "INVALID", "MISSING"]
    assert offered["kind"] == ["bnn", "cnn"]
    assert "claim" not in offered
    assert "kind" not in {each["name"] for each in choices(tables | {"cells": tables["cells"].query("kind == 'bnn'")})}


def test_rows_of_a_figure_are_exact_and_cannot_end_their_element() -> None:
    tables = built_campaign()[1]
    hostile = tables["throughput"].assign(engine="</script>&<b>", throughput_low=float("inf"))
    found = figure_rows("fig2a", tables | {"throughput": hostile})
    assert not set("<>&") & set(found["json"])
    read = json.loads(found["json"])
    assert read["columns"]["engine"] == "</script>&<b>"
    assert read["columns"]["throughput_low"] is None
    wanted = hostile[hostile["roles"].str.contains("scaling") & (hostile["model"] == "vgg16")]
    assert read["columns"]["throughput_steady"] == [None if pd.isna(x) else x for x in wanted["throughput_steady"]]
    assert list(read["columns"]) == TABLES["throughput"].names
    assert figure_rows("fig1", tables)["table"] == ""


def test_more_rows_than_the_page_can_hold_are_named_only() -> None:
    tables = built_campaign()[1]
    many = pd.concat([tables["throughput"]] * 100)
    found = figure_rows("fig2a", tables | {"throughput": many})
    assert found["json"] == ""
    assert found["count"] > 1000


@pytest.mark.parametrize("repeats", [[1], [1, 2, 3]])
def test_the_command_names_the_repeats_folders_whatever_a_model_is_called(tmp_path: Path, repeats: list[int]) -> None:
    row = built_campaign()[1]["throughput"].iloc[0].to_dict() | {"model": "package.module:function", "variant": "a b;c"}
    command = rerun(row, repeats)
    script = command.replace("rm -r", "printf '%s\\n'").partition(" && ")[0]
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    assert len(said) == len(repeats)
    assert all(f"repeat={repeat}" in folder for repeat, folder in zip(repeats, said, strict=True))
    assert rerun(row, []) == ""
