"""What tables, figures and report of a large campaign take: python tests/numerical/large_campaign.py FOLDER.

FOLDER is one into which `python -m tests.support.large` has written records. Everything is made in it, as the rules of
the workflow make it, but by this process and as many others as there are cores: without Snakemake, and without the
start of a program per figure. Printed are the seconds of each part, and the largest memory of this process and of the
largest other one.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

from bnn.records.columns import write_table
from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.claims.ledger import load_ledger
from campaign.results.claims.rows import claim_rows
from campaign.results.figures.catalogue import FIGURES, available
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.select import NothingToDrawError
from campaign.results.figures.style import save
from campaign.results.report import write_report
from campaign.results.steps.common import read_tables
from campaign.results.tables.build import frame, write_tables
from campaign.results.tables.claims import CLAIMS
from campaign.results.tables.schemas import TABLES
from campaign.results.tables.steps import StepsFile

# The longest first, so that no core waits for one at the end.
FIRST = ("fig3c", "losses", "efficiencies")


def draw(layout: Layout, name: str) -> None:
    """Draw one figure from the files of its tables, as the workflow's step does."""
    tables = read_tables([str(layout.table(each)) for each in FIGURES[name].tables])
    try:
        figure = draw_figure(name, tables, Context.from_plan(read_plan(layout.plan)))
    except NothingToDrawError:
        return
    layout.figure(name, "svg").parent.mkdir(parents=True, exist_ok=True)
    save(figure, layout.figure(name, "svg"), layout.figure(name, "png"))


def memory() -> str:
    own, others = (
        resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return f"{own} and {others} MiB at most"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder
    (site,) = (path.parent.name for path in root.glob("*/plan.json"))
    layout = Layout(root, site)
    plan = read_plan(layout.plan)
    start = last = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal last
        print(f"{what}: {time.perf_counter() - last:.1f} s, {memory()}", flush=True)
        last = time.perf_counter()

    write_tables(plan, root, {name: layout.table(name) for name in TABLES})
    lap("tables")
    tables: dict[str, Any] = read_tables([str(layout.table(name)) for name in TABLES if name != "steps"])
    write_table(frame(claim_rows(load_ledger(), tables), CLAIMS), layout.table("claims"), CLAIMS)
    lap("claims")
    names = sorted(available(plan, []), key=lambda name: name not in FIRST)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("fork")) as pool:
        list(pool.map(partial(draw, layout), names))
    lap("figures")
    figures = {name: layout.figure(name, "svg") for name in names if layout.figure(name, "svg").exists()}
    tables |= read_tables([str(layout.table("claims"))]) | {"steps": StepsFile(layout.table("steps"))}
    write_report(plan, tables, figures, layout.report, cells=layout.report_cells)
    lap("report")
    pages = sum(path.stat().st_size for path in layout.report_pages.rglob("*.html"))
    print(f"{len(plan['cells'])} cells, {len(tables['steps'])} rows of steps: {time.perf_counter() - start:.1f} s; "
          f"{len(figures)} figures, the page {layout.report.stat().st_size / 1e6:.1f} MB, those of cells and rows "
          f"{pages / 1e6:.1f} MB")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
