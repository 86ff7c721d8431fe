"""All that a campaign makes of its records: tables, claims, figures, report, by the workflow's own steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

from snakemake.iocontainers import Namedlist

from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.claims.expressions import TABLES as CLAIMED
from campaign.results.claims.ledger import LEDGER
from campaign.results.figures.catalogue import FIGURES, available
from campaign.results.figures.sites import other_sites
from campaign.results.steps import claims, figure, projection, report, tables
from campaign.results.tables.projection_schemas import PROJECTION_TABLES
from campaign.results.tables.schemas import OF_REPORT, TABLES


def make_tables(layout: Layout) -> None:
    """Tables, claims and projections."""
    params = SimpleNamespace(plan=str(layout.plan), results=str(layout.results))
    tables.main(SimpleNamespace(params=params, output=[str(layout.table(name)) for name in TABLES]))
    others = [str(file) for other in other_sites(layout) for file in other.tables(CLAIMED)]
    given = Namedlist(fromdict={"ledger": str(LEDGER), "tables": _paths(layout, CLAIMED), "others": others})
    claims.main(SimpleNamespace(input=given, output=[str(layout.table("claims"))]))
    paths = [str(layout.table(name)) for name in PROJECTION_TABLES]
    projection.main(SimpleNamespace(params=params, input=given, output=paths))


def make_figures(layout: Layout, names: Iterable[str] | None = None) -> None:
    for name in names or figures_of(layout):
        svg, png = (str(layout.figure(name, kind)) for kind in ("svg", "png"))
        others = [str(file) for other in other_sites(layout) for file in other.files] if FIGURES[name].devices else []
        inputs = Namedlist(fromdict={"tables": _paths(layout, FIGURES[name].tables), "others": others})
        params = SimpleNamespace(figure=name, plan=str(layout.plan))
        figure.main(SimpleNamespace(params=params, input=inputs, output=SimpleNamespace(svg=svg, png=png)))


def make_report(layout: Layout) -> None:
    drawn = [str(layout.figure(name, "svg")) for name in figures_of(layout)]
    inputs = Namedlist(fromdict={"tables": _paths(layout, OF_REPORT), "figures": drawn})
    params, output = SimpleNamespace(plan=str(layout.plan)), SimpleNamespace(html=str(layout.report))
    report.main(SimpleNamespace(params=params, input=inputs, output=output))


def figures_of(layout: Layout) -> list[str]:
    return available(read_plan(layout.plan), other_sites(layout))


def _paths(layout: Layout, names: Iterable[str]) -> list[str]:
    return [str(Path(layout.table(name))) for name in names]
