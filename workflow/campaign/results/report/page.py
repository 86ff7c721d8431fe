"""The report: report.html, self-contained, from the plan, the tables and the figures."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from bnn.records.files import write_text
from campaign.io.beside import MANY, beside
from campaign.results.figures.catalogue import FIGURES, PEER_COMPARISON, available, not_measured
from campaign.results.figures.published import UNCHANGED_PERCENT
from campaign.results.figures.sites import OtherSite
from campaign.results.figures.style import NOT_DRAWN
from campaign.results.report import flops, headline, published
from campaign.results.report.baselines import baselines_section
from campaign.results.report.bench import bench_section
from campaign.results.report.captions import FOLDER, caption_html
from campaign.results.report.cell_pages import write_pages
from campaign.results.report.cells import cell_rows, cell_table
from campaign.results.report.claims import claims_section
from campaign.results.report.efficiencies import limits
from campaign.results.report.facets import choices
from campaign.results.report.figure_rows import figure_rows
from campaign.results.report.folded import FOLDER as ROWS
from campaign.results.report.folded import Folded, page_by_anchor
from campaign.results.report.inference import inference_section, pruning_section
from campaign.results.report.losses import loss_sentences
from campaign.results.report.methods import methods_section
from campaign.results.report.mpi import mpi_section
from campaign.results.report.origin import header, provenance_section
from campaign.results.report.parameters import parameter_table
from campaign.results.report.projection import projected_claims, projection_section
from campaign.results.report.semantics import semantics_section
from campaign.results.report.series import Points
from campaign.results.report.summary import QUESTIONS, summary
from campaign.results.report.svg import embedded_figure, notice_words
from campaign.results.report.terms import TERMS
from campaign.results.tables.schemas import OF_REPORT

if TYPE_CHECKING:
    import pandas as pd

TEMPLATES = Path(__file__).resolve().parents[3] / "templates"
# The page's parts in its order: file in templates/report/, id of the section, and its words in the list of sections.
SECTIONS = {
    "summary": "Summary", "claims": "Claims", "numbers": "BNN against CNN", "figures": "Figures",
    "projected": "Projection", "semantics": "As the paper counted", "methods": "Methods", "inference": "Predictions",
    "pruning": "Pruning", "peers": "Other implementations", "cells": "Cells", "mpi": "MPI", "flops": "FLOPs",
    "parameters": "Parameters", "absent": "Not measured", "provenance": "Provenance", "files": "Files",
    "reading": "How to read",
}  # fmt: skip
SCRIPTS = ("state.js", "baseline.js", "tables.js", "filter.js", "figures.js")  # in templates/report/, in order
SCRIPTS_OF_ROWS = ("state.js", "tables.js")


def write_report(
    plan: dict[str, Any],
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Path],
    out: Path,
    *,
    others: Sequence[OtherSite] = (),
    captions: Path = FOLDER,
    templates: Path = TEMPLATES,
    cells: Path | None = None,
) -> None:
    """Write the page atomically, and before it what it leads to, if the folder `cells` is given: a page of each cell
    there, and beside it the rows of tables that are too long for the page.

    `tables` are all of campaign.results.tables.TABLES, and `claims` where a ledger was judged; `figures` maps names to
    SVG files. A figure that the plan provides for but that is not among them is named as not drawn; `others` are the
    sites beside this one. Raises UserError naming a caption or figure that cannot be used.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    draw = partial(render, plan, tables, figures, others=others, captions=captions, templates=templates)
    if cells is None:
        write_text(out, draw())
        return
    folded, environment, css = Folded(), environment_of(templates), embedded(templates / "report.css")
    with beside(partial(write_pages, tables, cells, environment, css), worth_it=len(tables["cells"]) >= MANY):
        text = draw(folded=folded)
        scripts = [embedded(templates / "report" / name) for name in SCRIPTS_OF_ROWS]
        write_rows(folded, cells.parent / Path(ROWS).name, environment, css=css, scripts=scripts)
    write_text(out, text)


def write_rows(folded: Folded, folder: Path, environment: jinja2.Environment, **shared: Any) -> None:
    """Write the pages of folded tables, each atomically, and remove those of tables that are folded no more."""
    if folded.pages:
        folder.mkdir(parents=True, exist_ok=True)
    for file, table in folded.pages.items():
        text = environment.get_template("rows.html.j2").render(table=table, **shared)
        write_text(folder / file, folded.redirected(text))
    for path in folder.glob("*.html"):
        if path.name not in folded.pages:
            path.unlink()


def render(
    plan: dict[str, Any],
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Path],
    *,
    others: Sequence[OtherSite] = (),
    captions: Path = FOLDER,
    templates: Path = TEMPLATES,
    folded: Folded | None = None,
) -> str:
    """The page's text. `folded` takes the rows of long tables; without it all are on the page.

    With it the page leads to those rows, and from each cell to its page.
    """
    with_cells = folded is not None
    fold = folded.fold if folded else lambda table: table
    environment = environment_of(templates)
    cells = tables["cells"]
    rows = cell_rows(tables, with_cells)
    absent = dict.fromkeys(available(plan, others), "it could not be drawn in this run") | not_measured(plan, others)
    absent = {name: reason for name, reason in absent.items() if name not in figures}
    notices = {name: notice_words(path) for name, path in figures.items() if f'id="{NOT_DRAWN}"' in path.read_text()}
    absent |= notices
    drawn = [name for name in FIGURES if name in figures and name not in notices]
    answers = summary(plan, tables, absent)
    table = fold(cell_table(rows))
    if folded and table["folded"]:
        folded.cells = page_by_anchor(rows)
    points = Points(tables, with_pages=bool(folded and folded.cells))
    text = environment.get_template("report.html.j2").render(
        css=embedded(templates / "report.css"),
        scripts=[embedded(templates / "report" / name) for name in SCRIPTS],
        sections=list(SECTIONS.items()),
        summary=[(heading, answers[name]) for name, heading in QUESTIONS.items()],
        head=header(plan, cells, tables["provenance"]),
        introduction=caption_html("workflow.rst", captions),
        node_label=str(plan["site"].get("node_label") or "nodes"),
        cards=headline.cards(tables),
        ratios=fold(headline.ratio_table(tables)),
        efficiencies=fold(headline.efficiency_table(tables)),
        gaps=headline.gaps(tables),
        baselines=baselines_section(tables),
        limits=limits(tables),
        losses=loss_sentences(tables),
        accuracies=fold(headline.accuracy_table(tables)),
        parameters=parameter_table(tables),
        mpi=mpi_section(tables, fold),
        claims=claims_section(tables),
        projected_claims=projected_claims(tables),
        projection=projection_section(tables, fold),
        semantics=_with_table(semantics_section(tables), fold),
        inference=_with_table(inference_section(tables), fold),
        methods=_with_table(methods_section(tables), fold),
        pruning=_with_table(pruning_section(tables), fold),
        bench=bench_section(tables),
        comparison=_figure(PEER_COMPARISON, figures[PEER_COMPARISON], captions, points)
        if PEER_COMPARISON in drawn
        else None,
        flops=flops.flops_table(),
        claim=flops.claim(),
        figures=[_figure(name, figures[name], captions, points) for name in drawn if name != PEER_COMPARISON],
        absent=[
            {"name": name, "number": _number(name), "title": FIGURES[name].title, "reason": reason}
            for name, reason in sorted(absent.items(), key=lambda item: list(FIGURES).index(item[0]))
            if name != PEER_COMPARISON  # its section says so itself
        ],
        cells=table,
        planned=len(rows),
        with_pages=with_cells,
        choices=choices(tables),
        terms=TERMS,
        troubled=[row for row in rows if row["verdict"] in ("INVALID", "MISSING")],
        synthetic=bool(cells["synthetic"].any()),
        provenance=provenance_section(tables["provenance"]),
        tables=[
            {"name": name, "rows": len(tables[name]), "version": schema.version}
            for name, schema in OF_REPORT.items()
            if name in tables
        ],
        site=plan["site"]["name"],
        published=published,
        published_pruning=UNCHANGED_PERCENT,
    )
    return folded.redirected(text) if folded else text


def _with_table(
    section: dict[str, Any] | None, fold: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any] | None:
    """A section whose table is folded, if it has one."""
    return section | {"table": fold(section["table"])} if section and section["table"] else section


def environment_of(templates: Path) -> jinja2.Environment:
    """What the pages' templates are rendered in."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,  # host names, settings and labels come from logs
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embedded(path: Path) -> dict[str, Any]:
    """A style sheet or script of ours as it stands in the page, and the hash by which the page's policy allows it."""
    text = path.read_text()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "hash": Markup(f"sha256-{digest}")}  # noqa: S704


def _figure(name: str, path: Path, captions: Path, points: Points) -> dict[str, Any]:
    spec = FIGURES[name]
    label = f"Figure {_number(name)}: {spec.title}" if _number(name) else spec.title
    return {
        "name": name,
        "number": _number(name),
        "title": spec.title,
        "category": spec.category,
        "svg": embedded_figure(path, name, label, points),
        "caption": caption_html(spec.caption, captions),
        "rows": figure_rows(name, points.tables),
    }


def _number(name: str) -> str:
    """fig2a -> 2a; empty for a figure that the paper does not have."""
    return name.removeprefix("fig") if name.startswith("fig") else ""
