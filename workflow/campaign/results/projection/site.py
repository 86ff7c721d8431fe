"""Projections of a campaign for its report: the networks that its site names, and the publication's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaign.results.claims.ledger import Ledger
from campaign.results.projection.cells import POWERS, Projection
from campaign.results.projection.claims import claim_rows
from campaign.results.projection.fabrics import load_fabric
from campaign.results.projection.families import Key, families
from campaign.results.projection.networks import OfFabric
from campaign.results.tables.build import frame
from campaign.results.tables.cells import LoadedCell
from campaign.results.tables.projection_schemas import (
    EFFICIENCY_PROJECTION,
    PROJECTION_CLAIMS,
    PROJECTION_LIMITS,
    PROJECTION_TABLES,
)

if TYPE_CHECKING:
    import pandas as pd

ROLES = {"scaling", "large-batch"}  # of the cells whose curves over nodes are drawn


def project_site(plan: dict[str, Any], results: Path, ledger: Ledger) -> dict[str, pd.DataFrame]:
    """PROJECTION_TABLES, from the cells of a plan that serve figures of scaling; empty where its site asks for none.

    Raises UserError naming the record that cannot be used.
    """
    asked = plan.get("projection", {})
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in PROJECTION_TABLES}
    if asked:
        entries = [entry for entry in plan["cells"] if ROLES & set(entry.get("roles", ()))]
        full_width: set[Key] = set()

        def loaded(entry: dict[str, Any]) -> LoadedCell:
            cell = LoadedCell(entry, results)
            if all(getattr(cell.settings, name) == value for name, value in ledger.everywhere.items()):
                full_width.add(Key.of(cell))
            return cell

        found, _ = families(map(loaded, entries))
        for name in filter(None, (asked["here"], *asked["elsewhere"])):
            projection = Projection(found, OfFabric(load_fabric(name)), elsewhere=name != asked["here"])
            rows[EFFICIENCY_PROJECTION.name] += projection.rows(POWERS)
            rows[PROJECTION_LIMITS.name] += projection.limit_rows(asked["target_efficiency"], POWERS)
        rows[PROJECTION_CLAIMS.name] = claim_rows(ledger, [each for each in found if each.key in full_width])
    return {name: frame(rows[name], schema) for name, schema in PROJECTION_TABLES.items()}
