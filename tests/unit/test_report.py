"""The report: complete, self-contained, escaped, and readable when things are missing."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from bnn.errors import UserError
from campaign.names.cell import Cell
from campaign.results.figures.catalogue import FIGURES, PEER_COMPARISON, available, not_measured
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.style import save
from campaign.results.report import write_report
from campaign.results.report.captions import FOLDER, caption_html
from campaign.results.report.svg import inline_svg
from campaign.results.report.words import DASH, number, span
from campaign.results.tables.build import build_tables
from tests.support.cells import built_campaign, entry, plan, write_cell


class Page(HTMLParser):
    """Ids, links, table rows and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.verdicts: list[str] = []
        self.skip = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.skip = tag in ("style", "script")
        if "id" in found:
            self.ids.append(found["id"])
        self.links += [found[key] for key in ("href", "xlink:href", "src") if key in found]
        if tag == "tr" and found.get("id", "").startswith("cell-"):
            self.verdicts.append(found["data-verdict"])

    def handle_endtag(self, tag):
        if tag in ("style", "script"):
            self.skip = False

    def handle_data(self, data):
        if not self.skip:
            self.text.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The small campaign's report with two figures, as text."""
    made_plan, tables = built_campaign()
    folder = tmp_path_factory.mktemp("report")
    figures = {}
    for name in ("fig2a", "fig2b"):
        figures[name] = folder / f"{name}.svg"
        save(draw_figure(name, tables, Context.from_plan(made_plan)), figures[name], folder / f"{name}.png")
    write_report(made_plan, tables, figures, folder / "report.html")
    return (folder / "report.html").read_text()


def test_every_cell_is_listed_with_its_verdict(made):
    _, tables = built_campaign()
    page = Page(made)
    assert sorted(page.verdicts) == sorted(tables["cells"]["verdict"])
    assert len([name for name in page.ids if name.startswith("cell-")]) == len(tables["cells"])
    assert "non-finite loss at step 7 on rank 1" in made
    assert "no summary.json" in made


def test_every_figure_is_shown_or_named_as_absent(made):
    page = Page(made)
    assert set(FIGURES) <= set(page.ids)
    made_plan, _ = built_campaign()
    for reason in not_measured(made_plan).values():
        assert reason in made
    undrawn = set(available(made_plan)) - {"fig2a", "fig2b", PEER_COMPARISON}
    section = made[made.index('<section id="absent">') :].split("</section>")[0]
    assert section.count("it could not be drawn in this run") == len(undrawn)


def test_the_page_needs_nothing_else(made):
    page = Page(made)
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    styles = "".join(re.findall(r"<style.*?</style>", made, re.S))
    assert "@import" not in styles
    assert "url(http" not in made


def test_ids_are_unique_and_links_meet_them(made):
    page = Page(made)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    used = re.findall(r"url\(#([^)]+)\)", made)
    assert used
    assert set(used) <= set(page.ids)


def test_nothing_reads_nan(made):
    text = " ".join(Page(made).text)
    assert not re.search(r"\b(nan|NaN|None|<NA>|inf)\b", text)


def test_sides_and_published_values_are_named(made):
    assert "bnn-flipout-reference / cnn-plain" in made
    assert "bnn-flipout / cnn" in made
    assert '<td class="published">2.4</td>' in made
    assert "section 4.1" in made
    assert "18,829,066" in made


def test_synthetic_data_and_start_of_rho_are_named(made):
    assert "Synthetic data." in made
    assert "synthetic images" in made


def test_what_comes_from_logs_is_escaped(tmp_path):
    attack = "<script>alert(1)</script>"
    cell = entry()
    write_cell(tmp_path, cell, host=attack + "{rank}", status="WARN", reasons=(attack,))
    named = plan([cell], title=attack)
    named["campaign"] = attack
    write_report(named, build_tables(named, tmp_path), {}, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert attack not in text
    assert text.count("&lt;script&gt;alert(1)") >= 4


def test_a_report_of_nothing_finished(tmp_path):
    nothing = plan([entry(), entry(kind="cnn")])
    write_report(nothing, build_tables(nothing, tmp_path), {}, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "2 of 2 cells are not counted" in text
    assert "No figure was drawn." in text
    assert "No cell has left a record" in text


def test_what_differs_between_hosts_is_listed(made):
    assert "node-0" in made
    assert "The same on every rank of every cell" in made
    assert "Toy CPU @ 2.0 GHz" in made


@pytest.mark.parametrize("name", [*sorted(FIGURES), "workflow"])
def test_captions_are_valid_and_need_no_variables(name):
    text = (FOLDER / f"{name}.rst").read_text()
    assert "{{" not in text
    assert "{%" not in text
    assert "<p>" in caption_html(f"{name}.rst")


def test_a_broken_caption_is_named(tmp_path):
    (tmp_path / "x.rst").write_text("*no end")
    with pytest.raises(UserError, match=r"x\.rst"):
        caption_html("x.rst", tmp_path)


def test_svg_is_made_safe(tmp_path):
    path: Path = tmp_path / "x.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 4 4">'
        "<style>*{stroke: red}</style><script>alert(1)</script>"
        '<g id="a" clip-path="url(#c)" onclick="alert(2)"/><use xlink:href="#a"/><image href="http://example.org/x.png"/>'
        "</svg>"
    )
    text = str(inline_svg(path, "fig1", 'say "hi"'))
    assert "alert" not in text
    assert "http://example.org" not in text
    assert 'id="fig1-a"' in text
    assert "url(#fig1-c)" in text
    assert 'xlink:href="#fig1-a"' in text
    assert "style" not in text
    assert re.match(r'<svg [^>]*stroke="red"', text)
    assert "&quot;hi&quot;" in text


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ("<style>rect {fill: red}</style>", "a style sheet of its own"),
        ('<rect style="fill: red; position: fixed"/>', "style position"),
        ("<style>*{background: url(http://example.org)}</style>", "style background"),
    ],
)
def test_a_style_that_the_page_does_not_allow_is_named(tmp_path, inside, named):
    (tmp_path / "x.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">{inside}</svg>')
    with pytest.raises(UserError, match=rf"x\.svg: {named}"):
        inline_svg(tmp_path / "x.svg", "fig1", "label")


@pytest.mark.parametrize("content", ["<svg", "<html/>"])
def test_what_is_not_an_svg_is_named(tmp_path, content):
    (tmp_path / "x.svg").write_text(content)
    with pytest.raises(UserError, match=r"x\.svg"):
        inline_svg(tmp_path / "x.svg", "fig1", "label")


def test_words():
    assert number(float("nan")) == number(None) == DASH
    assert [number(v) for v in (1234567, 0.012345, 1234.5, 12, 2.0)] == ["1,234,567", "0.0123", "1,234", "12", "2"]
    assert span(1.0, float("nan")) == DASH
    assert span(1.234, 5.678) == "1.23 to 5.68"


def test_mpi_checks_routines_and_timelines_are_shown(tmp_path):
    cells = [entry(kind=kind, nodes=n) for kind in ("bnn", "cnn") for n in (1, 2)]
    for cell in cells[:3]:
        write_cell(tmp_path, cell, profiled=cell["nodes"] == 2)
    folder = tmp_path / Cell(**{key: cells[1][key] for key in Cell.__dataclass_fields__}).folder
    (folder / "mpi" / "timeline.json").write_text("[]")
    made_plan = plan(cells)
    write_report(made_plan, build_tables(made_plan, tmp_path), {}, tmp_path / "toy" / "report.html")
    page = (tmp_path / "toy" / "report.html").read_text()
    assert "Of 1 profiled cells 1 exchange exactly 4 bytes per trainable parameter" in page
    assert "<td>MPI_Allreduce</td><td>MPI_SUM</td>" in page
    assert '<td class="n">75,292,712</td>' in page
    assert "2 cells: not recorded: the cell ran without a profiler" in page
    assert "1 cell: not recorded: the cell has not finished" in page
    (link,) = [link for link in Page(page).links if not link.startswith("#")]
    assert (tmp_path / "toy" / unquote(link)).read_text() == "[]"
