"""The report's section on the paper's semantics, from rows of cells whose numbers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from campaign.results.report import write_report
from campaign.results.report.semantics import VARIANT, semantics_section
from tests.support.cells import built_campaign
from tests.unit.test_report import Page

ROOT = Path(__file__).parents[2]
KNOWN = {
    "kl": 500.0, "throughput_paper": 90.0, "throughput_paper_std": 40.0, "throughput_steady": 110.0,
    "throughput_steady_std": 3.0, "accuracy_running": 0.55, "accuracy_last_epoch": 0.75, "held_out_accuracy": 0.7,
    "ranks": 2, "steps": 40,
}  # fmt: skip


def cells(*changes: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The tables of a small campaign, and of copies of its first counted cell with these changes."""
    tables = built_campaign()[1]
    counted = tables["cells"][tables["cells"]["counted"].fillna(False).astype(bool)]
    row = counted[counted["kind"] == "bnn"].iloc[:1].assign(**KNOWN)
    added = [row.assign(**change) for change in changes]
    return tables | {"cells": pd.concat([tables["cells"], *added], ignore_index=True)}


def said(section: dict[str, Any]) -> dict[str, list[str]]:
    """Quantity -> as the paper counts, corrected, from."""
    found = {}
    for row in section["table"]["rows"]:
        texts = [cell["text"] for cell in row["cells"]]
        found[texts[1]] = texts[2:5]
    return found


def test_each_artefact_is_beside_its_correction() -> None:
    tables = cells({"variant": VARIANT, "kl": 1000.0, "held_out_accuracy": 0.65}, {"variant": "narrow"})
    section = semantics_section(tables)
    assert section is not None
    assert (section["runs"], section["without"]) == (1, 0)
    assert said(section) == {
        "throughput ± its standard deviation (samples/s)": ["90 ± 40", "110 ± 3", "the same run"],
        "training accuracy at the end": ["55.0%", "75.0%", "the same run"],
        "KL in the loss at the last step (nats)": ["1,000", "500", "narrow"],
        "held-out accuracy": ["65.0%", "70.0%", "narrow"],
        "training examples that an epoch visits, expected": ["75.0%", "100.0%", "narrow"],
    }


@pytest.mark.parametrize("other", [{"steps": 39}, {"width": 0.5}, {"implementation": "bnn-ivon"}, {"counted": False}])
def test_a_run_that_differs_in_more_is_no_twin(other: dict[str, Any]) -> None:
    section = semantics_section(cells({"variant": VARIANT}, {"variant": "narrow"} | other))
    assert section is not None
    assert section["without"] == 1
    assert {row[2] for row in said(section).values()} == {"the same run"}


def test_what_was_not_measured_has_no_row() -> None:
    lost = {"accuracy_running": None, "accuracy_last_epoch": None, "held_out_accuracy": None, "ranks": 1}
    section = semantics_section(cells({"variant": VARIANT} | lost, {"variant": "narrow"} | lost))
    assert section is not None
    assert [name.split()[0] for name in said(section)] == ["throughput", "KL"]


def test_the_page_has_it_and_says_where_there_is_none(tmp_path: Path) -> None:
    plan = built_campaign()[0]
    for name, tables in (("with", cells({"variant": VARIANT})), ("without", cells())):
        write_report(plan, tables, {}, tmp_path / f"{name}.html")
    page = Page((tmp_path / "with.html").read_text())
    assert "semantics-table" in page.ids
    assert "1 of 1 such runs has no run to be compared with" in " ".join(page.text)
    assert "No run of this campaign has the paper's semantics" in (tmp_path / "without.html").read_text()


def test_the_variant_is_the_papers_and_differs_from_base_in_that_alone() -> None:
    variants = yaml.safe_load((ROOT / "config.yaml").read_text())["variants"]
    ours, base = variants[VARIANT]["settings"], variants["base"]["settings"]
    otherwise = {"sharding": "unsharded", "dense_kl": "twice", "batchnorm_statistics": "rank0"}
    assert ours == base | otherwise


def test_the_local_run_differs_from_its_twin_in_that_alone() -> None:
    site = yaml.safe_load((ROOT / "profiles/local/site.yaml").read_text())["site"]
    grid = site["grid"]["paper"]
    studies, variants = grid["studies"], grid["variants"]
    assert variants[VARIANT]["settings"] == variants["narrow"]["settings"]
    assert studies["semantics"]["settings"] == studies["accuracy"]["settings"] | {"save_posterior": False}
