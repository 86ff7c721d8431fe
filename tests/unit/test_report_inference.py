"""The report's sections of predictions and pruning from small made-up tables."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from campaign.results.figures.catalogue import FIGURES
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.style import save
from campaign.results.report import write_report
from campaign.results.report.captions import caption_html
from campaign.results.report.inference import inference_section, pruning_section
from campaign.results.report.words import DASH
from tests.support.cells import built_campaign, entry
from tests.support.frames import Frames, cell, inference_frames, pruning_frames
from tests.unit.test_report import Page

MADE = inference_frames() | pruning_frames()
NEW = [name for name, spec in FIGURES.items() if spec.inferred or spec.sweeps]


def with_cells(tables: Frames) -> Frames:
    """Together with the other tables of a small campaign, whose cells are others."""
    return built_campaign()[1] | tables


def page(tables: Frames, folder: Path, names: tuple[str, ...] = ()) -> str:
    figures = {}
    for name in names:
        figures[name] = folder / f"{name}.svg"
        save(draw_figure(name, tables, Context("a machine", "ranks")), figures[name], folder / f"{name}.png")
    plan = built_campaign()[0] | {"infer": [cell() | {"target": ""}], "prune": [cell("fc") | {"target": ""}]}
    write_report(plan, with_cells(tables), figures, folder / "report.html")
    return (folder / "report.html").read_text()


def test_a_posterior_is_told_with_what_was_measured() -> None:
    first = inference_section(with_cells(MADE))["rows"][0]
    assert (first["images"], first["draws"], first["accuracy"]) == ("10,000", "1,000", "97.5%")
    assert first["single"] == "96.0% ± 0.4%"
    assert first["settled"] == "S = 200"
    assert first["seconds"] == "0.05"
    assert first["sigma"] == "0.012 (start 0.018)"
    assert (first["nll"], first["brier"], first["ece"], first["bits"]) == ("0.08", "0.04", "0.0123", "1.9")


def test_what_was_not_measured_reads_as_such(tmp_path: Path) -> None:
    floats = [column for column, kind in MADE["inference"].dtypes.items() if kind == "float64"]
    unknown = dict(MADE)
    unknown["inference"] = MADE["inference"].assign(**dict.fromkeys(floats, np.nan), settled_draws=pd.NA)
    row = inference_section(with_cells(unknown))["rows"][0]
    assert row["settled"] == "not measured"
    assert {row[name] for name in ("accuracy", "single", "nll", "brier", "ece", "seconds", "bits")} == {DASH}
    never = dict(MADE)
    never["inference"] = MADE["inference"].assign(settled_draws=pd.NA)
    assert inference_section(with_cells(never))["rows"][0]["settled"] == "not within these draws"
    text = " ".join(Page(page(unknown, tmp_path)).text)
    assert not {"nan", "NaN", "<NA>", "None"} & set(text.split())


def test_the_worse_verdict_of_job_and_cell_is_shown() -> None:
    warned = dict(MADE)
    warned["inference"] = MADE["inference"].assign(verdict="WARN")
    assert {row["verdict"] for row in inference_section(with_cells(warned))["rows"]} == {"WARN"}
    assert {row["verdict"] for row in inference_section(with_cells(MADE))["rows"]} == {"OK"}


def test_a_sweep_is_told_by_the_largest_share_that_costs_less_than_a_point() -> None:
    rows = pruning_section(with_cells(MADE))["rows"]
    assert len(rows) == 6 * 4
    first = rows[0]
    assert (first["model"], first["semantics"], first["by"], first["percent"]) == ("conv", "zero", "weight", "80%")
    level = MADE["pruning"].query("model == 'conv' and semantics == 'zero' and by == 'weight' and repeat == 1")
    level = level[level["percent"] == 80].iloc[0]
    assert first["accuracy"] == f"{100 * level['accuracy']:.1f}%"
    assert first["loss"].startswith(f"{level['accuracy_loss']:.2f} (")
    assert (first["form"], first["speedup"]) == ("csr", "1.8")


@pytest.mark.parametrize("lost", ["percent", "levels"])
def test_a_sweep_without_such_a_share_or_without_levels_says_none(lost: str) -> None:
    tables = dict(MADE)
    if lost == "percent":
        none = {"largest_percent": np.nan, "largest_speedup": np.nan, "largest_form": None}
        tables["pruning_summary"] = MADE["pruning_summary"].assign(**none)
    else:
        tables["pruning"] = MADE["pruning"].iloc[:0]
    row = pruning_section(with_cells(tables))["rows"][0]
    assert (row["percent"], row["accuracy"], row["loss"], row["interval"]) == ("none", DASH, DASH, DASH)


def test_the_page_explains_the_meanings_and_leads_to_the_figures(tmp_path: Path) -> None:
    text = page(MADE, tmp_path, ("fig4a", "fig8", "snr"))
    found = Page(text)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert {"#fig4a", "#fig8", "#snr", "#pruning_speed", "#inference_convergence"} <= set(found.links)
    assert len(found.ids) == len(set(found.ids))
    for words in ("sigma softplus(0) = 0.693", "zero: mean and sigma 0", "mean-only", "80% of conv and 60% of fc"):
        assert words in text
    assert "Figure 8." in text
    assert "<b>Signal-to-noise ratio of the weights.</b>" in text  # no number: the paper does not have it


def test_rows_lead_to_their_cell_where_the_page_lists_it(tmp_path: Path) -> None:
    known = {key: value for key, value in entry().items() if key in cell()}
    tables = MADE | inference_frames([known | {"made": 30, "spread": 1.0}, cell() | {"made": 30, "spread": 1.0}])
    rows = inference_section(with_cells(tables))["rows"]
    assert [bool(row["anchor"]) for row in rows] == [True, False]
    assert f'<a href="#{rows[0]["anchor"]}">vgg16</a>' in page(tables, tmp_path)


def test_what_comes_from_records_is_escaped(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    tables = {
        name: frame.assign(reasons=attack, status="WARN") if "reasons" in frame else frame
        for name, frame in MADE.items()
    }
    text = page(tables, tmp_path)
    assert attack not in text
    assert text.count("&lt;script&gt;alert(1)") >= len(MADE["inference"]) + len(MADE["pruning_summary"])


def test_a_campaign_without_such_jobs_says_so(tmp_path: Path) -> None:
    empty = {name: frame.iloc[:0] for name, frame in MADE.items()}
    text = page(empty, tmp_path)
    assert "No prediction was made: no study of the campaign has a section <code>infer</code>." in text
    assert "Nothing was pruned: no study of the campaign has a section <code>prune</code>." in text
    planned = {
        name: frame.assign(status="MISSING", reasons="not made yet") if "reasons" in frame else frame.iloc[:0]
        for name, frame in MADE.items()
    }
    assert "24 planned, not here: not made yet." in page(planned, tmp_path)


@pytest.mark.parametrize("name", NEW)
def test_every_figure_has_its_caption_and_its_function(name: str) -> None:
    assert "<p>" in caption_html(FIGURES[name].caption)
    assert callable(getattr(import_module(FIGURES[name].module), FIGURES[name].function))
