"""The command `campaign compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnn.errors import UserError

if TYPE_CHECKING:
    from campaign.results.compare.folder import Side
    from campaign.results.compare.metrics import Metric
    from campaign.results.compare.rows import Comparison


@click.command()
@click.argument("folders", metavar="A [B]", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--reference", type=click.Path(path_type=Path), help="Compare A with this file of references, not with B."
)  # fmt: skip
@click.option(
    "--write-reference", "written", type=click.Path(path_type=Path), help="Write what A reached as such a file."
)  # fmt: skip
@click.option(
    "--metric",
    "names",
    multiple=True,
    help="Compare this metric only, or those of this table; may be given several times.",
)
@click.option(
    "--tolerance", "given", multiple=True, metavar="PERCENT or METRIC=PERCENT",
    help="How far a ratio may be from 1 and still be the same. [default: 10 for speed, 5 for losses, 1 for accuracies]",
)  # fmt: skip
@click.option(
    "--accept", multiple=True, metavar="KEY",
    help="Compare cells although they differ in this setting (or in ranks, threads, draws, ...).",
)  # fmt: skip
@click.option("--all", "whole", is_flag=True, help="Print all rows, also those whose ratio is within the tolerance.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@click.option("--out", multiple=True, type=click.Path(path_type=Path), help="Write FILE.html or FILE.parquet, too.")
def compare(
    folders: tuple[Path, ...], reference: Path | None, written: Path | None, names: tuple[str, ...],
    given: tuple[str, ...], accept: tuple[str, ...], whole: bool, as_json: bool, out: tuple[Path, ...],
) -> None:  # fmt: skip
    """Is B better or worse than A? Folders of two campaigns, as in results/local: sites, dates or versions.

    Exit code: 0 where nothing is worse, 1 where something is, or lost, 2 for an error, for cells that measured
    something else, and where nothing can be judged. docs/compare.md says how verdicts are made, and how often they are
    wrong.
    """
    from campaign.results.compare import said
    from campaign.results.compare.write import writer

    alone = reference or written
    if len(folders) != (1 if alone else 2):
        raise UserError(f"expected {'one folder, A' if alone else 'two folders, A and B'}, not {len(folders)}")
    if reference and written:
        raise UserError("--reference and --write-reference: only one of them at a time")
    if written:
        _write_references(written, folders[0], names, given)
        return
    writers = [(path, writer(path)) for path in out]
    found = _with_references(reference, folders[0], names) if reference else _two(folders, names, given, accept)
    for path, write in writers:
        write(found, path)
    if as_json:
        click.echo(json.dumps(said.as_json(found), indent=1, allow_nan=False))
    else:
        _print(found, whole)
    if line := said.refusal(found):
        raise UserError(line)
    said.check_judged(found)
    sys.exit(said.exit_code(found))


def _two(folders: tuple[Path, ...], names: Sequence[str], given: Sequence[str], accept: Sequence[str]) -> Comparison:
    """B against A. A table that a side does not have leaves its metrics out, unless they were asked for."""
    from campaign.results.compare.folder import needed, read_side
    from campaign.results.compare.metrics import chosen, tolerances
    from campaign.results.compare.rows import compare as compared

    metrics, limits = chosen(names), tolerances(given)
    a, b = (read_side(name, folder, needed(metrics)) for name, folder in zip("AB", folders, strict=True))
    missing = {table: side for side in (a, b) for table in needed(metrics) if table not in side.tables}
    if names:
        _refuse_missing(missing, metrics)
    found = compared(a, b, [each for each in metrics if each.source.table not in missing], limits, accept)
    for table, side in missing.items():
        found.notes.append(f"not compared: {_of(table, metrics)}: {side.layout.table(table)} was not made")
    return found


def _with_references(path: Path, folder: Path, names: Sequence[str]) -> Comparison:
    """A campaign against a file of references."""
    from campaign.results.compare.folder import needed, read_side
    from campaign.results.compare.metrics import chosen
    from campaign.results.compare.references import compare_with, load_references

    references = load_references(path)
    metrics = [each for each in chosen(names) if each.name in references.metrics()]
    if not metrics:
        raise UserError(f"{path}: references: none is of {', '.join(names)}")
    side = read_side("B", folder, needed(metrics))
    _refuse_missing({table: side for table in needed(metrics) if table not in side.tables}, metrics)
    return compare_with(references, side, metrics)


def _write_references(path: Path, folder: Path, names: Sequence[str], given: Sequence[str]) -> None:
    """A file of references from a campaign. What is there already is somebody's: it is not replaced."""
    from bnn.records.files import write_text
    from campaign.io.files import os_errors_named
    from campaign.results.compare.folder import needed, read_side
    from campaign.results.compare.metrics import chosen, tolerances
    from campaign.results.compare.references import reference_text

    metrics, limits = chosen(names), tolerances(given)
    if path.exists():
        raise UserError(f"{path}: exists already")
    side = read_side("A", folder, needed(metrics))
    _refuse_missing({name: side for name in needed(metrics) if names and name not in side.tables}, metrics)
    text = reference_text(side, metrics, limits)
    with os_errors_named(path):
        write_text(path, text)
    click.echo(f"{path}: {text.count('[')} references", err=True)


def _refuse_missing(missing: dict[str, Side], metrics: Sequence[Metric]) -> None:
    for table, side in missing.items():
        raise UserError(f"{side.layout.table(table)}: no such file: {_of(table, metrics)} is made of it")


def _of(table: str, metrics: Sequence[Metric]) -> str:
    return ", ".join(metric.name for metric in metrics if metric.source.table == table)


def _print(found: Comparison, whole: bool) -> None:
    from rich.text import Text

    from campaign.results.compare.said import totals
    from campaign.tell.compare_table import comparison_table, lists
    from campaign.tell.terminal import console

    terminal = console(200)
    table = comparison_table(found, whole)
    if table.row_count:
        terminal.print(table)
    for line in (*lists(found), *totals(found)):
        terminal.print(Text(line))
