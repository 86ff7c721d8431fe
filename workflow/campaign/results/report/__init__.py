"""The campaign's report: one self-contained HTML page made from its tables and figures."""

from campaign.results.report.page import write_report

__all__ = ["write_report"]
