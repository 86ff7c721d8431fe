"""The report's first section and `campaign summary`: true to the tables, and a sentence whatever is missing."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.errors import UserError
from bnn.records.columns import write_table
from campaign.names.layout import Layout
from campaign.results.report.page import render
from campaign.results.report.summary import QUESTIONS, Statement, summary
from campaign.results.report.summary.statement import between, count, listed, with_interval
from campaign.results.report.words import number, span
from campaign.results.tables.build import frame
from campaign.results.tables.schemas import OF_REPORT, TABLES
from campaign.tell.cli import cli
from tests.support.cells import SITE, built_campaign

NOT_WORDS = {"nan", "None", "inf", "<NA>", "NaN", "nan%"}
names = st.sets(st.sampled_from(sorted(TABLES)))


def texts(answers: dict[str, list[Statement]]) -> list[str]:
    return [statement.text for each in answers.values() for statement in each]


def check_words(answers: dict[str, list[Statement]]) -> None:
    assert list(answers) == list(QUESTIONS)
    assert all(answers.values()), "a question without an answer"
    for text in texts(answers):
        assert text.endswith("."), text
        assert not NOT_WORDS & set(re.split(r"[ ,;:()]", text)), text
    json.dumps([each.plain() for found in answers.values() for each in found], allow_nan=False)


@given(gone=names, empty=names)
@settings(max_examples=15, deadline=None)
def test_each_question_is_answered_whatever_tables_are_missing_or_empty(gone: set[str], empty: set[str]) -> None:
    plan, tables = built_campaign()
    left = {name: table.iloc[:0] if name in empty else table for name, table in tables.items() if name not in gone}
    check_words(summary(plan, left))


@given(st.sets(st.integers(0, len(built_campaign()[1]["cells"]) - 1), min_size=1))
@settings(max_examples=10, deadline=None)
def test_verdicts_add_up_for_any_cells(chosen: set[int]) -> None:
    plan, tables = built_campaign()
    cells = tables["cells"].iloc[sorted(chosen)]
    answers = summary(plan, tables | {"cells": cells})
    check_words(answers)
    (first, *_) = answers["trust"]
    assert first.values["verdicts"] == {
        name: int((cells["verdict"] == name).sum()) for name in ("OK", "WARN", "INVALID", "MISSING")
    }
    assert answers["asked"][0].values["cells"] == len(cells)


def test_a_ratio_is_that_of_the_table_the_other_way_up_at_the_largest_scale() -> None:
    plan, tables = built_campaign()
    said = [each for each in summary(plan, tables)["found"] if "throughput_ratio" in each.values]
    ratios = tables["ratios"]
    curves = ratios[ratios["roles"].str.contains("scaling|large-batch")].groupby(["dataset", "model", "variant"])
    assert len(said) == curves.ngroups
    for each in said:
        key = tuple(each.values[name] for name in ("dataset", "model", "variant"))
        curve = curves.get_group(key)
        assert each.values["nodes"] == curve["nodes"].max()
        row = curve[(curve["nodes"] == each.values["nodes"]) & (curve["batch_size"] == each.values["batch_size"])]
        assert each.values["batch_size"] == curve["batch_size"].max()
        (row,) = row.to_dict("records")
        assert each.values["throughput_ratio"] == pytest.approx(row["cnn_step_seconds"] / row["bnn_step_seconds"], 0.02)
        assert each.values["throughput_ratio_low"] == 1 / row["ratio_high"]
        assert each.values["throughput_ratio_high"] == 1 / row["ratio_low"]
        assert with_interval(1 / row["ratio"], 1 / row["ratio_high"], 1 / row["ratio_low"]) in each.text
        scaling = tables["scaling"]
        match = (scaling[list(each_key := ("dataset", "model", "variant", "nodes", "batch_size"))] == [
            each.values[name] for name in each_key]).all(axis=1)  # fmt: skip
        for _, side in scaling[match].iterrows():
            assert each.values[f"{side['kind']}_efficiency_steady"] == side["efficiency_steady"]
            assert span(side["steady_low"], side["steady_high"]) in each.text


def test_ratios_around_one_are_said_not_to_tell_the_sides_apart() -> None:
    plan, tables = built_campaign()
    for low, high, told in ((0.9, 1.1, False), (1.1, 1.3, True), (float("nan"), float("nan"), True)):
        changed = tables["ratios"].assign(ratio=1.2, ratio_low=low, ratio_high=high)
        found = summary(plan, tables | {"ratios": changed})["found"]
        said = [each.text for each in found if "throughput_ratio" in each.values]
        assert said
        assert all(("do not tell them apart" in text) != told for text in said)
        assert all(("no interval" in text.split(". ")[0]) == math.isnan(low) for text in said)


def test_ranks_that_share_cores_are_counted_by_cell() -> None:
    plan, tables = built_campaign()
    ranks = tables["provenance"]
    assert any("more threads than there are cores" in text for text in texts(summary(plan, tables)))
    crowded = ranks.assign(hostname="one", cores=1)
    said = [
        each for each in summary(plan, tables | {"provenance": crowded})["trust"] if "threads_per_core" in each.values
    ]
    two = tables["cells"].query("ranks == 2 and verdict != 'MISSING'")
    assert said[0].values == {"cells": len(two), "threads_per_core": 2}
    assert said[0].text.startswith(f"In {len(two)} cells")


def test_noise_and_other_programs_are_those_of_the_cells() -> None:
    plan, tables = built_campaign()
    cells = tables["cells"].assign(foreign_cores=0.25)
    answers = summary(plan, tables | {"cells": cells})["trust"]
    noise = next(each for each in answers if "median" in each.values)
    assert noise.values["largest"] == cells["coefficient_of_variation"].max()
    assert noise.values["median"] == cells["coefficient_of_variation"].median()
    assert any("at most 0.25 CPUs" in each.text for each in answers)


def test_the_page_begins_with_the_summary_and_escapes_it() -> None:
    plan, tables = built_campaign()
    attack = "<img src=x onerror=alert(1)>"
    page = render(plan | {"campaign": attack}, tables, {})
    assert attack not in page
    main = page[page.index("<main>") :]
    sections = re.findall(r'<section id="(\w+)"', main)
    assert sections[:4] == ["summary", "claims", "numbers", "figures"]
    order = ["methods", "inference", "pruning", "peers", "cells", "provenance"]
    assert [name for name in sections if name in order] == order
    first = main[: main.index("</section>")]
    assert all(heading in first for heading in QUESTIONS.values())


def test_a_campaign_of_nothing_has_a_page_of_sentences() -> None:
    plan = {"campaign": "none", "site": SITE, "cells": []}
    page = render(plan, {name: frame([], schema) for name, schema in OF_REPORT.items()}, {})
    first = page[page.index('<section id="summary">') :].split("</section>")[0]
    assert "asks for no cell" in first
    assert "There is no cell to judge" in first
    assert first.count("<li>") >= len(QUESTIONS)
    assert "<select" not in page


def write(folder: Path, tables: dict[str, pd.DataFrame]) -> Layout:
    layout = Layout(folder, SITE["name"])
    layout.root.mkdir(parents=True)
    layout.plan.write_text(json.dumps(built_campaign()[0]))
    for name, table in tables.items():
        write_table(table, layout.table(name), TABLES[name])
    return layout


def test_the_command_says_what_the_page_says(tmp_path: Path) -> None:
    plan, tables = built_campaign()
    write(tmp_path, tables)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    done = CliRunner().invoke(
        cli, ["summary", SITE["name"], "--results", str(tmp_path), "--json"], catch_exceptions=False
    )
    expected = {name: [each.plain() for each in found] for name, found in summary(plan, tables).items()}
    assert json.loads(done.output) == json.loads(json.dumps(expected))
    shown = (
        CliRunner().invoke(cli, ["summary", SITE["name"], "--results", str(tmp_path)], catch_exceptions=False).output
    )
    words = " ".join(shown.split())
    assert all(text in words for text in texts(summary(plan, tables)))
    assert all(len(line) <= 120 for line in shown.splitlines())
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_the_command_needs_a_plan_and_readable_tables_only(tmp_path: Path) -> None:
    layout = write(tmp_path, {})
    done = CliRunner().invoke(cli, ["summary", SITE["name"], "--results", str(tmp_path)], catch_exceptions=False)
    assert "table cells was not made" in " ".join(done.output.split())
    layout.table("cells").parent.mkdir()
    layout.table("cells").write_text("no Parquet")
    with pytest.raises(UserError, match=r"cells\.parquet: not a readable Parquet file"):
        CliRunner().invoke(cli, ["summary", SITE["name"], "--results", str(tmp_path)], catch_exceptions=False)
    with pytest.raises(UserError, match=r"nowhere/plan\.json: No such file"):
        CliRunner().invoke(cli, ["summary", "nowhere", "--results", str(tmp_path)], catch_exceptions=False)


def test_words() -> None:
    assert [count(0, "cell"), count(1, "cell"), count(1200, "point has", "points have")] == [
        "0 cells", "1 cell", "1,200 points have",
    ]  # fmt: skip
    assert [listed("a"), listed("ab"), listed("abc"), listed("abcd", 2)] == [
        "a",
        "a and b",
        "a, b and c",
        "a, b and 2 more",
    ]
    assert [between([2, 2]), between([1, 3, 2])] == ["2", "1 to 3"]
    assert with_interval(1.5, float("nan"), float("nan")) == "1.5 (no interval)"
    assert with_interval(1.5, 1, 2) == f"{number(1.5)} (95% interval 1 to 2)"
