"""Tables of a campaign: from the cells' records to what figures and report are drawn from."""

from campaign.results.tables.build import build_tables
from campaign.results.tables.schemas import TABLES

__all__ = ["TABLES", "build_tables"]
