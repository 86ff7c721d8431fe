"""One side of a comparison: a site's results folder, read from its plan and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.errors import UserError
from bnn.records.columns import read_table
from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.compare.metrics import Metric
from campaign.results.report.words import moment
from campaign.results.tables.schemas import IDENTITY_KEYS, TABLES

if TYPE_CHECKING:
    import pandas as pd

ALWAYS = ("cells", "provenance")


@dataclass(frozen=True)
class Side:
    """A campaign as its folder has it. `name` is A or B; `tables` has those that were made."""

    name: str
    layout: Layout
    plan: dict[str, Any]
    tables: Mapping[str, pd.DataFrame]

    @property
    def site(self) -> str:
        return str(self.plan["site"]["name"])

    @property
    def title(self) -> str:
        return str(self.plan["site"].get("title") or self.site)


def site_layout(folder: Path) -> Layout:
    """The layout of a site's results folder, results/<site>. Raises UserError where it has no plan.json."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    at = folder.resolve()
    layout = Layout(folder.parent if folder.name not in ("", ".", "..") else at.parent, folder.name or at.name)
    if folder.name in ("", ".", ".."):
        layout = Layout(at.parent, at.name)
    if not layout.plan.is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/plan.json"))
        more = f"; it holds those of {', '.join(inside)}: name one, as in {folder / inside[0]}" if inside else ""
        raise UserError(f"{folder}: no results of a site, it has no plan.json{more}")
    return layout


def read_side(name: str, folder: Path, tables: Iterable[str]) -> Side:
    """Read these tables, and those that every comparison needs. A table that was never made is left out.

    Raises UserError naming the file for one that cannot be read, is of another version, or has a cell's row twice.
    """
    layout = site_layout(folder)
    plan = read_plan(layout.plan)
    found = {}
    for table in dict.fromkeys((*ALWAYS, *tables)):
        path = layout.table(table)
        if table in ALWAYS and not path.exists():
            raise UserError(f"{path}: no such file: the campaign's tables have to be made first (target all_figures)")
        if path.exists():
            found[table] = _read(path, table)
    for table, rows in found.items():
        for key in (key for key in IDENTITY_KEYS if key in rows and "kind" in rows):
            if rows[key].isna().any():
                raise UserError(f"{layout.table(table)}: column {key}: empty in row {int(rows[key].isna().argmax())}")
    twice = found["cells"].duplicated(list(IDENTITY_KEYS))
    if twice.any():
        row = found["cells"][twice].iloc[0]
        raise UserError(f"{layout.table('cells')}: two rows of {' '.join(str(row[key]) for key in IDENTITY_KEYS)}")
    if len(found["cells"]["site"].unique()) > 1:
        raise UserError(f"{layout.table('cells')}: cells of several sites in one table")
    return Side(name, layout, plan, found)


def _read(path: Path, table: str) -> pd.DataFrame:
    try:
        return read_table(path, TABLES[table])
    except UserError as error:
        if table in ALWAYS:
            raise
        raise UserError(f"{error} (--metric TABLE compares others without it, as in --metric cells)") from None


def needed(metrics: Iterable[Metric]) -> list[str]:
    """Names of the tables that these metrics are of."""
    return list(dict.fromkeys(metric.source.table for metric in metrics))


def origin(side: Side) -> dict[str, str]:
    """Where and when a side was measured, in words."""
    cells, provenance = side.tables["cells"], side.tables["provenance"]
    revisions = sorted({str(value)[:12] for value in provenance["git_revision"].dropna()})
    return {
        "folder": str(side.layout.root), "site": side.site, "title": side.title, "campaign": str(side.plan["campaign"]),
        "started": moment(cells["started_at"].min()), "stopped": moment(cells["stopped_at"].max()),
        "revision": ", ".join(revisions),
    }  # fmt: skip
