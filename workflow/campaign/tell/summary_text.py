"""What `campaign summary` prints: the first section of the report, from the tables that were made so far."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

from rich.highlighter import RegexHighlighter
from rich.text import Text

from bnn.records.columns import read_table
from campaign.names.layout import Layout
from campaign.plan.read import read_plan
from campaign.results.figures.sites import other_sites
from campaign.results.report.summary import QUESTIONS, Statement, summary
from campaign.results.tables.schemas import OF_REPORT


class Numbers(RegexHighlighter):
    """Numbers stand out in a terminal; in a file they are as all else."""

    base_style = "repr."
    highlights = (r"(?<![\w.])(?P<number>-?\d[\d,]*(\.\d+)?%?)(?![\w])",)


NUMBERS = Numbers()


def of_site(results: Path, site: str) -> dict[str, list[Statement]]:
    """The summary of results/SITE. Raises UserError naming a plan or a table that cannot be read."""
    layout = Layout(results, site)
    plan = read_plan(layout.plan)
    paths = {name: layout.table(name) for name in OF_REPORT}
    tables = {name: read_table(path, OF_REPORT[name]) for name, path in paths.items() if path.exists()}
    return summary(plan, tables, others=other_sites(layout))


def as_json(answers: dict[str, list[Statement]]) -> dict[str, list[dict[str, Any]]]:
    """Sentences with the exact values in them, by question."""
    return {name: [statement.plain() for statement in answers[name]] for name in QUESTIONS}


def as_text(answers: dict[str, list[Statement]], width: int) -> list[Text]:
    """Headings, and a list of sentences below each, in lines of at most `width` characters where words allow it."""
    lines = []
    for name, heading in QUESTIONS.items():
        lines.append(Text(heading, style="bold"))
        for each in answers[name]:
            said = fill(each.text, width, initial_indent="- ", subsequent_indent="  ", break_long_words=False,
                        break_on_hyphens=False)  # fmt: skip
            lines.append(NUMBERS(said))
        lines.append(Text())
    return lines[:-1]
