"""Files of a comparison: its table, and a page of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from bnn.errors import UserError
from bnn.records.columns import write_table
from bnn.records.files import write_text
from campaign.io.files import os_errors_named
from campaign.results.compare.rows import Comparison, cell_words
from campaign.results.compare.said import totals, without_row
from campaign.results.compare.samples import PLACE_KEYS
from campaign.results.compare.schema import BETTER, COMPARISON, SAME, UNDECIDED, VERDICTS, WORSE
from campaign.results.report.words import number, percent, span

# Of the report's style sheet: the colours of its verdicts.
COLOURS = {WORSE: "INVALID", UNDECIDED: "WARN", SAME: "MISSING", BETTER: "OK"}


def write_parquet(found: Comparison, path: Path) -> None:
    """Write table `comparison`, atomically."""
    from campaign.results.tables.build import frame

    with os_errors_named(path):
        write_table(frame(found.rows, COMPARISON), path, COMPARISON)


def write_page(found: Comparison, path: Path) -> None:
    """Write the page, atomically."""
    text = page(found)
    with os_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)


WRITERS: dict[str, Callable[[Comparison, Path], None]] = {".html": write_page, ".parquet": write_parquet}


def writer(path: Path) -> Callable[[Comparison, Path], None]:
    """What writes such a file. Raises UserError for another suffix."""
    if path.suffix not in WRITERS:
        raise UserError(f"{path}: --out writes {' or '.join(WRITERS)} files")
    return WRITERS[path.suffix]


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by verdict, the worst first, then by how far from 1 their ratio is; those without one are last."""

    def place(row: dict[str, Any]) -> tuple[int, bool, float]:
        away = -abs(math.log(row["ratio"])) if not math.isnan(row["ratio"]) else math.inf
        return VERDICTS.index(row["verdict"]), math.isnan(row["ratio_low"]), away

    return sorted(rows, key=place)


def shown(row: dict[str, Any]) -> dict[str, str]:
    """A row as a reader sees it."""
    place, same = tuple(row[key] for key in PLACE_KEYS), (number(row["same_from"]), number(row["same_to"]))
    return {
        "cell": cell_words(place, row["what"]), "metric": row["metric"], "unit": row["unit"],
        "a": number(row["a"], 4), "b": number(row["b"], 4), "ratio": number(row["ratio"], 4),
        "interval": span(row["ratio_low"], row["ratio_high"], 4), "verdict": row["verdict"],
        "repeats": f"{row['repeats_a']}, {row['repeats_b']}", "same": " to ".join(same),
        "floor": percent(row["noise_floor"]), "reason": row["reason"], "colour": COLOURS[row["verdict"]],
    }  # fmt: skip


def page(found: Comparison) -> str:
    """The page's text: self-contained, everything from records escaped."""
    from campaign.results.report.page import TEMPLATES, embedded

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("compare.html.j2").render(
        css=embedded(TEMPLATES / "report.css"),
        a=found.a,
        b=found.b,
        totals=totals(found),
        rows=[shown(row) for row in ordered(found.rows)],
        refused=found.refused,
        accepted=found.accepted,
        lists=without_row(found),
        environment=found.environment,
        notes=found.notes,
    )
