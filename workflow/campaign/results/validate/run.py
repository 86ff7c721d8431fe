"""All faults of a results folder, and what could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.validate.anew import (
    claims_of_tables,
    figures_of_tables,
    read_all,
    report_of_tables,
    tables_of_records,
)
from campaign.results.validate.outputs import ledger_of, output_faults
from campaign.results.validate.records import data_faults, plan_faults, record_faults
from campaign.results.validate.tables import table_faults


@dataclass
class Checked:
    """`faults`: a line each. `unseen`: a line for each part that was not looked at, with the reason."""

    faults: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def validate(layout: Layout, anew: bool = True) -> Checked:
    """Check a site's folder. `anew`: make tables, claims, figures and report once more and compare.

    Raises UserError where plan.json cannot be read: then nothing can be said of the rest.
    """
    plan = read_plan(layout.plan)
    found = Checked()
    broken = list(table_faults(layout, plan))
    ledger, said = ledger_of(layout)
    found.faults += [*plan_faults(layout, plan), *broken, *record_faults(layout), *data_faults(layout, plan), *said]
    found.faults += output_faults(layout, plan)
    if not (layout.root / "cells").is_dir():
        found.unseen.append(f"records: {layout.root / 'cells'} is not there")
    if not anew:
        found.unseen.append("whether tables, figures and report are what they are made from (--quick)")
    elif broken:
        found.unseen.append("whether tables, figures and report are what they are made from: tables have faults")
    else:
        _made_anew(layout, plan, ledger, found)
    return found


def _made_anew(layout: Layout, plan: dict[str, object], ledger: Path | None, found: Checked) -> None:
    tables = read_all(layout)
    site = str(plan["site"]["name"])  # type: ignore[index]
    if not (layout.root / "cells").is_dir():
        found.unseen.append("whether tables are what the records come to: these are not there")
    elif layout.site != site:
        found.unseen.append(f"whether tables are what the records come to: folder {layout.site} is of site {site}")
    else:
        found.faults += tables_of_records(layout, plan)
    if ledger:
        found.faults += claims_of_tables(layout, ledger, tables)
    found.faults += figures_of_tables(layout, plan, tables)
    found.faults += report_of_tables(layout, plan, tables)
