"""A campaign in plain sentences: what was asked and found, what limits it, how far to trust it, what is not there.

The page begins with them, and `campaign summary` prints them.
"""

from campaign.results.report.summary.questions import QUESTIONS, summary
from campaign.results.report.summary.statement import Statement

__all__ = ["QUESTIONS", "Statement", "summary"]
