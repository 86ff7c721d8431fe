"""The report in a real browser, opened from the file system."""

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from campaign.results.figures.catalogue import FIGURES
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.style import save
from campaign.results.report import write_report
from tests.support.cells import built_campaign

# This campaign has no jobs of inference and pruning, and no GPUs; their figures have tests of their own.
DRAWN = [name for name in FIGURES if not (FIGURES[name].inferred or FIGURES[name].sweeps or FIGURES[name].devices)]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1250,2400",
    "--enable-logging=stderr",
    "--v=0",
]

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    plan, tables = built_campaign()
    folder = tmp_path_factory.mktemp("page")
    figures = {name: folder / f"{name}.svg" for name in DRAWN}
    for name, path in figures.items():
        save(draw_figure(name, tables, Context.from_plan(plan)), path, path.with_suffix(".png"))
    write_report(plan, tables, figures, folder / "report.html")
    return folder / "report.html"


def browse(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_page_is_built_without_errors(page, tmp_path):
    done = browse(page, tmp_path, "--dump-dom")
    assert done.returncode == 0
    for section in (
        "numbers",
        "reading",
        "figures",
        "inference",
        "pruning",
        "absent",
        "parameters",
        "cells",
        "provenance",
        "files",
    ):
        assert f'<section id="{section}">' in done.stdout
    for name in DRAWN:
        assert f'<figure id="{name}">' in done.stdout
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not console
    # the script ran: it makes headings reachable by keyboard
    assert re.search(r"<th[^>]*data-sort[^>]*tabindex", done.stdout)


def test_filtering_and_sorting(page, tmp_path):
    act = """
      document.querySelector('.filter button[data-verdict="INVALID"]').click();
      document.querySelectorAll('#cells-table th')[9].click();
      const rows = [...document.querySelectorAll('#cells-table tbody tr')];
      document.body.dataset.shown = rows.filter((row) => !row.hidden).length;
      document.body.dataset.sort = document.querySelectorAll('#cells-table th')[9].getAttribute('aria-sort');
    """
    scripted = tmp_path / "scripted.html"
    scripted.write_text(allowed(with_script(page.read_text(), act), act))
    done = browse(scripted, tmp_path / "profile", "--dump-dom")
    body = re.search(r"<body[^>]*>", done.stdout)
    assert body is not None
    assert 'data-shown="1"' in body.group()
    assert 'data-sort="ascending"' in body.group()


def with_script(text: str, script: str) -> str:
    return text.replace("</body>", f"<script>{script}</script></body>")


def allowed(text: str, script: str) -> str:
    """The page, whose policy allows this script, too."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert text.count("script-src ") == 1
    return text.replace("script-src ", f"script-src 'sha256-{digest}' ")


def test_nothing_runs_and_nothing_is_styled_but_by_the_page_itself(page, tmp_path):
    text = page.read_text()
    assert "unsafe" not in text
    act = "document.body.dataset.ran = '1';"
    hostile = with_script(text, act).replace("<h1>", '<h1 style="color: rgb(1, 2, 3)" onclick="x()">', 1)
    look = "document.body.dataset.colour = getComputedStyle(document.querySelector('h1')).color;"
    path = tmp_path / "hostile.html"
    path.write_text(allowed(with_script(hostile, look), look))
    done = browse(path, tmp_path / "profile", "--dump-dom")
    body = re.search(r"<body[^>]*>", done.stdout)
    assert body is not None
    assert "data-ran" not in body.group()
    assert "data-colour" in body.group()
    assert "rgb(1, 2, 3)" not in body.group()


def test_a_screenshot_is_not_blank(page, tmp_path):
    from matplotlib.image import imread

    shot = tmp_path / "shot.png"
    browse(page, tmp_path / "profile", f"--screenshot={shot}")
    pixels = imread(shot)[..., :3]
    assert pixels.shape[1] == 1250
    # words and pictures in every third of the first screens
    for third in range(3):
        part = pixels[third * len(pixels) // 3 : (third + 1) * len(pixels) // 3]
        assert part.std() > 0.03
