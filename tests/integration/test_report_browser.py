"""The report in a real browser, opened from the file system: it works, asks for nothing, says what the tables say."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from pypdf import PdfReader

from campaign.results.claims.ledger import load_ledger
from campaign.results.claims.rows import claim_rows
from campaign.results.figures.catalogue import FIGURES
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.style import save
from campaign.results.projection.site import project_site
from campaign.results.report import write_report
from campaign.results.report.page import SECTIONS
from campaign.results.tables.build import build_tables, frame
from campaign.results.tables.claims import CLAIMS
from tests.support.browser import Visit, need_chromium, violations
from tests.support.cells import built_campaign, small_campaign

# This campaign has no jobs of inference and pruning, and no GPUs; their figures have tests of their own.
NOT_HERE = ("inferred", "sweeps", "devices", "compared", "tuned")
DRAWN = [name for name, spec in FIGURES.items() if not any(getattr(spec, need) for need in NOT_HERE)]
pytestmark = need_chromium


@dataclass(frozen=True)
class Made:
    """A page and the tables that it was made from."""

    path: Path
    tables: dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("page")
    asked = {"here": "", "elsewhere": ["aries", "ethernet-10g"], "target_efficiency": 0.8}
    plan = small_campaign(folder / "records") | {"projection": asked}
    tables = build_tables(plan, folder / "records")
    tables |= {"claims": frame(claim_rows(load_ledger(), tables), CLAIMS)}
    tables |= project_site(plan, folder / "records", load_ledger())
    figures = {name: folder / f"{name}.svg" for name in DRAWN}
    for name, path in figures.items():
        save(draw_figure(name, tables, Context.from_plan(plan)), path, path.with_suffix(".png"))
    write_report(plan, tables, figures, folder / "report.html", cells=folder / "report" / "cells")
    return Made(folder / "report.html", tables)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    opened = Visit(browser, viewport={"width": 1300, "height": 900})
    yield opened
    opened.context.close()


@pytest.fixture
def page(visit: Visit, made: Made) -> Page:
    return visit.open(made.path)


def csv(page: Page, button: str) -> pd.DataFrame:
    """What a button saves."""
    with page.expect_download() as waited:
        page.evaluate("(selector) => document.querySelector(selector).click()", button)  # also of what is folded
    text = Path(waited.value.path()).read_bytes().decode()
    assert text.endswith("\r\n")
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


def shown(page: Page, table: str) -> list[list[str]]:
    """Texts of the rows of a table that are not hidden."""
    script = """(id) => [...document.getElementById(id).tBodies[0].rows].filter((row) => !row.hidden)
      .map((row) => [...row.cells].map((cell) => cell.dataset.v ?? cell.textContent.trim()))"""
    return page.evaluate(script, table)


def place(page: Page) -> str:
    return str(page.evaluate("location.hash"))


def test_nothing_is_asked_for_and_nothing_complained_of(visit: Visit, made: Made) -> None:
    page = visit.open(made.path)
    assert [request for request in visit.asked if request != "about:blank"] == [made.path.as_uri()]
    assert visit.said == []
    assert page.evaluate("[...document.querySelectorAll('main > section')].map((one) => one.id)") == list(SECTIONS)
    assert set(DRAWN) <= set(page.evaluate("[...document.querySelectorAll('figure')].map((one) => one.id)"))
    assert page.evaluate("document.querySelectorAll('.sort').length") > 50


def test_columns_sort_by_exact_values_and_what_has_none_is_last(page: Page, made: Made) -> None:
    cells = made.tables["cells"]
    head = page.locator("#cells-table th", has=page.locator("button[aria-label='sort by steady (samples/s)']"))
    for order in ("ascending", "descending"):
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        rates = [row[9].split() for row in shown(page, "cells-table")]
        known = [float(rate[0]) for rate in rates if rate]
        assert known == sorted(cells["throughput_steady"].dropna(), reverse=order == "descending")
        assert rates[len(known) :] == [[]] * int(cells["throughput_steady"].isna().sum())
    assert page.locator("#cells-table th[aria-sort]").count() == 1


def test_one_choice_filters_tables_claims_and_series_and_stays_in_the_address(visit: Visit, made: Made) -> None:
    page, cells = visit.open(made.path), made.tables["cells"]
    page.get_by_label("kind", exact=True).select_option("bnn")
    page.get_by_label("ranks", exact=True).select_option("2")
    wanted = cells[(cells["kind"] == "bnn") & (cells["ranks"] == 2)]

    def check() -> None:
        assert len(shown(page, "cells-table")) == len(wanted)
        assert page.locator("#filters output").inner_text() == f"{len(wanted)} of {len(cells)} cells"
        ratios = made.tables["ratios"]
        ratios = ratios[ratios["roles"].str.contains("scaling|large-batch")]
        assert len(shown(page, "ratios-table")) == (ratios["ranks"] == 2).sum()
        series = page.evaluate("""[...document.querySelectorAll('#fig2a [data-series]')].map((one) =>
          [one.dataset.kind, one.dataset.ranks, getComputedStyle(one).display])""")
        assert {kind for kind, _, _ in series} == {"bnn", "cnn"}
        for kind, ranks, display in series:
            assert (display == "none") == (kind != "bnn" or "2" not in ranks.split())
        assert "kind=bnn" in place(page)
        assert "ranks=2" in place(page)

    check()
    address = place(page)
    page.reload()
    check()
    page.evaluate("document.querySelector('nav a[href=\"#cells\"]').click()")  # a link keeps what was chosen
    page.wait_for_function("location.hash.startsWith('#cells?')")
    check()
    other = visit.open(made.path, address)
    check()
    other.get_by_role("button", name="show all").click()
    assert len(shown(page, "cells-table")) == len(cells)
    assert place(page) == ""
    page.get_by_label("claims", exact=True).select_option("differs")
    claims = made.tables["claims"]
    assert len(shown(page, "claims-table")) == (claims["verdict"] == "differs").sum() > 0
    assert shown(page, "claims-not-tested") == []
    assert len(shown(page, "cells-table")) == len(cells)
    assert visit.said == []


@pytest.mark.parametrize(
    "address", ["#cells?kind=nothing&sort-cells-table=none&off-fig2a=no&x=%3Cscript%3E", "#%zz", "#%"]
)
def test_an_address_that_leads_nowhere_is_read_as_all(visit: Visit, made: Made, address: str) -> None:
    page = visit.open(made.path, address)
    assert len(shown(page, "cells-table")) == len(made.tables["cells"])
    assert visit.said == []


def test_no_two_columns_of_a_table_have_the_same_name(page: Page) -> None:
    """They are sorted by it, and it is the heading of the column in the table's file."""
    names = page.evaluate("""[...document.querySelectorAll('main table[id]')].map((table) =>
      [table.id, [...table.querySelectorAll('th .sort')].map((one) => one.getAttribute('aria-label'))])""")
    assert len(names) > 5
    assert {table: sorted(found) for table, found in names if len(set(found)) < len(found)} == {}
    points = csv(page, "[aria-label='save points-table as CSV']")
    assert {"efficiency, 95% interval", "step time / baseline, 95% interval"} <= set(points)
    head = page.locator(
        "#points-table th", has=page.locator("[aria-label='sort by step time / baseline, 95% interval']")
    )
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.locator("#points-table th[aria-sort]").count() == 1


POINT = ["dataset", "model", "nodes", "batch_size", "variant"]
# Table of the page: the Parquet table that it shows, and what tells its rows apart.
SOURCES = {
    "cells-table": ("cells", [*POINT, "implementation", "repeat"]),
    "ratios-table": ("ratios", POINT),
    "efficiencies-table": ("scaling", [*POINT, "implementation"]),
    "claims-table": ("claims", ["statement"]),
    "mpi-checks": ("mpi_ranks", [*POINT, "implementation", "repeat"]),
}


@pytest.mark.parametrize("kind", ["", "bnn"])
def test_saved_tables_are_the_parquet_tables(page: Page, made: Made, kind: str) -> None:
    if kind:
        page.get_by_label("kind", exact=True).select_option(kind)
    for table, (source, keys) in SOURCES.items():
        saved, parquet = csv(page, f"[aria-label='save {table} as CSV']"), made.tables[source]
        if source == "mpi_ranks":
            parquet = parquet[parquet["rank"] == 0]
        both = saved.merge(parquet, on=keys, how="left", suffixes=("", "_parquet"), validate="one_to_one")
        assert len(both) == len(saved) > 0
        shared = [name for name in saved if f"{name}_parquet" in both]
        assert len(shared) >= 4, table
        for name in shared:
            ours, theirs = both[name], both[f"{name}_parquet"]
            if pd.api.types.is_numeric_dtype(theirs):
                ours, theirs = ours.astype(float), theirs.astype(float)
            assert ((ours == theirs) | (ours.isna() & (theirs.isna() | (theirs == "")))).all(), (table, name)
        if kind and source == "cells":
            assert len(saved) == (parquet["kind"] == kind).sum()


def test_saved_rows_of_figures_are_those_of_their_tables(page: Page, made: Made) -> None:
    throughput = made.tables["throughput"]
    wanted = throughput[throughput["roles"].str.contains("scaling") & (throughput["model"] == "vgg16")]
    saved = csv(page, "[aria-label='save the rows of fig2a as CSV']")
    assert list(saved) == list(throughput)
    for name in wanted:
        ours, theirs = saved[name], wanted[name].reset_index(drop=True)
        if pd.api.types.is_float_dtype(theirs):
            assert ((ours == theirs) | (ours.isna() & theirs.isna())).all(), name
    page.get_by_label("kind", exact=True).select_option("cnn")
    assert set(csv(page, "[aria-label='save the rows of fig2a as CSV']")["kind"]) == {"cnn"}


def test_a_legend_switches_its_series(visit: Visit, made: Made) -> None:
    page = visit.open(made.path)
    entry = page.locator("#fig2a [role=button]").first
    name = str(entry.get_attribute("data-entry"))
    script = (
        "(name) => [...document.querySelectorAll(`#fig2a [data-series='${name}']`)].map((one) => one.matches('.off'))"
    )
    assert not any(page.evaluate(script, name))
    entry.focus()
    page.keyboard.press("Space")
    assert all(page.evaluate(script, name))
    assert entry.get_attribute("aria-pressed") == "false"
    page.reload()
    assert all(page.evaluate(script, name))
    page.locator("#fig2a [role=button]").first.click()
    assert not any(page.evaluate(script, name))
    assert visit.said == []


def test_a_point_tells_its_value_and_how_to_run_it_again(page: Page, made: Made) -> None:
    throughput = made.tables["throughput"]
    row = throughput[(throughput["model"] == "vgg16") & throughput["roles"].str.contains("scaling")
                     & (throughput["kind"] == "bnn") & (throughput["variant"] == "base")
                     & (throughput["batch_size"] == 16) & (throughput["nodes"] == 1)].iloc[0]  # fmt: skip
    point = page.locator("#fig2a [data-point][tabindex='0']")
    assert point.count() == 1
    point.focus()
    told = page.locator("#tip").inner_text()
    assert f"{row['throughput_steady']:.6g} samples/s" in told
    assert f"95% interval {row['throughput_low']:.6g} to {row['throughput_high']:.6g}" in told
    assert "3 repeats" in told
    folder = "results/toy/cells/synthetic/vgg16/bnn/nodes=1/batch=16/variant=base/repeat={1,2,3}"
    assert f"rm -r {folder} && snakemake --profile profiles/toy {folder}/summary.json" in told
    assert "Its cells: repeat 1, repeat 2, repeat 3" in told
    page.keyboard.press("Enter")  # to the links, of which this is the first
    page.keyboard.press("Enter")
    identity = "#cell-toy-synthetic-vgg16-bnn-1-16-base"
    assert place(page) == f"{identity}-1"
    assert page.locator(f"{identity}-1").evaluate("(row) => row.dataset.kind") == "bnn"
    point.click(force=True)
    page.locator("#tip a").nth(2).click()
    assert place(page) == f"{identity}-3"
    page.keyboard.press("Escape")
    point.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").inner_text() != told
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.locator("#fig2a [data-point]").nth(2).click(force=True)
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_visible()  # a click keeps it
    page.locator("h1").click()
    assert page.locator("#tip").is_hidden()


@pytest.mark.parametrize("name", ["fig2a", "fig2b", "fig2c", "fig3a", "fig3b", "fig3c", "fig6a", "fig6c", "fig6d"])
def test_every_series_of_a_scaling_figure_has_points_and_an_entry(page: Page, name: str) -> None:
    script = f"""({{
      series: [...new Set([...document.querySelectorAll('#{name} [data-series]')].map((one) => one.dataset.series))],
      pointed: [...new Set([...document.querySelectorAll('#{name} [data-point]')].map(
        (one) => one.closest('[data-series]').dataset.series))],
      entries: [...document.querySelectorAll('#{name} [role=button]')].map((one) => one.dataset.entry),
    }})"""
    found = page.evaluate(script)
    assert sorted(found["series"]) == sorted(found["entries"]) == sorted(found["pointed"])
    assert found["series"]


def test_a_chosen_baseline_gives_the_numbers_of_the_tables_and_is_said(visit: Visit, made: Made) -> None:
    page = visit.open(made.path)
    points = csv(page, "[aria-label='save points-table as CSV']")
    keys = ["dataset", "model", "variant", "implementation", "batch_size", "nodes"]
    scaling = points.merge(made.tables["scaling"], on=keys, how="left", validate="one_to_one", suffixes=("", "_2"))
    for ours, theirs in (("efficiency", "efficiency_steady"), ("efficiency_low", "steady_low"),
                         ("efficiency_high", "steady_high")):  # fmt: skip
        assert ((scaling[ours] == scaling[theirs]) | (scaling[ours].isna() & scaling[theirs].isna())).all(), ours
    ratios = made.tables["ratios"].rename(columns={"bnn_implementation": "implementation"})
    bnn = points[points["implementation"].str.startswith("bnn")]
    both = bnn.merge(ratios, on=keys, how="left", validate="one_to_one", suffixes=("", "_2"))
    for name in ("ratio", "ratio_low", "ratio_high"):
        assert ((both[name] == both[f"{name}_2"]) | (both[name].isna() & both[f"{name}_2"].isna())).all(), name
    assert both["ratio"].notna().sum() >= 8

    page.locator("#baseline-nodes").select_option("2")
    page.locator("#baseline-side").select_option("bnn reference")
    said = "Efficiencies are against 2 nodes, step times over those of bnn-flipout-reference (reference)."
    assert page.locator("#baseline-said").inner_text() == said
    page.reload()
    assert page.locator("#baseline-said").inner_text() == said
    other = csv(page, "[aria-label='save points-table as CSV']")
    two = other[other["nodes"] == 2].dropna(subset=["efficiency"])
    assert len(two) >= 8
    assert (two["efficiency"] == 1).all()
    one = other[other["nodes"] == 1].merge(points[points["nodes"] == 2], on=keys[:-1], suffixes=("", "_then"))
    known = one.dropna(subset=["efficiency", "efficiency_then"])
    assert len(known) >= 8
    assert known["efficiency"].to_list() == pytest.approx((1 / known["efficiency_then"]).to_list())
    same = other[other["implementation"] == "bnn-flipout-reference"]
    assert (same["ratio"].dropna() == 1).all()
    cells = made.tables["cells"].query("nodes == 1 and batch_size == 16 and model == 'vgg16' and counted")
    steps = {kind: rows.set_index("repeat")["throughput_steady"] for kind, rows in cells.groupby("implementation")}
    logs = np.log(steps["bnn-flipout-reference"] / steps["cnn"]).dropna()
    row = other.query("nodes == 1 and batch_size == 16 and model == 'vgg16' and implementation == 'cnn'").iloc[0]
    assert row["ratio"] == pytest.approx(np.exp(logs.mean()))
    assert visit.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, made: Made, scheme: str) -> None:
    """All rules; in the dark those of colours, as nothing else differs."""
    visit = Visit(browser, color_scheme=scheme)
    page = visit.open(made.path)
    page.evaluate("document.querySelectorAll('details:not(td *)').forEach((fold) => { fold.open = true; })")
    for alike in ("details.one ~ details.one", "tbody tr:nth-child(n+5)"):
        page.evaluate("(alike) => document.querySelectorAll(alike).forEach((each) => each.remove())", alike)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    found = Axe().run(page, options=options | ({} if scheme == "light" else {"runOnly": ["color-contrast"]}))
    said = [(each["id"], each["help"], [node["html"][:200] for node in each["nodes"][:3]])
            for each in found.response["violations"]]  # fmt: skip
    assert said == [], json.dumps(said, indent=1)
    visit.context.close()


def test_each_cell_has_a_page_that_says_what_its_row_says(visit: Visit, made: Made) -> None:
    page, cells = visit.open(made.path), made.tables["cells"]
    links = page.evaluate("[...document.querySelectorAll('#cells-table a')].map((one) => one.href)")
    assert len(links) == len(set(links)) == len(cells)
    for verdict in ("OK", "INVALID", "MISSING"):
        index = int(np.flatnonzero(cells["verdict"] == verdict)[0])
        visit.asked.clear()
        page.goto(links[index])
        assert visit.asked == [links[index]]
        row = cells.iloc[index]
        said = dict(
            page.evaluate("""[...document.querySelectorAll('#values tbody tr')].map((one) =>
              [one.cells[0].textContent, one.cells[1].textContent])""")
        )
        assert list(said) == list(cells)
        for name, value in row.items():
            if pd.isna(value) or value == "":
                assert said[name] == "–"
            else:
                assert said[name] == str(value) or float(said[name]) == value, name
        assert page.locator("header .verdict").inner_text() == verdict
        drawn = page.locator("#steps h3").all_inner_texts()
        assert drawn == ([] if verdict == "MISSING" else ["Step times", "NLL", "Loss", "Training accuracy"])
        assert page.locator("#steps svg").count() == len(drawn)
        hrefs = page.locator("#files a").evaluate_all("(links) => links.map((one) => one.getAttribute('href'))")
        name = Path(links[index]).stem
        assert hrefs[-2:] == [f"../../jobs/{name}.sh", f"../../jobs/{name}.json"]
        assert violations(page) == []
        page.set_viewport_size({"width": 390, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("nav a").click()
        page.wait_for_url("**/report.html#*")
        assert page.evaluate("document.getElementById(location.hash.slice(1)) !== null")
    assert visit.said == []


def test_without_scripts_everything_is_there_and_no_control_is_dead(browser: Browser, made: Made) -> None:
    visit = Visit(browser, java_script_enabled=False)
    page = visit.open(made.path)
    assert page.locator("button:visible, select:visible").count() == 0
    assert page.locator("#cells-table tbody tr:visible").count() == len(made.tables["cells"])
    assert page.locator("#fig2a [data-point] title").count() == page.locator("#fig2a [data-point]").count() > 0
    term = page.locator(".term").first
    assert term.locator("[role=note]").is_hidden()
    term.focus()
    assert term.locator("[role=note]").is_visible()
    visit.context.close()


@pytest.mark.parametrize("width", [390, 1300, 1920])
def test_no_width_scrolls_sideways_and_a_screen_is_not_blank(browser: Browser, made: Made, width: int) -> None:
    from matplotlib.image import imread

    visit = Visit(browser, viewport={"width": width, "height": 1200})
    page = visit.open(made.path)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pixels = imread(io.BytesIO(page.screenshot()))[..., :3]
    for third in range(3):
        assert pixels[third * len(pixels) // 3 : (third + 1) * len(pixels) // 3].std() > 0.03
    visit.context.close()


def test_print_shows_what_is_folded_and_no_control(page: Page, made: Made) -> None:
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("button:visible, select:visible, nav:visible").count() == 0
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert page.locator("#claims-not-tested tbody tr:visible").count() == len(shown(page, "claims-not-tested")) > 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") > 0


def test_printed_it_is_a_pdf_that_can_be_read(page: Page, made: Made) -> None:
    """As Chromium prints it: every section's words in their order, titles of figures, no page without any."""
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    printed = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    pages = [" ".join(sheet.extract_text().split()) for sheet in printed.pages]
    assert all(pages)
    text = normalize("NFKC", " ".join(pages))  # of ligatures the letters
    place = 0
    for heading in page.locator("main > section > h2").all_inner_texts():
        found = text.find(heading, place)
        assert found >= 0, heading
        place = found + len(heading)
    for name in ("fig2a", "fig3a", "losses"):  # words within pictures, which are drawn, not scanned
        (title,) = page.locator(f"#{name} svg text").filter(has_text=" on Toy machine").all_text_contents()
        assert " ".join(title.split()) in text, name
    page.set_viewport_size({"width": 1047, "height": 718})  # A4 on its side, less its margins
    page.emulate_media(media="print")
    cut = page.evaluate("""[...document.querySelectorAll('main table')].filter(
      (table) => table.scrollWidth > table.parentElement.clientWidth).map((table) => table.id)""")
    assert cut == []
    width, height = (float(side) for side in (printed.pages[0].mediabox.width, printed.pages[0].mediabox.height))
    assert width > height


def with_script(text: str, script: str) -> str:
    return text.replace("</body>", f"<script>{script}</script></body>")


def allowed(text: str, script: str) -> str:
    """The page, whose policy allows this script, too."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert text.count("script-src ") == 1
    return text.replace("script-src ", f"script-src 'sha256-{digest}' ")


def test_nothing_runs_and_nothing_is_styled_but_by_the_page_itself(visit: Visit, made: Made, tmp_path: Path) -> None:
    text = made.path.read_text()
    assert "unsafe" not in text
    act = "document.body.dataset.ran = '1';"
    hostile = with_script(text, act).replace("<h1>", '<h1 style="color: rgb(1, 2, 3)" onclick="x()">', 1)
    look = "document.body.dataset.colour = getComputedStyle(document.querySelector('h1')).color;"
    path = tmp_path / "hostile.html"
    path.write_text(allowed(with_script(hostile, look), look))
    seen = visit.open(path).evaluate("({...document.body.dataset})")
    assert "ran" not in seen
    assert seen["colour"] != "rgb(1, 2, 3)"


def test_hostile_names_are_text_everywhere(visit: Visit, tmp_path: Path) -> None:
    """In rows, choices, series, points, rows of figures, and their files."""
    attack = "\"'></script><script>document.body.dataset.ran=1</script><img src=x onerror=alert(1)>&amp; #?"
    plan, tables = built_campaign()
    changed = {name: table.replace({"variant": {"base": attack}}) if "variant" in table else table
               for name, table in tables.items()}  # fmt: skip
    figure = tmp_path / "fig2a.svg"
    save(draw_figure("fig2a", changed, Context.from_plan(plan | {"campaign": attack})), figure, tmp_path / "fig2a.png")
    write_report(plan | {"campaign": attack}, changed, {"fig2a": figure}, tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    select = page.get_by_label("variant", exact=True)
    select.select_option(label=attack)
    cells = changed["cells"]
    assert len(shown(page, "cells-table")) == (cells["variant"] == attack).sum() > 0
    page.reload()
    assert len(shown(page, "cells-table")) == (cells["variant"] == attack).sum()
    assert set(csv(page, "[aria-label='save cells-table as CSV']")["variant"]) == {attack}
    assert set(csv(page, "[aria-label='save the rows of fig2a as CSV']")["variant"]) == {attack}
    assert page.evaluate("document.body.dataset.ran") is None
    assert page.locator("img").count() == 0
    assert visit.said == []
