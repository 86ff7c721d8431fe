"""A report whose long tables are folded, in a real browser: groups, the pages of their rows, and the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from campaign.results.report import folded as folding
from campaign.results.report import write_report
from tests.support.browser import Visit, assert_readable, need_chromium
from tests.support.cells import built_campaign

pytestmark = need_chromium
MOST = 12  # rows of a table on the page; more are folded


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    plan, tables = built_campaign()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(folding, "MOST", MOST)
        write_report(plan, tables, {}, folder / "report.html", cells=folder / "report" / "cells")
    assert len(tables["cells"]) > MOST
    return folder / "report.html"


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    opened = Visit(browser, viewport={"width": 1300, "height": 900})
    yield opened
    opened.context.close()


def rows(page: Page, table: str) -> list[dict[str, Any]]:
    """Of each row of a table that is not hidden its texts, its facets, and the place that its first cell leads to."""
    script = """(table) => [...document.querySelectorAll(`${table} tbody tr`)].filter((row) => !row.hidden)
      .map((row) => ({texts: [...row.cells].map((cell) => cell.textContent.trim()), facets: {...row.dataset},
                      href: row.querySelector('a')?.href ?? ''}))"""
    return list(page.evaluate(script, table))


def test_a_group_leads_to_its_rows_and_each_of_them_to_its_cell(visit: Visit, report: Path) -> None:
    cells = built_campaign()[1]["cells"]
    page = visit.open(report)
    groups = rows(page, "#cells-table")
    assert 1 < len(groups) <= MOST
    found: Counter[str] = Counter()
    for group in groups:
        page.goto(group["href"])
        here = rows(page, "table")
        assert len(here) == int(group["facets"]["rows"]) == int(group["texts"][0])
        for facet in ("model", "kind", "variant"):
            assert {row["facets"][facet] for row in here} == set(group["facets"][facet].split()), facet
        found.update(row["href"] for row in here)
    assert len(found) == len(cells)
    assert set(found.values()) == {1}
    page.goto(next(iter(found)))
    assert page.locator("#values tbody tr").count() == cells.shape[1]
    assert visit.said == []


def test_a_choice_leaves_the_groups_that_have_it(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    everything = rows(page, "#cells-table")
    page.get_by_label("kind", exact=True).select_option("bnn")
    wanted = [row for row in everything if row["facets"]["kind"] == "bnn"]
    assert 0 < len(wanted) < len(everything)
    assert rows(page, "#cells-table") == wanted
    cells = built_campaign()[1]["cells"]
    of_kind = int((cells["kind"] == "bnn").sum())
    assert page.locator("#filters output").inner_text() == f"{of_kind} of {len(cells)} cells"
    assert visit.said == []


def test_rows_of_a_group_sort_and_lead_back(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    largest = max(rows(page, "#cells-table"), key=lambda row: int(row["facets"]["rows"]))
    page.goto(largest["href"])
    head = page.locator("th", has=page.locator("button[aria-label='sort by steady (samples/s)']"))
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    at = head.evaluate("(one) => one.cellIndex")
    script = "(at) => [...document.querySelectorAll('tbody tr')].map((row) => row.cells[at].dataset.v ?? '')"
    rates = [float(value.split()[0]) for value in page.evaluate(script, at) if value]
    assert len(rates) > 1
    assert rates == sorted(rates)
    page.locator("nav a").click()
    page.wait_for_url("**/report.html")
    assert visit.said == []


def test_they_can_be_read(browser: Browser, report: Path) -> None:
    assert_readable(browser, report)
    of_each_kind = {path.parent: path for path in report.parent.glob("report/*/*.html")}
    assert len(of_each_kind) == 2  # cells, and rows
    for path in of_each_kind.values():
        assert_readable(browser, path)


def test_without_scripts_groups_lead_to_their_rows(browser: Browser, report: Path) -> None:
    visit = Visit(browser, java_script_enabled=False)
    page = visit.open(report)
    link = page.locator("#cells-table tbody a").first
    link.click()
    assert page.locator("table tbody tr:visible").count() > 0
    assert page.locator("button:visible, select:visible").count() == 0
    visit.context.close()
