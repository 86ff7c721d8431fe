"""Pages of cells: one for each, whatever became of it, true to the tables, and none that is left from before."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from campaign.names.cell import Cell
from campaign.results.report import write_report
from campaign.results.report.step_chart import HEIGHT, MOST, WIDTH, step_chart, thinned
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
        {"attempt": 1, "step": index, "phase": "warmup" if warm else "steady", "seconds": seconds}
        for index, (seconds, warm) in enumerate(steps)
    ]
    text = step_chart(pd.DataFrame(rows))
    assert text is not None
    points = re.search(r'points="([^"]+)"', text)
    assert points is not None
    places = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    assert len(places) == len(steps)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    order = np.argsort([seconds for seconds, _ in steps], kind="stable")
    heights = [places[index][1] for index in order]
    assert heights == sorted(heights, reverse=True)
    assert ("stroke-dasharray" in text) == any(not warm for _, warm in steps)
    assert step_chart(pd.DataFrame(rows).iloc[:0]) is None
