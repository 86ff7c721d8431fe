"""All faults of a results folder, and what could not be looked at."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.figures.catalogue import FIGURES
from campaign.results.figures.sites import OtherSite, other_sites
from campaign.results.validate.anew import (
    claims_of_tables,
    figures_of_tables,
    projections_of_records,
    read_all,
    report_of_tables,
    tables_of_records,
)
from campaign.results.validate.crate import METADATA, crate_faults
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
    is_crate = (layout.root / METADATA).is_file()
    found = Checked(list(crate_faults(layout.root)) if is_crate else [])
    plan = _plan(layout, found)
    if plan is None:
        return found
    broken = list(table_faults(layout, plan))
    ledger, said = ledger_of(layout)
    found.faults += [*plan_faults(layout, plan), *broken, *record_faults(layout, posteriors=not is_crate)]
    found.faults += [*data_faults(layout, plan), *said]
    others = [] if is_crate else other_sites(layout)  # what lies beside a crate has nothing to do with it
    found.faults += output_faults(layout, plan, others)
    if not (layout.root / "cells").is_dir():
        found.unseen.append(f"records: {layout.root / 'cells'} is not there")
    if not anew:
        found.unseen.append("whether tables, figures and report are what they are made from (--quick)")
    elif broken:
        found.unseen.append("whether tables, figures and report are what they are made from: tables have faults")
    else:
        _made_anew(layout, plan, ledger, others, found)
    return found


def _plan(layout: Layout, found: Checked) -> dict[str, Any] | None:
    """The plan; None where its faults keep the rest from being looked at. In a crate these are the crate's faults.

    Raises UserError where there is no file, and no crate that says that there is one.
    """
    if not layout.plan.exists() and not found.faults:
        raise UserError(f"{layout.plan}: {os.strerror(errno.ENOENT)}")
    try:
        return read_plan(layout.plan)
    except UserError as error:
        found.faults.append(str(error))
        found.unseen.append("the rest: it is looked at by plan.json")
        return None


def _made_anew(
    layout: Layout, plan: dict[str, Any], ledger: Path | None, others: Sequence[OtherSite], found: Checked
) -> None:
    tables = read_all(layout)
    site = str(plan["site"]["name"])
    if not (layout.root / "cells").is_dir():
        found.unseen.append("whether tables are what the records come to: these are not there")
    elif layout.site != site:
        found.unseen.append(f"whether tables are what the records come to: folder {layout.site} is of site {site}")
    else:
        found.faults += tables_of_records(layout, plan)
        if ledger:
            found.faults += projections_of_records(layout, plan, ledger)
    if ledger:
        found.faults += claims_of_tables(layout, ledger, tables, others)
    found.faults += figures_of_tables(layout, plan, tables, others)
    if not others and any(layout.figure(name, "svg").exists() for name, spec in FIGURES.items() if spec.devices):
        found.unseen.append("whether the report is what it is made from: it compares with sites that are not here")
    else:
        found.faults += report_of_tables(layout, plan, tables, others)
