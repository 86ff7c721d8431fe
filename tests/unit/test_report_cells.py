"""Pages of cells: one for each, whatever became of it, true to the tables, and none that is left from before."""

from __future__ import annotations

import re
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from campaign.names.cell import Cell
from campaign.results.report import write_report
from campaign.results.report.charts import HEIGHT, MOST, WIDTH, charts, level_from, step_chart, step_words, thinned
from campaign.results.report.origin import spans
from campaign.results.tables.build import build_tables
from tests.support.cells import entry, plan, write_cell

ATTACK = "<script>alert(1)</script>"
Made = tuple[Path, dict[str, pd.DataFrame]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    cells = [entry(kind="bnn"), entry(kind="cnn"), entry(nodes=2)]
    write_cell(tmp_path, cells[0], host=ATTACK + "{rank}", status="WARN", reasons=(ATTACK,))
    write_cell(tmp_path, cells[1], profiled=False)
    tables = build_tables(plan(cells), tmp_path)
    folder = tmp_path / "toy" / "report" / "cells"
    folder.mkdir(parents=True)
    (folder / "gone_cell.html").write_text("of a cell that is no more")
    (folder / "notes.txt").write_text("not ours")
    write_report(plan(cells), tables, {}, tmp_path / "toy" / "report.html", cells=folder)
    return folder, tables


def test_a_page_for_each_cell_and_none_left_over(made: Made) -> None:
    folder, tables = made
    names = [Cell(**{key: row[key] for key in Cell.__dataclass_fields__}).name for _, row in tables["cells"].iterrows()]
    assert {path.name for path in folder.iterdir()} == {"notes.txt", *(f"{name}.html" for name in names)}
    report = (folder.parents[1] / "report.html").read_text()
    links = re.findall(r'href="(report/[^"]+)"', report)
    assert sorted(links) == sorted(f"report/cells/{name}.html" for name in names)
    for name in names:
        text = (folder / f"{name}.html").read_text()
        back = re.findall(r'href="\.\./\.\./report\.html#(cell-[^"]+)"', text)
        assert len(back) == 1
        assert f'id="{back[0]}"' in report
        for link in re.findall(r'href="(\.\./\.\./cells/[^"]+)"', text):
            assert (folder / link).is_file() or link.endswith("job.log")


def test_what_comes_from_logs_is_escaped_and_what_is_not_there_is_said(made: Made) -> None:
    pages = {path.name: path.read_text() for path in made[0].glob("*.html")}
    assert not any(ATTACK in text for text in pages.values())
    assert sum(ATTACK in unescape(text) for text in pages.values()) == 1
    assert sum("has left no record of its steps" in text for text in pages.values()) == 1
    assert sum("MPI_Allreduce" in text for text in pages.values()) == 1
    assert not any(re.search(r">(nan|None|NaN|<NA>)<", text) for text in pages.values())


def test_without_pages_the_report_leads_to_none(tmp_path: Path) -> None:
    cells = [entry()]
    write_report(plan(cells), build_tables(plan(cells), tmp_path), {}, tmp_path / "report.html")
    assert 'href="report/' not in (tmp_path / "report.html").read_text()


@given(arrays(float, st.integers(1, 3 * MOST), elements=st.floats(1e-6, 1e3)))
def test_no_peak_is_lost_of_many_steps(seconds: np.ndarray) -> None:
    kept = thinned(seconds)
    assert len(kept) <= 2 * MOST
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert seconds[kept].max() == seconds.max()
    assert seconds[kept].min() == seconds.min()
    assert len(kept) == len(seconds) or np.diff(np.append(kept, len(seconds))).max() < 2 * -(-len(seconds) // MOST)


@given(st.lists(st.tuples(st.floats(1e-6, 1e3), st.booleans()), min_size=1, max_size=60))
def test_every_step_is_within_the_image(steps: list[tuple[float, bool]]) -> None:
    rows = [
        {"attempt": 1, "step": index, "phase": "warmup" if warm else "steady", "seconds": seconds,
         "seconds_exchange": seconds / 2}
        for index, (seconds, warm) in enumerate(steps)
    ]  # fmt: skip
    text = step_chart(made := pd.DataFrame(rows), *level_from(made))
    points = re.search(r'points="([^"]+)"', text)
    assert points is not None
    places = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    assert len(places) == len(steps)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    order = np.argsort([seconds for seconds, _ in steps], kind="stable")
    heights = [places[index][1] for index in order]
    assert heights == sorted(heights, reverse=True)
    assert ("stroke-dasharray" in text) == any(not warm for _, warm in steps)


def steps_of(seconds: list[float], warm: int, **more: Any) -> pd.DataFrame:
    count = len(seconds)
    phases = ["warmup"] * warm + ["steady"] * (count - warm)
    plain = dict.fromkeys(("loss", "nll", "accuracy", "accuracy_running"), np.linspace(0.1, 0.9, count))
    return pd.DataFrame({"attempt": 1, "step": range(count), "phase": phases, "seconds": seconds,
                         "seconds_exchange": 0.0} | plain | more)  # fmt: skip


@pytest.mark.parametrize(("warm", "words"), [(3, "which the warm-up covers"), (1, "later than the warm-up ends")])
def test_a_change_point_is_drawn_and_set_beside_the_warm_up(warm: int, words: str) -> None:
    steps = steps_of([0.3, 0.29, 0.31] + [0.1, 0.101] * 15, warm)
    assert step_words(steps, *level_from(steps)).endswith(f"a change point after 3 steps, {words}.")
    assert f"the first {warm} step{'s' if warm > 1 else ''} of an attempt" in step_words(steps, *level_from(steps))
    (x,) = re.findall(r'<line x1="([0-9.]+)"[^>]*stroke-dasharray="1 3"', step_chart(steps, *level_from(steps)))
    shaded = re.findall(r'<rect x="([0-9.]+)"[^>]*width="([0-9.]+)"', step_chart(steps, *level_from(steps)))
    assert float(x) == pytest.approx(float(shaded[0][0]) + 3 * float(shaded[0][1]), abs=0.5)
    even = steps_of([0.1, 0.101] * 15, warm)
    assert step_words(even, *level_from(even)).endswith("Step times have no change point in their first half.")
    assert "1 3" not in step_chart(even, *level_from(even))


def test_of_several_attempts_the_change_point_is_of_the_one_that_counts() -> None:
    first = steps_of([0.1] * 6, 2)
    second = steps_of([0.4] * 4 + [0.1, 0.101] * 10, 4).assign(attempt=2)
    steps = pd.concat([first, second], ignore_index=True)
    assert "Dotted: step times of attempt 2 have a change point after 4 steps" in step_words(steps, *level_from(steps))


def test_what_has_no_value_is_not_drawn_and_gaps_are_left_out() -> None:
    steps = steps_of([0.1, 0.2, 0.1, 0.2, 0.1], 0)
    assert [chart["title"] for chart in charts(steps)] == ["Step times", "NLL", "Training accuracy"]
    told = charts(steps.assign(loss=[9, np.inf, 7, np.nan, 5.0], accuracy=np.nan, accuracy_running=np.nan))
    assert [chart["title"] for chart in told] == ["Step times", "NLL", "Loss"]
    (points,) = re.findall(r'points="([^"]+)"', told[2]["svg"])
    assert len(points.split()) == 3
    assert charts(steps.iloc[:0]) == []


@given(st.sets(st.integers(0, 60)))
def test_ranks_in_words_are_those_ranks(ranks: set[int]) -> None:
    words = spans(ranks)
    runs = [list(map(int, run.split(" to "))) for run in words.split(", ")] if words else []
    assert [n for run in runs for n in range(run[0], run[-1] + 1)] == sorted(ranks)
    assert all(later[0] > earlier[-1] + 1 for earlier, later in pairwise(runs))
