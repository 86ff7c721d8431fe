"""`campaign export`: a crate, read again by its library, by `campaign validate` and by an independent validator."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.names.layout import Layout
from campaign.tell.cli import cli
from tests.support.cells import SITE, entry, plan, write_cell
from tests.support.finished import snapshot
from tests.support.made import figures_of, make_figures, make_report, make_tables

pytestmark = pytest.mark.skipif(find_spec("rocrate") is None, reason="rocrate is not installed")
CODE = "https://example.org/code"
METADATA = "ro-crate-metadata.json"
# The validator needs other versions of libraries than we have: it lives in an environment of its own.
VALIDATOR = os.environ.get("ROCRATE_VALIDATOR") or shutil.which("rocrate-validator")
PROGRAM = Path(__file__).parents[1] / "support" / "programs" / "validate_crate.py"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    folder = tmp_path_factory.mktemp("results")
    cells = [entry(kind=kind) for kind in ("bnn", "cnn")]
    for cell in cells:
        write_cell(folder, cell)
    layout = Layout(folder, SITE["name"])
    layout.plan.write_text(json.dumps(plan(cells)))
    layout.jobs.mkdir()
    (layout.jobs / "a.sh").write_text("#!/bin/sh\n")
    (layout.jobs / ".journal.jsonl").write_text("{}\n")
    make_tables(layout)
    make_figures(layout)
    make_report(layout)
    return layout


@pytest.fixture(scope="module")
def crate(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "crate"
    result = export(layout.root, out, "--author", "Ada Lovelace=0000-0002-1825-0097", "--code", CODE)
    assert result.exit_code == 0, result.output
    return out


def export(folder: Path, out: Path, *more: str, license_: str = "CC-BY-4.0") -> Any:
    return CliRunner().invoke(cli, ["export", str(folder), "-o", str(out), "--license", license_, *more])


def graph(crate: Path) -> dict[str, Any]:
    return {entity["@id"]: entity for entity in json.loads((crate / METADATA).read_text())["@graph"]}


def faults(folder: Path) -> list[str]:
    result = CliRunner().invoke(cli, ["validate", str(folder), "--quick"])
    assert result.exit_code == bool(result.stdout), repr(result.exception)
    return list(result.stdout.splitlines())


def test_every_file_has_its_size_hash_and_media_type(crate: Path, layout: Layout):
    listed = {name: entity for name, entity in graph(crate).items() if entity["@type"] == "File"}
    there = {path.relative_to(crate).as_posix(): path for path in crate.rglob("*") if path.is_file()}
    assert set(there) == {*listed, METADATA}
    for name, entity in listed.items():
        content = there[name].read_bytes()
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert entity["contentSize"] == str(len(content))
        assert entity["encodingFormat"].count("/") == 1
    drawn = {f"figures/{name}.{kind}" for name in figures_of(layout) for kind in ("svg", "png")}
    assert {"plan.json", "report.html", "tables/claims.parquet", "claims/sharma2020.yaml", "jobs/a.sh", *drawn} <= set(
        listed
    )


def test_it_says_licence_author_software_and_what_was_run(crate: Path):
    found = graph(crate)
    root = found["./"]
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert found[root["author"]["@id"]]["name"] == "Ada Lovelace"
    action = found[root["mentions"]["@id"]]
    assert action["startTime"] < action["endTime"]
    program = found[action["instrument"]["@id"]]
    assert (program["version"], program["url"]) == ("0123456789abcdef", CODE)
    named = {(found[one["@id"]]["name"], found[one["@id"]]["version"]) for one in program["softwareRequirements"]}
    assert {("torch", "2.13.0"), ("horovod", "0.28.1"), ("Python", "3.11.2"), ("MPI library", "MPICH 5.0.2")} <= named
    assert {"@id": "tables/cells.parquet"} in action["result"]


def test_its_library_reads_it(crate: Path):
    from rocrate.rocrate import ROCrate

    read = ROCrate(crate)
    assert read.get("tables/cells.parquet")["encodingFormat"] == "application/vnd.apache.parquet"
    assert len(read.data_entities) == sum(path.is_file() for path in crate.rglob("*")) - 1


def test_a_crate_has_no_fault_and_is_what_it_is_made_from(crate: Path):
    result = CliRunner().invoke(cli, ["validate", str(crate)])
    assert (result.exit_code, result.stdout) == (0, ""), result.output


@hypothesis.settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_changed_byte_of_any_file_is_found(crate: Path, data: st.DataObject):
    files = sorted(path for path in crate.rglob("*") if path.is_file() and path.name != METADATA)
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    try:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert any(line.startswith(f"{path}: sha256") for line in faults(crate))
    finally:
        path.write_bytes(content)


def test_missing_and_added_files_and_damaged_metadata_are_found(crate: Path, tmp_path: Path):
    copy = tmp_path / "crate"
    shutil.copytree(crate, copy)
    (copy / "jobs" / "a.sh").unlink()
    (copy / "new.txt").write_text("x")
    assert faults(copy) == [
        f"{copy / 'jobs' / 'a.sh'}: recorded, but: No such file or directory",
        f"{copy / 'new.txt'}: not listed in {METADATA}",
    ]
    edited = json.loads((copy / METADATA).read_text())
    for entity in edited["@graph"]:
        entity.pop("sha256", None)
    (copy / METADATA).write_text(json.dumps(edited))
    assert any("plan.json: sha256 or contentSize is missing" in line for line in faults(copy))
    (copy / METADATA).write_text("[]")
    assert any("no metadata of a crate" in line for line in faults(copy))


def test_records_come_along_when_asked_and_are_checked(layout: Layout, tmp_path: Path):
    out = tmp_path / "crate"
    assert export(layout.root, out, "--records").exit_code == 0
    assert {path.name for path in out.rglob("cells/**/*.json")} == {"cell.json", "summary.json", "provenance.json"}
    assert faults(out) == []


def test_an_archive_has_the_same_files_and_no_times(crate: Path, layout: Layout, tmp_path: Path):
    out = tmp_path / "crate.zip"
    assert export(layout.root, out, "--author", "Ada Lovelace=0000-0002-1825-0097", "--code", CODE).exit_code == 0
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        assert names[0] == METADATA
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        archive.extractall(tmp_path / "unpacked")
    content = {name: of[2] for name, of in snapshot(crate).items()}
    assert {name: of[2] for name, of in snapshot(tmp_path / "unpacked").items()} == content
    assert list(tmp_path.iterdir()) == [out, tmp_path / "unpacked"] or len(list(tmp_path.iterdir())) == 2


def test_what_is_exported_is_left_as_it_is(layout: Layout, tmp_path: Path):
    before = snapshot(layout.root)
    export(layout.root, tmp_path / "crate")
    assert snapshot(layout.root) == before


def test_an_older_crate_is_replaced_and_nothing_else(layout: Layout, tmp_path: Path):
    out = tmp_path / "crate"
    assert export(layout.root, out).exit_code == 0
    (out / "left.txt").write_text("x")
    assert export(layout.root, out).exit_code == 0
    assert not (out / "left.txt").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("thesis.tex", "x")
    (tmp_path / "text.zip").write_text("x")
    for place, words in (
        (mine, "something that is no crate"), (archive, "no crate"), (tmp_path / "text.zip", "else than a zip archive"),
        (layout.root / "crate", "lies within"),
    ):  # fmt: skip
        before = snapshot(tmp_path)
        assert words in str(export(layout.root, place).exception)
        assert snapshot(tmp_path) == before


def test_an_export_that_fails_leaves_nothing(layout: Layout, tmp_path: Path):
    for name in ("crate", "crate.zip"):
        with mock.patch("campaign.results.crate.describe.describe", side_effect=OSError(28, "No space left on device")):
            error = export(layout.root, tmp_path / name).exception
        assert "No space left" in str(error)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--author", "Ada=0000"], "--author: 'Ada=0000' is no name, nor a name and an ORCID"),
        (["--author", "Ada=0000-0002-1825-0098"], "'Ada=0000-0002-1825-0098' is no name, nor a name and an ORCID"),
        (["--code", "example.org"], "--code: 'example.org' is no URL"),
        (["--author", "=0000-0002-1825-0097"], "is no name"),
    ],
)
def test_a_slip_is_one_line(layout: Layout, tmp_path: Path, words: list[str], line: str):
    error = export(layout.root, tmp_path / "crate", *words).exception
    assert isinstance(error, UserError)
    assert line in str(error)


@pytest.mark.parametrize("given", ["CC BY 4.0", "", "-x", "file:///etc/passwd"])
def test_what_is_no_licence_is_refused(layout: Layout, tmp_path: Path, given: str):
    assert "no SPDX identifier" in str(export(layout.root, tmp_path / "crate", license_=given).exception)


def test_a_licence_may_be_an_address(layout: Layout, tmp_path: Path):
    assert export(layout.root, tmp_path / "crate", license_="https://example.org/terms").exit_code == 0
    assert graph(tmp_path / "crate")["./"]["license"] == {"@id": "https://example.org/terms"}


def test_a_campaign_that_was_not_made_is_no_crate(layout: Layout, tmp_path: Path):
    folder = tmp_path / "toy"
    shutil.copytree(layout.root, folder)
    (folder / "report.html").unlink()
    assert "report.html: no such file: the campaign has to be made first" in str(
        export(folder, tmp_path / "crate").exception
    )


@pytest.mark.parametrize("name", ["figures/fig2a.svg", "report.html"])
def test_a_link_out_of_the_results_is_refused(layout: Layout, tmp_path: Path, name: str):
    folder, secret = tmp_path / "toy", tmp_path / "secret"
    shutil.copytree(layout.root, folder)
    secret.write_text("secret")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    assert f"{name}: leads out of the results" in str(export(folder, tmp_path / "crate").exception)
    assert not (tmp_path / "crate").exists()


@pytest.mark.skipif(VALIDATOR is None, reason="rocrate-validator is not on the PATH, nor named by ROCRATE_VALIDATOR")
@pytest.mark.slow
def test_an_independent_validator_finds_nothing_that_a_crate_must_have(crate: Path, layout: Layout, tmp_path: Path):
    import rocrate

    context = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
    python = Path(str(VALIDATOR)).with_name("python")
    words = ["-y", "validate", "--no-cache", "-p", "ro-crate-1.3", "-l", "required", "-f", "json", "-o"]
    out = tmp_path / "said.json"
    assert export(layout.root, tmp_path / "plain").exit_code == 0
    for good in (crate, tmp_path / "plain"):
        subprocess.run([python, PROGRAM, context, *words, out, good], timeout=300, check=False, capture_output=True)
        said = json.loads(out.read_text())
        assert said["issues"] == []
        assert said["passed"]
        out.unlink()
    shutil.copytree(crate, tmp_path / "bad")
    bad = json.loads((tmp_path / "bad" / METADATA).read_text())
    for entity in bad["@graph"]:
        entity.pop("license", None)
    (tmp_path / "bad" / METADATA).write_text(json.dumps(bad))
    words[-1:] = ["-o", str(out), str(tmp_path / "bad")]
    subprocess.run([python, PROGRAM, context, *words], timeout=300, check=False, capture_output=True)
    assert not json.loads(out.read_text())["passed"]
