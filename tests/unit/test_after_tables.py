"""From real records of `bnn infer` and `bnn prune` to tables, figures and the report's sections."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from bnn.cli import main
from bnn.layers import bayesian_layers
from bnn.posterior.save import save_network
from bnn.records.columns import read_table, write_table
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.plan.content import plan_content
from campaign.results.figures.classes import classes_figure, pruned_classes_figure
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.predictions import draws_figure
from campaign.results.figures.select import NothingToDrawError
from campaign.results.report.inference import inference_section, pruning_section
from campaign.results.tables.build import build_tables
from campaign.results.tables.inference_schemas import INFERENCE_TABLES, PRUNING_TABLES
from campaign.results.tables.schemas import TABLES
from tests.support.campaigns import campaign
from tests.support.cells import write_cell
from tests.support.posteriors import paper_network
from tests.unit.test_after_jobs import with_study

AFTER = INFERENCE_TABLES | PRUNING_TABLES


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells and posteriors of a campaign, and all jobs after them made for real; of node count 2 draws are alike."""
    folder = tmp_path_factory.mktemp("results")
    made = asked()
    layout = Layout(folder, "toy")
    for entry, planned in zip(plan_content(made)["cells"], made.cells, strict=True):
        if entry["dataset"] == "mnist-sample":
            write_cell(folder, entry, steps=12, labels=planned.settings.labels)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        for job in made.after:
            posterior = layout.posterior(job.cell) / "step-12"
            if not posterior.exists():
                network = paper_network("fc", 1 / 16, seed=job.cell.repeat)
                if job.cell.nodes == 2:
                    for layer in bayesian_layers(network):
                        torch.nn.init.constant_(layer.rho, -14.0)
                save_network(network, posterior)
            out = job.record(layout).parent
            patch.setattr(sys, "argv", ["bnn", job.command, str(posterior.parent), *job.options, "--out", str(out)])
            main()
    return folder


def asked() -> Campaign:
    return campaign(with_study())


@pytest.fixture(scope="module")
def tables(results: Path) -> dict[str, pd.DataFrame]:
    return build_tables(plan_content(asked()), results)


def test_all_tables_have_their_rows(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    for name, schema in AFTER.items():
        write_table(tables[name], tmp_path / f"{name}.parquet", schema)
        back = read_table(tmp_path / f"{name}.parquet", schema)
        assert list(back.columns) == schema.names
        assert len(back) == len(tables[name])
        assert len(back) > 0 or name == "inference_others"  # tests/unit/test_methods.py
    assert len(tables["inference"]) == 4
    assert len(tables["pruning_summary"]) == 6
    assert len(tables["pruning"]) == 6 * 3
    assert set(tables["pruning_layers"]["semantics"]) == {"zero", "bprune"}
    draws = tables["inference_draws"].groupby(["nodes", "repeat"])["draw"].count()
    assert set(draws) == {30}


def test_rows_tell_what_the_records_tell(tables: dict[str, pd.DataFrame], results: Path) -> None:
    layout = Layout(results, "toy")
    job = next(job for job in asked().after if job.command == "infer")
    row = tables["inference"].iloc[0]
    record = json.loads(job.record(layout).read_text())
    for name in ("accuracy", "nll", "brier", "softmax_spread", "draws", "images", "seconds_draws", "threads"):
        assert row[name] == record[name]
    assert row["posterior_sha256"] == record["posterior"]["sha256"]
    assert row["status"] in ("OK", "WARN")
    alike = tables["inference"][tables["inference"]["nodes"] == 2]
    assert set(alike["status"]) == {"WARN"}
    assert alike["reasons"].str.contains("draws all alike").all()


def test_a_job_without_its_record_is_missing_with_the_reason(results: Path, tmp_path: Path) -> None:
    none = build_tables(plan_content(asked()), tmp_path, AFTER)
    assert set(none["inference"]["status"]) == {"MISSING"}
    assert set(none["inference"]["reasons"]) == {"not made yet"}
    assert none["pruning"].empty
    other = plan_content(campaign(with_study(infer={"draws": 31, "images": 60})))
    reasons = build_tables(other, results, ["inference"])["inference"]["reasons"]
    assert set(reasons) == {"its record is of another job than the plan's"}


def test_a_record_of_an_earlier_training_is_not_shown(results: Path) -> None:
    layout = Layout(results, "toy")
    jobs = [job for job in asked().after if job.command == "infer"]
    summary = layout.summary(jobs[0].cell)
    before, stamp = summary.read_text(), summary.stat().st_mtime
    sha256 = json.loads(jobs[0].record(layout).read_text())["posterior"]["sha256"]
    try:
        for digest, status in ((sha256, {"OK", "WARN"}), ("0" * 64, {"MISSING"})):
            manifest = {"posterior/step-12/posterior.safetensors": {"sha256": digest, "bytes": 1}}
            summary.write_text(json.dumps(json.loads(before) | {"manifest": manifest}))
            built = build_tables(plan_content(asked()), results, ["inference"])
            row = built["inference"].iloc[0]
            assert row["status"] in status
            assert len(built["inference_draws"]) == 30 * (4 if digest == sha256 else 3)
        assert "it was trained again" in row["reasons"]
    finally:
        summary.write_text(before)
        os.utime(summary, (stamp, stamp))


def test_jobs_of_another_target_are_left_out_until_they_have_run(results: Path, tmp_path: Path) -> None:
    plan = plan_content(campaign(with_study(target="pruning_full")))
    assert build_tables(plan, tmp_path, AFTER)["pruning_summary"].empty
    assert "mnist-sample" not in set(build_tables(plan, tmp_path)["cells"]["dataset"])
    assert len(build_tables(plan, results, AFTER)["pruning_summary"]) == 6


def test_records_are_current_until_the_cell_is_trained_again(results: Path) -> None:
    layout = Layout(results, "toy")
    job = asked().after[0]
    assert job.is_current(layout)
    assert not campaign(with_study(seed=None, infer={"draws": 31})).after[0].is_current(layout)
    summary = layout.summary(job.cell)
    before, stamp = summary.read_text(), summary.stat().st_mtime
    try:
        os.utime(summary, (later := job.record(layout).stat().st_mtime + 10, later))
        assert job.is_current(layout), "times say nothing"
        manifest = {"posterior/step-12/posterior.safetensors": {"sha256": "0" * 64, "bytes": 1}}
        summary.write_text(json.dumps(json.loads(before) | {"manifest": manifest}))
        os.utime(summary, (1, 1))
        assert not job.is_current(layout), "it is of a posterior that the cell no longer has"
        summary.write_text(json.dumps(json.loads(before) | {"hash": "0" * 16}))
        assert not job.is_current(layout), "its cell has to be trained again"
    finally:
        summary.write_text(before)
        os.utime(summary, (stamp, stamp))


def draw(name: str, tables: dict[str, pd.DataFrame]) -> Figure:
    context = Context("a machine", "ranks")
    by_hand = {
        "fig4a": lambda: draws_figure(tables, context, model="fc", most=False),
        "fig4b": lambda: draws_figure(tables, context, model="fc", most=True),
        "fig5": lambda: classes_figure(tables, context, model="fc"),
        "fig9b": lambda: pruned_classes_figure(tables, context, model="fc"),
    }
    return by_hand[name]() if name in by_hand else draw_figure(name, tables, context)


def words(figure: Figure) -> str:
    found = [text.get_text() for text in figure.texts]
    found += [text.get_text() for ax in figure.axes for text in (*ax.texts, ax.xaxis.label, ax.yaxis.label)]
    found += [ax.get_title("left") for ax in figure.axes]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join([*found, figure.get_suptitle()])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fig4a", ["10 draws", "30 draws", "trained on N = 1"]),
        ("fig4b", ["trained on N = 2", "point mass"]),
        ("fig5", ["class 0", "class 9"]),
        ("inference_runtime", ["s per draw", "least squares", "Published, not drawn"]),
        ("inference_convergence", ["tolerance 0.01", "published: settled from 400"]),
        ("inference_reliability", ["ECE", "calibrated", "confidence"]),
        ("fig8", ["bprune, as published", "zero: mean and sigma 0", "paper: unchanged", "2 repeats"]),
        ("fig9b", ["50% removed", "90% removed", "0% removed"]),
        ("snr", ["all weights", "signal-to-noise ratio (dB)"]),
        ("pruning_speed", ["by weight", "by unit", "dead units removed", "1 point", "60 images"]),
    ],
)
def test_every_figure_is_drawn_and_says_what_it_shows(
    name: str, said: list[str], tables: dict[str, pd.DataFrame]
) -> None:
    figure = draw(name, tables)
    text = words(figure)
    for phrase in said:
        assert phrase in text
    assert all(ax.lines or ax.patches or ax.collections for ax in figure.axes)


def test_the_curves_of_figure_8_are_means_over_repeats(tables: dict[str, pd.DataFrame]) -> None:
    figure = draw("fig8", tables)
    rows = tables["pruning"]
    chosen = rows[(rows["semantics"] == "zero") & (rows["by"] == "weight")]
    mean = chosen.groupby("level")["accuracy"].mean().sort_index()
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert any(list(line.get_ydata()) == pytest.approx(list(mean)) for line in lines)


@pytest.mark.parametrize("name", ["fig4a", "fig8", "snr", "pruning_speed", "inference_runtime"])
def test_without_a_job_that_counts_a_figure_says_why(name: str, tables: dict[str, pd.DataFrame]) -> None:
    empty = copy.copy(tables)
    for summary in ("inference", "pruning_summary"):
        empty[summary] = tables[summary].assign(status="MISSING", reasons="not made yet")
    with pytest.raises(NothingToDrawError, match="not made yet"):
        draw(name, empty)


def test_the_reports_sections(tables: dict[str, pd.DataFrame]) -> None:
    predictions, pruning = inference_section(tables), pruning_section(tables)
    assert len(predictions["rows"]) == 4
    assert predictions["missing"] == []
    first: dict[str, Any] = predictions["rows"][0]
    assert first["accuracy"] == f"{100 * tables['inference']['accuracy'].iloc[0]:.1f}%"
    assert "start" in first["sigma"]
    assert len(pruning["rows"]) == 6
    assert len(pruning["semantics"]) == 3
    for row in pruning["rows"]:
        assert (row["percent"] == "none") == (row["loss"] == "–")
    gone = {name: frame for name, frame in tables.items() if name in TABLES}
    gone["inference"] = tables["inference"].assign(status="MISSING", reasons="not made yet")
    assert inference_section(gone)["rows"] == []
    assert inference_section(gone)["missing"] == [("not made yet", 4)]
