"""`campaign compare --reference`: a campaign against what a file expects of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.results.compare.metrics import METRICS
from campaign.results.compare.references import compare_with, load_references, reference_text
from campaign.results.compare.schema import BETTER, SAME, UNDECIDED, WORSE
from campaign.tell.cli import cli
from tests.support.comparisons import measured, side, write_side

CELL = "synthetic vgg16 bnn nodes=1 batch=16 reference"
A = [100.0, 101.0, 99.5]


def written(folder: Path, given: str, metric: str = "throughput", cell: str = CELL, site: str = "toy") -> Path:
    path = folder / "references.yaml"
    path.write_text(f"site: {site}\nreferences:\n  {cell}:\n    {metric}: {given}\n")
    return path


def run(*words: Any) -> Any:
    return CliRunner().invoke(cli, ["compare", *map(str, words)])


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ("[100, -0.05, 0.05, samples/s]", SAME),
        ("[100, -0.05, null, samples/s]", SAME),
        ("[150, -0.05, null, samples/s]", WORSE),
        ("[150, null, 0.05, samples/s]", SAME),
        ("[50, -0.05, 0.05, samples/s]", BETTER),
        ("[100.2, -0.001, 0.001, samples/s]", UNDECIDED),
    ],
)
def test_a_reference_is_met_or_not(tmp_path: Path, given: str, verdict: str):
    (row,) = compare_with(
        load_references(written(tmp_path, given)), side("B", measured(A)), [METRICS["throughput"]]
    ).rows
    assert row["verdict"] == verdict
    assert row["ratio"] == pytest.approx(100.17 / float(given[1:].split(",", maxsplit=1)[0]), rel=0.001)


def test_less_is_better_for_seconds(tmp_path: Path):
    path = written(tmp_path, "[0.1, -0.05, 0.05, s]", "step_seconds")  # 16 / 100 s are measured
    (row,) = compare_with(load_references(path), side("B", measured(A)), [METRICS["step_seconds"]]).rows
    assert row["verdict"] == WORSE


@hypothesis.settings(max_examples=25, deadline=None)
@given(value=st.floats(1.0, 1e4), low=st.floats(-1, 0), high=st.floats(0, 10))
def test_bounds_are_reframes(tmp_path_factory: pytest.TempPathFactory, value: float, low: float, high: float):
    """ReFrame's assert_reference: from value x (1 + lower) to value x (1 + upper)."""
    path = written(tmp_path_factory.mktemp("r"), json.dumps([value, low, high, "samples/s"]))
    reference = load_references(path).cells[CELL]["throughput"]
    assert [reference.value * edge for edge in reference.same] == pytest.approx([value * (1 + low), value * (1 + high)])


def test_no_bound_is_null(tmp_path: Path):
    same = load_references(written(tmp_path, "[100, -0.1, null, samples/s]")).cells[CELL]["throughput"].same
    assert same == (0.9, math.inf)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[100, -0.05, 0.05, images/s]", "throughput: unit 'images/s': throughput is in 'samples/s'"),
        ("[100, 0.05, 0.05, samples/s]", "throughput: low 0.05 must be from -1 to 0"),
        ("[100, -5, 0.05, samples/s]", "throughput: low -5 must be from -1 to 0"),
        ("[100, -0.05, -0.1, samples/s]", "throughput: high -0.1 must be 0 or more"),
        ("[0, -0.05, 0.05, samples/s]", "throughput: value 0 must be more than 0"),
        ("[fast, -0.05, 0.05, samples/s]", "throughput: value 'fast' is no number"),
        ("[100, low, 0.05, samples/s]", "throughput: low 'low' is no number and not null"),
        ("[.nan, -0.05, 0.05, samples/s]", "throughput[0]: .nan is no finite number"),
        ("[100, null, null, samples/s]", "throughput: low and high are both null"),
        ("[100, -0.05, 0.05]", "throughput: expected [value, low, high, unit], not 3 of these"),
        ("100", "expected array, not 100"),
    ],
)
def test_a_slip_names_the_file_and_the_key(tmp_path: Path, given: str, words: str):
    path = written(tmp_path, given)
    with pytest.raises(UserError) as error:
        load_references(path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)
    assert f"references.{CELL}" in str(error.value)


def test_unknown_metrics_cells_and_sites_are_named(tmp_path: Path):
    good = "[100, -0.05, 0.05, samples/s]"
    folder = write_side(tmp_path / "a", measured(A))

    def said(*more: str, **place: str) -> str:
        error = run("--reference", written(tmp_path, good, **place), folder, *more).exception
        assert isinstance(error, UserError)
        return str(error)

    assert f"references.{CELL}.thruput: no metric, did you mean throughput?" in said(metric="thruput")
    assert f"did you mean {CELL}?" in said(cell=CELL.replace("vgg16", "vgg11"))
    assert "site: references are of 'theta'" in said(site="theta")
    assert "references: none is of loss" in said("--metric", "loss")


def test_a_metric_that_was_not_measured_is_missing(tmp_path: Path):
    path = written(tmp_path, "[1, null, 0.1, nats]", "held_out_nll")
    folder = write_side(tmp_path / "a", measured(A, synthetic=False))
    assert f"references.{CELL}.held_out_nll: missing in {folder}: no value" in str(
        run("--reference", path, folder).exception
    )


def test_exit_codes_and_what_has_no_reference(tmp_path: Path):
    folder = write_side(tmp_path / "a", measured(A) + measured(A, variant="other"))
    fine = run("--reference", written(tmp_path, "[100, -0.05, 0.05, samples/s]"), folder)
    assert fine.exit_code == 0, fine.output
    assert f"without a reference of throughput: {CELL.replace('reference', 'other')}" in fine.output
    assert run("--reference", written(tmp_path, "[150, -0.05, 0.05, samples/s]"), folder).exit_code == 1
    assert "one folder" in str(run("--reference", written(tmp_path, "[1, null, 0, s]"), folder, folder).exception)
    html = tmp_path / "r.html"
    told = run("--reference", written(tmp_path, "[150, -0.05, 0.05, samples/s]"), folder, "--out", html, "--json")
    assert isinstance(told.exception, SystemExit), told.exception
    assert told.exit_code == 1
    said = json.loads(told.stdout)
    assert [row["verdict"] for row in said["rows"]] == [WORSE]
    assert (said["only_in_a"], said["only_in_b"], said["exit_code"]) == ([], [], 1)
    assert "worse" in html.read_text()


def test_one_repeat_is_undecided(tmp_path: Path):
    folder = write_side(tmp_path / "a", measured([100.0]))
    error = run("--reference", written(tmp_path, "[150, -0.05, 0.05, samples/s]"), folder).exception
    assert "two repeats" in str(error)


@hypothesis.settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=5))
def test_what_is_written_of_a_campaign_is_met_by_it(tmp_path_factory: pytest.TempPathFactory, values: list[float]):
    folder = tmp_path_factory.mktemp("w")
    mine = side("B", measured(values, variant="a: 'b'", dataset="x"))
    path = folder / "references.yaml"
    path.write_text(reference_text(mine, list(METRICS.values()), dict.fromkeys(METRICS, 0.1)))
    references = load_references(path)
    found = compare_with(references, mine, [METRICS[name] for name in references.metrics()])
    assert {row["verdict"] for row in found.rows} <= {SAME, UNDECIDED}
    assert len(found.rows) >= 4
    assert all(row["ratio"] == pytest.approx(1, rel=1e-5) for row in found.rows)


def test_a_file_of_references_is_written_once(tmp_path: Path):
    folder, path = write_side(tmp_path / "a", measured(A)), tmp_path / "references.yaml"
    words = (folder, "--write-reference", path, "--metric", "throughput", "--tolerance", "5")
    assert run(*words).exit_code == 0
    assert f'"{CELL}":\n    throughput: [100.165, -0.047619, 0.05, "samples/s"]' in path.read_text()
    assert run(folder, "--reference", path).exit_code == 0
    assert "exists already" in str(run(*words).exception)
    assert "only one of them" in str(run(*words, "--reference", path).exception)
