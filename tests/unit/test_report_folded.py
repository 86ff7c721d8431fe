"""Tables that are too long for the page: by group there, whole on pages beside it, and no link leads nowhere."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign.results.report import baselines, write_report
from campaign.results.report import folded as folding
from campaign.results.report.folded import GROUPED, Folded
from campaign.results.report.grid import Column, grid
from tests.support.cells import built_campaign
from tests.support.methods import method_frames

HREF, ID = re.compile(r'href="([^"]+)"'), re.compile(r'\bid="([^"]+)"')


def written(folder: Path) -> Path:
    plan, tables = built_campaign()
    write_report(plan, tables, {}, folder / "toy" / "report.html", cells=folder / "toy" / "report" / "cells")
    return folder / "toy" / "report.html"


def test_links_of_a_folded_report_lead_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "toy" / "report" / "rows"
    rows.mkdir(parents=True)
    (rows / "gone-table-1.html").write_text("of a table that is folded no more")
    monkeypatch.setattr(folding, "MOST", 12)
    report = written(tmp_path)
    pages = sorted(rows.iterdir())
    assert {path.name.rpartition("-")[0] for path in pages} >= {"cells-table", "mpi-checks"}
    assert rows / "gone-table-1.html" not in pages
    texts = {path: path.read_text() for path in (report, *pages)}
    places = {path: set(map(unescape, ID.findall(text))) for path, text in texts.items()}
    for path, text in texts.items():
        for link in map(unescape, HREF.findall(text)):
            file, _, place = link.partition("#")
            to = (path.parent / unquote(file)).resolve() if file else path
            assert to.exists(), link
            assert not place or to not in places or place in places[to], link


@pytest.mark.parametrize("most", [300, 12])
def test_a_long_table_of_a_section_is_folded_too(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 rows of methods."""
    monkeypatch.setattr(folding, "MOST", most)
    plan, tables = built_campaign()
    report = tmp_path / "toy" / "report.html"
    write_report(plan, tables | method_frames(), {}, report, cells=tmp_path / "toy" / "report" / "cells")
    pages = list((report.parent / "report" / "rows").glob("methods-table-*.html"))
    text = "".join(path.read_text() for path in pages) if most < 24 else report.read_text()
    assert bool(pages) == (most < 24)
    assert text.count("<td>IVON</td>") == 2 * 4, "its method and its variant, by shift"
    assert ("Its 24 rows by data set" in report.read_text()) == (most < 24)


def test_every_row_is_in_one_group_and_on_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = built_campaign()[1]
    whole = {row for row in ID.findall(written(tmp_path / "whole").read_text()) if row.startswith("cell-")}
    assert len(whole) == len(tables["cells"])
    monkeypatch.setattr(folding, "MOST", 12)
    report = written(tmp_path / "folded")
    table = re.search(r'<table id="cells-table">.*?</table>', report.read_text(), re.DOTALL)
    assert table
    assert sum(map(int, re.findall(r'data-rows="(\d+)"', table[0]))) == len(whole)
    found = [
        name for path in (report.parent / "report" / "rows").glob("cells-*") for name in ID.findall(path.read_text())
    ]
    assert Counter(name for name in found if name.startswith("cell-")) == dict.fromkeys(whole, 1)
    assert f"Its {len(whole)} rows by data set, network, kind and variant" in report.read_text()


def test_of_few_rows_nothing_is_folded_and_no_page_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(folding, "MOST", 12)
        written(tmp_path)
    report = written(tmp_path)
    assert not list((report.parent / "report" / "rows").iterdir())
    assert "data-rows" not in report.read_text()
    assert "report/rows" not in report.read_text()


words = st.sampled_from("abcdef")
records = st.lists(
    st.fixed_dictionaries(
        {
            "dataset": words, "model": words, "kind": st.sampled_from(["bnn", "cnn"]), "variant": words,
            "verdict": st.sampled_from(["OK", "WARN", "INVALID", "MISSING"]),
            "value": st.floats(-1e6, 1e6) | st.just(float("nan")),
        }
    ),
    min_size=1, max_size=60,
)  # fmt: skip
COLUMNS = (
    Column("verdict", "verdict", "verdict", "verdict"),
    Column("model", "model", "model"),
    Column("value", "value", "value", "n"),
)


@given(records, st.integers(1, 20))
def test_groups_say_what_their_rows_say(found: list[dict[str, Any]], most: int) -> None:
    def texts(record: dict[str, Any]) -> dict[str, Any]:
        return {"record": record, "verdict": record["verdict"], "model": record["model"], "value": str(record["value"])}

    table = grid("some-table", "Some", COLUMNS, map(texts, found))
    keeper = Folded()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(folding, "MOST", most)
        made = keeper.fold(table)
    if len(found) <= most:
        assert made is table
        assert not keeper.pages
        return
    assert made["folded"] == len(found)
    assert len(made["rows"]) == len(keeper.pages) <= most
    assert len(made["columns"]) == len(COLUMNS) + 1
    for row, page in zip(made["rows"], keeper.pages.values(), strict=True):
        rows = page["rows"]
        assert row["cells"][0]["text"] == str(len(rows)) == row["attributes"]["data-rows"]
        for name in (*GROUPED, "data-verdict"):
            assert set(row["attributes"][name].split()) == {each["attributes"][name] for each in rows}
        verdicts = Counter(each["cells"][0]["text"] for each in rows)
        beside = row["cells"][1]["beside"]
        assert {word.split()[1]: int(word.split()[0]) for word in beside.split(", ")} == verdicts
        assert row["cells"][1]["text"] == max(verdicts, key=["OK", "WARN", "INVALID", "MISSING"].index)
        values = [float(each["cells"][2]["text"]) for each in rows]
        known = [value for value in values if value == value]  # noqa: PLR0124  # NaN is not itself
        shown = row["cells"][3]["text"]
        if known and "…" in shown:
            assert [float(end) for end in shown.split(" … ")] == [min(known), max(known)]
        elif known and "different" not in shown:
            assert float(shown) == min(known) == max(known)


def test_where_every_baseline_would_be_too_many_numbers_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "MOST", 3)
    page = written(tmp_path).read_text()
    assert "to every baseline there is, do not fit on this page (limit 3)" in page
    assert 'id="baseline-nodes"' not in page
