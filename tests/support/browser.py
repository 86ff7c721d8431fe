"""A real browser without a window, for pages that are opened from the file system."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
with_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
need_chromium = [pytest.mark.browser, with_chromium]


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Visit:
    """An opened page, with everything it asked for and complained of."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.context.set_default_timeout(10_000)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: Path, hash_: str = "") -> Page:
        self.page.goto("about:blank")
        self.page.goto(path.as_uri() + hash_)
        return self.page


WIDTHS = (390, 1300, 1920)  # of a telephone, a window, a large screen


def assert_readable(browser: Browser, path: Path) -> None:
    """What holds of every page that the program writes, with all that is folded open, in light and dark.

    It asks for nothing and complains of nothing, no width scrolls sideways, no figure is empty, axe-core finds nothing.
    """
    for scheme in ("light", "dark"):
        visit = Visit(browser, color_scheme=scheme)
        page = visit.open(path)
        page.evaluate("document.querySelectorAll('details:not(td *)').forEach((fold) => { fold.open = true; })")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        script = """[...document.querySelectorAll('figure')]
          .filter((one) => one.querySelectorAll('svg path, svg use, svg text').length < 10).map((one) => one.id)"""
        assert (empty := page.evaluate(script)) == [], empty
        for alike in ("details.one ~ details.one", "tbody tr:nth-child(n+5)"):  # which axe would find again
            page.evaluate("(alike) => document.querySelectorAll(alike).forEach((each) => each.remove())", alike)
        assert (found := violations(page)) == [], found
        assert [request for request in visit.asked if request != "about:blank"] == [path.as_uri()], visit.asked
        assert visit.said == [], visit.said
        visit.context.close()


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Rules of axe-core that the page breaks, with what breaks them."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found]
