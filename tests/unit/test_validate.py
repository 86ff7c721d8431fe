"""`campaign validate`: a campaign without a fault, and what is found where one thing of it is changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.names.layout import Layout
from campaign.results.tables.schemas import CELL_TABLES
from campaign.results.validate.records import manifest_faults
from campaign.results.validate.run import validate
from campaign.tell.cli import cli
from tests.support.cells import SITE, entry, plan, write_cell
from tests.support.finished import snapshot
from tests.support.made import figures_of, make_figures, make_report, make_tables

ENTITIES = '<!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A small campaign with all that is made of it."""
    folder = tmp_path_factory.mktemp("results")
    cells = [entry(kind=kind, nodes=n) for kind in ("bnn", "cnn") for n in (1, 2)]
    for number, cell in enumerate(cells):
        write_cell(folder, cell, seed=number)
    layout = Layout(folder, SITE["name"])
    for number, path in enumerate(sorted(layout.root.rglob("summary.json"))):
        summary = json.loads(path.read_text())
        (path.parent / "posterior" / "step-12").mkdir(parents=True)
        content = b"posterior %d" % number
        (path.parent / "posterior" / "step-12" / "x").write_bytes(content)
        listed = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        path.write_text(json.dumps(summary | {"manifest": {"posterior/step-12/x": listed}}))
    layout.plan.write_text(json.dumps(plan(cells)))
    make_tables(layout)
    make_figures(layout)
    make_report(layout)
    return layout


@pytest.fixture
def layout(whole: Layout, tmp_path: Path) -> Layout:
    """A copy to be changed."""
    shutil.copytree(whole.root, tmp_path / whole.site)
    return Layout(tmp_path, whole.site)


def test_a_campaign_as_it_was_made_has_no_fault_and_nothing_is_written(whole: Layout):
    before = snapshot(whole.results)
    result = CliRunner().invoke(cli, ["validate", str(whole.root)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no fault" in result.stderr
    assert snapshot(whole.results) == before


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def retyped(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def with_field(path: Path, name: str, **change: Any) -> None:
    """Another type, or other metadata, of a column."""
    table = pq.read_table(path)
    at = table.schema.get_field_index(name)
    field = table.schema.field(at)
    if "type" in change:
        table = table.set_column(
            at, pa.field(name, change["type"], metadata=field.metadata), table[name].cast(change["type"])
        )
    else:
        table = table.cast(table.schema.set(at, field.with_metadata(field.metadata | change["metadata"])))
    pq.write_table(table, path)


def version(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(table.schema.metadata | {b"schema_version": b"99"})


def cells(at: Layout) -> Path:
    return at.table("cells")


def first(at: Layout, name: str) -> Path:
    """A file of the first cell."""
    return sorted((at.root / "cells").rglob(name))[0]


def other_steps(at: Layout) -> None:
    paths = sorted((at.root / "cells").rglob("steps.parquet"))
    shutil.copy(paths[2], paths[0])


def other_ledger(at: Layout) -> None:
    table = pq.read_table(at.table("claims"))
    column = table.column_names.index("ledger_sha256")
    digests = pa.array(["0" * 64] * len(table))
    pq.write_table(table.set_column(column, table.schema.field(column), digests), at.table("claims"))


def foreign_steps(at: Layout) -> None:
    """Ten steps of the first cell are another one's, in row groups that end among them."""
    table = pq.read_table(at.table("steps"))
    kinds = pa.array(["???" if row < 10 else kind for row, kind in enumerate(table["kind"].to_pylist())])
    column = table.column_names.index("kind")
    changed = table.set_column(column, table.schema.field(column), kinds)
    pq.write_table(changed, at.table("steps"), row_group_size=7)


def data_record(at: Layout) -> None:
    (at.root / "data").mkdir()
    (at.root / "data" / "x.json").write_text('{"dataset": "synthetic"}')


Change = tuple[Callable[[Layout], Any], str]
# What is found without making anything once more.
QUICKLY: dict[str, Change] = {
    "type": (lambda at: with_field(cells(at), "threads", type=pa.float64()), "column threads: type double"),
    "unit": (lambda at: with_field(cells(at), "loss", metadata={b"unit": b"bits"}), "loss: unit 'bits'"),
    "meaning": (lambda at: with_field(cells(at), "loss", metadata={b"meaning": b"?"}), "column loss: meaning '?'"),
    "column": (lambda at: retyped(cells(at), lambda t: t.drop_columns(["loss"])), "column loss: missing"),
    "more": (lambda at: retyped(cells(at), lambda t: t.append_column("new", t["loss"])), "column new: not of this"),
    "order": (lambda at: retyped(cells(at), lambda t: t.select(t.column_names[::-1])), "columns in another order"),
    "version": (lambda at: retyped(cells(at), version), "cells version 99, this version of the program has 3"),
    "row twice": (lambda at: retyped(cells(at), lambda t: pa.concat_tables([t, t.slice(0, 1)])), "base 1: 2 rows"),
    "row less": (lambda at: retyped(cells(at), lambda t: t.slice(1)), "no row of this cell of plan.json"),
    "cut": (lambda at: at.table("steps").write_bytes(b"PAR1"), "steps.parquet: not a readable Parquet file"),
    "foreign steps": (foreign_steps, "steps.parquet: row 0: "),
    "table": (lambda at: at.table("scaling").unlink(), "scaling.parquet: no such file"),
    "unknown table": (lambda at: shutil.copy(cells(at), at.table("sells")), "no table is called sells"),
    "no table": (lambda at: at.table("x").with_name("notes.txt").write_text("x"), "notes.txt: no table"),
    "posterior": (lambda at: first(at, "step-12/x").write_bytes(b"posterior 7"), "step-12/x: sha256"),
    "its size": (lambda at: first(at, "step-12/x").write_bytes(b"more"), "step-12/x: 4 bytes, 11 are recorded"),
    "its file": (lambda at: first(at, "step-12/x").unlink(), "step-12/x: recorded, but: No such file"),
    "settings": (lambda at: edit(first(at, "cell.json"), '"seed":0', '"seed":1'), "cell.json: hash"),
    "damaged": (lambda at: first(at, "summary.json").write_text("{"), "summary.json: content: Invalid JSON"),
    "plan": (lambda at: edit(at.plan, '"seed": 0', '"seed": 1'), "plan.json: cells[0].fingerprint: "),
    "plan's shape": (lambda at: edit(at.plan, '"roles"', '"rolls"'), "plan.json: cells[0].roles: missing"),
    "plan's settings": (lambda at: edit(at.plan, '"epochs": 64', '"epochs": -1'), "cells[0]: "),
    "figure": (lambda at: at.figure("fig2a", "png").unlink(), "fig2a.png: no such file"),
    "cut figure": (lambda at: at.figure("fig2a", "svg").write_text("<svg"), "fig2a.svg: no whole SVG image (unclosed"),
    "not SVG": (lambda at: at.figure("fig2a", "svg").write_text("<a/>"), "fig2a.svg: no whole SVG image (its"),
    "not PNG": (lambda at: at.figure("fig2a", "png").write_bytes(b"PNG"), "fig2a.png: no whole PNG image"),
    "entities": (lambda at: at.figure("fig2a", "svg").write_text(ENTITIES), "it declares entities"),
    "report": (lambda at: at.report.unlink(), "report.html: no such file"),
    "cut report": (lambda at: at.report.write_text("<html>"), "report.html: no whole page"),
    "ledger": (other_ledger, "claims.parquet: judged by ledger sharma2020 with sha256 000000000000"),
    "data set": (data_record, "data/x.json: no record of a data set (KeyError: 'checksum')"),
}  # fmt: skip
SLOWLY: dict[str, Change] = {
    "other steps": (other_steps, "cells.parquet: row 0, column step_seconds"),
    "summary": (
        lambda at: edit(first(at, "summary.json"), '"peak_memory_bytes": 600000000', '"peak_memory_bytes": 1'),
        "cells.parquet: row 0, column peak_memory_bytes: 600000000, its records come to 1",
    ),
    "other figure": (
        lambda at: shutil.copy(at.figure("fig1", "png"), at.figure("fig2a", "png")),
        "fig2a.png: not what the tables come to",
    ),
    "edited report": (
        lambda at: edit(at.report, "Toy machine", "Top machine"),
        "report.html: not what tables and figures come to",
    ),
    "edited page": (
        lambda at: edit(next(at.report_cells.iterdir()), "Values", "Value"),
        ".html: not what tables and figures come to",
    ),
    "page": (lambda at: next(at.report_cells.iterdir()).unlink(), ".html: no such file, and the report leads to it"),
    "page too many": (
        lambda at: shutil.copy(next(at.report_cells.iterdir()), at.report_cells / "gone.html"),
        "report/cells/gone.html: a page that the report does not lead to",
    ),
    "rows too many": (
        lambda at: shutil.copytree(at.report_cells, at.report_cells.with_name("rows")),
        "base_r1.html: a page that the report does not lead to",
    ),
}


@pytest.mark.parametrize("name", [*QUICKLY, *SLOWLY])
def test_each_change_is_found_and_named(layout: Layout, name: str):
    change, words = (QUICKLY | SLOWLY)[name]
    change(layout)
    result = CliRunner().invoke(cli, ["validate", str(layout.root), *(["--quick"] if name in QUICKLY else [])])
    assert result.exit_code == 1, result.output
    assert words in result.stdout
    assert all(line.startswith(str(layout.root)) for line in result.stdout.splitlines())


def test_steps_of_no_cell_are_one_fault_and_not_one_per_row(layout: Layout):
    foreign_steps(layout)
    assert sum("steps.parquet: " in line for line in validate(layout, anew=False).faults) == 1


@pytest.fixture(scope="module")
def only_tables(whole: Layout, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A copy whose tables are changed and put right again."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(whole.root, folder / whole.site)
    return Layout(folder, whole.site)


@hypothesis.settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_changed_value_of_any_table_is_found(whole: Layout, only_tables: Layout, data: st.DataObject):
    from campaign.plan.read import read_plan
    from campaign.results.validate.anew import tables_of_records

    names = sorted(name for name in CELL_TABLES if pq.read_metadata(whole.table(name)).num_rows)
    path = only_tables.table(data.draw(st.sampled_from(names)))
    table = pq.read_table(path)
    column = data.draw(st.sampled_from(table.column_names))
    row = data.draw(st.integers(0, len(table) - 1))
    values = table[column].to_pylist()
    kinds: dict[Any, Any] = {pa.string(): "other", pa.bool_(): None, pa.int64(): -5, pa.float64(): -0.125}
    values[row] = kinds[table.schema.field(column).type]
    changed = table.set_column(
        table.column_names.index(column), table.schema.field(column), pa.array(values, table[column].type)
    )
    pq.write_table(changed, path)
    try:
        found = list(tables_of_records(only_tables, read_plan(only_tables.plan)))
    finally:
        shutil.copy(whole.table(path.stem), path)
    assert changed.equals(table) or [path.name in line and column in line for line in found] == [True]


def test_what_was_not_looked_at_is_said(layout: Layout, tmp_path: Path):
    assert validate(layout, anew=False).unseen == [
        "whether tables, figures and report are what they are made from (--quick)"
    ]
    shutil.rmtree(layout.root / "cells")
    found = validate(layout)
    assert found.faults == []
    assert len(found.unseen) == 2


def test_records_beside_a_folder_of_another_name_are_not_mistaken(layout: Layout, tmp_path: Path):
    layout.root.rename(tmp_path / "of-last-year")
    found = validate(Layout(tmp_path, "of-last-year"))
    assert found.faults == []
    assert "folder of-last-year is of site toy" in found.unseen[0]


def test_a_data_set_of_another_checksum_is_named(layout: Layout):
    read = json.loads(layout.plan.read_text())
    digests = ["sha256:" + digit * 64 for digit in "ab"]
    read["cells"][0]["settings"]["dataset_options"] = {"checksum": digests[0]}
    layout.plan.write_text(json.dumps(read))
    (layout.root / "data").mkdir()
    (layout.root / "data" / "s.json").write_text(json.dumps({"dataset": "synthetic", "checksum": digests[1]}))
    assert any(f"s.json: checksum {digests[1]}" in line for line in validate(layout, anew=False).faults)


def test_what_is_listed_outside_of_the_folder_is_not_opened(tmp_path: Path):
    for name in ("../x", "/etc/passwd", "a/../../x"):
        (line,) = manifest_faults(tmp_path, {name: ("0" * 64, 1)})
        assert "not within" in line


def test_a_folder_without_a_plan_is_an_error(tmp_path: Path):
    error = CliRunner().invoke(cli, ["validate", str(tmp_path)]).exception
    assert isinstance(error, UserError)
    assert "no plan.json" in str(error)


def test_all_figures_were_drawn(whole: Layout):
    assert len(figures_of(whole)) > 5
