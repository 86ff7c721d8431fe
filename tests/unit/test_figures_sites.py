"""Figures of several sites, drawn from the files that lie in their folders; damaged files are named."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from snakemake.iocontainers import Namedlist

from bnn.records.columns import write_table
from campaign.names.layout import Layout
from campaign.results.figures.catalogue import FIGURES
from campaign.results.figures.context import Context
from campaign.results.figures.sites import COMPARED_TABLES, other_sites
from campaign.results.report.page import render
from campaign.results.tables.build import build_tables
from campaign.results.tables.schemas import TABLES
from tests.support.cells import entry, plan, write_cell

ROOT = Path(__file__).parents[2]
FIG7 = ["fig7a", "fig7b", "fig7c", "fig7d"]


def joined(text: str) -> str:
    """Without spaces: a figure's text is broken into lines, paths too."""
    return "".join(text.split())


def write_site(results: Path, name: str, device: str, seconds: float) -> None:
    """A site's folder with plan and tables, made from records as runs leave them."""
    cells = [
        entry(kind=kind, nodes=nodes, batch_size=512, dataset="infinite-mnist", roles=("large-batch",), epochs=12,
              device=device) | {"site": name}
        for kind in ("bnn", "cnn")
        for nodes in (1, 2)
    ]  # fmt: skip
    for number, cell in enumerate(cells):
        more = {"train_size": 100_000, "profiled": False, "seed": number}
        write_cell(results, cell, seconds=seconds / (2 if cell["kind"] == "cnn" else 1), **more)
    made = plan(cells, name=name, title=f"test machine {name}")
    layout = Layout(results, name)
    layout.plan.write_text(json.dumps(made))
    for table, frame in build_tables(made, results).items():
        write_table(frame, layout.table(table), TABLES[table])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_site(folder, "dgx", "cuda", 0.2)
    write_site(folder, "theta", "cpu", 4.0)
    return folder


@pytest.fixture
def results(written: Path, tmp_path: Path) -> Path:
    """The two sites' folders, to be spoilt."""
    return Path(shutil.copytree(written, tmp_path / "results"))


def run(name: str, results: Path, own: str = "dgx") -> tuple[str, Path]:
    """Draw a figure of a site as the workflow does; its texts, and the file."""
    layout = Layout(results, own)
    others = [str(path) for other in other_sites(layout) for path in other.files]
    tables = [str(layout.table(table)) for table in FIGURES[name].tables]
    given = {"tables": Namedlist(tables), "others": Namedlist(others)}
    made = {kind: str(layout.figure(name, kind)) for kind in ("svg", "png")}
    fields = {"input": given, "output": made, "params": {"figure": name, "plan": str(layout.plan)}}
    snakemake = SimpleNamespace(**{key: Namedlist(fromdict=value) for key, value in fields.items()})
    runpy.run_path(str(ROOT / "workflow/scripts/draw.py"), init_globals={"snakemake": snakemake})
    svg = layout.figure(name, "svg")
    return " ".join(re.findall(r"<text[^>]*>(.*?)</text>", svg.read_text())), svg


@pytest.mark.parametrize("own", ["dgx", "theta"])
def test_both_sites_draw_all_four_from_two_folders(results: Path, own: str) -> None:
    for name in FIG7:
        text, _ = run(name, results, own)
        assert "Not drawn" not in text
        assert "BNN on dgx GPUs (bnn-flipout-torch, horovod)" in text
        assert ("BNN on theta CPU nodes" in text) == (name != "fig7a")
    ratio = re.search(r"dgx / theta BNN ([\d.]+), CNN ([\d.]+)", run("fig7b", results, own)[0])
    assert ratio
    assert float(ratio[1]) == pytest.approx(20, rel=0.05)  # steps of 4 s and of 0.2 s


def test_other_sites_are_found_with_their_devices_by_content_not_time(results: Path) -> None:
    (other,) = other_sites(Layout(results, "dgx"))
    assert (other.name, other.devices, other.problem) == ("theta", frozenset({"cpu"}), "")
    assert {path.name for path in other.files} == {"plan.json", *(f"{name}.parquet" for name in COMPARED_TABLES)}
    before = other.fingerprint
    for path in other.files:
        os.utime(path, (1, 1))
    assert other_sites(Layout(results, "dgx"))[0].fingerprint == before
    other.layout.plan.write_text(other.layout.plan.read_text() + "\n")
    assert other_sites(Layout(results, "dgx"))[0].fingerprint != before


def test_a_site_that_was_only_planned_is_none(results: Path) -> None:
    for name in TABLES:
        Layout(results, "theta").table(name).unlink()
    assert other_sites(Layout(results, "dgx")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b'{"cells": []}', "not a plan"),
        (b'{"campaign": "x", "site": {"name": "x"}, "cells": [{"roles": ["large-batch"]}]}', "cells[0].site: missing"),
        (b'{"campaign": "x", "site": 5, "cells": 5}', "site: Input should be"),
        (
            json.dumps(plan([entry(roles=("large-batch",)) | {"settings": {}}])).encode(),
            "not a plan of this version",
        ),
    ],
)
def test_a_damaged_plan_is_one_line_that_names_it(results: Path, text: bytes, found: str) -> None:
    plan_file = Layout(results, "theta").plan
    plan_file.write_bytes(text)
    (other,) = other_sites(Layout(results, "dgx"))
    assert other.devices == frozenset()
    assert other.problem.startswith(f"{plan_file}: {found}")
    assert "\n" not in other.problem
    assert joined(f"Left out: {plan_file}: {found}") in joined(run("fig7a", results)[0])


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def age(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"schema": path.stem, "schema_version": "0"}), path)


@pytest.mark.parametrize(("spoil", "found"), [(damage, "not a readable Parquet file"), (age, "version 0")])
def test_spoilt_tables_of_another_site_are_said_in_the_figure_and_once_on_stderr(
    results: Path, capsys: pytest.CaptureFixture[str], spoil: Any, found: str
) -> None:
    table = Layout(results, "theta").table("throughput")
    spoil(table)
    text, _ = run("fig7a", results)
    assert "BNN on dgx GPUs" in text
    assert joined(f"{table}: ") in joined(text)
    assert joined(found) in joined(text)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"site theta is left out: {table}: ")
    text, svg = run("fig7b", results)
    assert "Not drawn: no run on CPU nodes" in text
    assert str(table) in joined(text)
    # and the report says the same
    layout = Layout(results, "dgx")
    made = json.loads(layout.plan.read_text())
    page = render(made, build_tables(made, results), {"fig7b": svg}, others=other_sites(layout))
    row = page[page.index('<tr id="fig7b">') :].split("</tr>")[0]
    assert "no run on CPU nodes at large batches has a value that counts" in row
    assert str(table) in joined(row)


def test_a_missing_table_of_another_site_is_named(results: Path) -> None:
    table = Layout(results, "theta").table("scaling")
    table.unlink()
    (other,) = other_sites(Layout(results, "dgx"))
    assert other.problem == f"{table}: no such file"
    made = json.loads(Layout(results, "dgx").plan.read_text())
    page = render(made, build_tables(made, results), {}, others=[other])
    assert f"site theta cannot be used: {table}: no such file" in page


def test_a_context_knows_the_devices_of_large_batches_only(results: Path) -> None:
    context = Context.from_plan(json.loads(Layout(results, "dgx").plan.read_text()))
    assert set(context.devices.values()) == {"cuda"}
    assert Context.from_plan(plan([entry()])).devices == {}


def dry_run(profile: str, target: str, folder: Path) -> str:
    """What a dry run of the real workflow says, with results in `folder`."""
    words = [
        "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles" / profile), "--directory",
        str(folder), "-n", target, "--config", f"results={folder / 'results'}",
    ]  # fmt: skip
    done = subprocess.run([str(Path(sys.executable).parent / "snakemake"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.snakemake
def test_dry_runs_with_and_without_another_site(tmp_path: Path) -> None:
    results = tmp_path / "results"
    alone = dry_run("dgx", "gpu_scaling", tmp_path)
    assert {name for name in FIG7 if f"rule {name}:" in alone} == {"fig7a", "fig7d"}
    write_site(results, "theta", "cpu", 4.0)
    beside = dry_run("dgx", "gpu_scaling", tmp_path)
    assert {name for name in FIG7 if f"rule {name}:" in beside} == set(FIG7)
    inputs = [line for line in beside.splitlines() if line.strip().startswith("input:") and "theta/plan.json" in line]
    assert len(inputs) == len(FIG7)
    outputs = [line for line in beside.splitlines() if line.strip().startswith("output:")]
    assert outputs
    assert not [line for line in outputs if "/theta/" in line]  # none of its files is made here


@pytest.mark.snakemake
def test_a_cpu_site_says_why_another_site_is_left_out(tmp_path: Path) -> None:
    write_site(tmp_path / "results", "dgx", "cuda", 0.2)
    assert "rule fig7c:" in dry_run("local", "all_figures", tmp_path)
    plan_file = Layout(tmp_path / "results", "dgx").plan
    plan_file.write_text("{")
    text = dry_run("local", "all_figures", tmp_path)
    assert "rule fig7c:" not in text
    assert (
        len(re.findall(f"site dgx is left out of figures 7a to 7d: {re.escape(str(plan_file))}: not JSON", text)) == 1
    )
