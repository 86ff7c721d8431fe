"""The page of `campaign compare` in a real browser: it complains of nothing, hides nothing, and fits a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser

from campaign.results.compare.said import LOST
from campaign.tell.cli import cli
from tests.support.browser import Visit, assert_readable, need_chromium
from tests.support.comparisons import measured, write_side

pytestmark = need_chromium
HOSTILE = "<img-src=x-onerror=alert(1)>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of cells one is slower, one lost, one of each side alone, and one measured something else."""
    folder = tmp_path_factory.mktemp("compared")
    rates = [100.0, 101.0, 99.5]
    alike = measured(rates, variant="alike")
    lost = [row | {"counted": False, "verdict": "INVALID"} for row in measured(rates, variant="lost")]
    a = [*alike, *measured(rates), *measured(rates, variant="lost"), *measured(rates, variant=HOSTILE),
         *measured(rates, variant="other", threads=2)]  # fmt: skip
    b = [*alike, *measured([rate / 2 for rate in rates]), *lost, *measured(rates, variant="new"),
         *measured(rates, variant="other", threads=4)]  # fmt: skip
    sides = [str(write_side(folder / name, rows)) for name, rows in (("a", a), ("b", b))]
    done = CliRunner().invoke(cli, ["compare", *sides, "--all", "--out", str(folder / "c.html")])
    assert (folder / "c.html").exists(), done.output
    return folder / "c.html"


def test_it_can_be_read(browser: Browser, made: Path) -> None:
    assert_readable(browser, made)


def test_everything_that_was_found_is_told(browser: Browser, made: Path) -> None:
    visit = Visit(browser)
    page = visit.open(made)
    text = page.locator("body").inner_text()
    for words in ("worse", LOST, "Only in A", "Only in B", "Refused", HOSTILE):
        assert words in text
    assert page.locator("img").count() == 0
    lists = page.locator("section", has=page.locator("h2", has_text="Lost")).locator("li").all_inner_texts()
    assert lists == ["synthetic vgg16 bnn nodes=1 batch=16 lost"]
    visit.context.close()
