"""Where each second of a step goes: the parts of a rank, of a cell and of a point, and what is said of them."""

from __future__ import annotations

import html
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bnn.losses import BEYOND_CLOCKS, rank_losses
from bnn.metrics import STEADY, WARMUP, mean_interval
from bnn.records import STEPS, STEPS_FILE, read_table, write_table
from bnn.records.parts import PARTS, UNEXPLAINED
from campaign.names.cell import Cell
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.losses import segments
from campaign.results.report.losses import largest_words, loss_sentences
from campaign.results.report.page import render
from campaign.results.tables.build import build_tables, frame
from campaign.results.tables.cells import WITHOUT_BETWEEN, LoadedCell
from campaign.results.tables.loss_schemas import BAYESIAN, CELL_LOSSES, CONVENTIONAL, INFLATION, LOSSES, STEP, WORDS
from campaign.results.tables.losses import (
    APART,
    EARLIER,
    NO_CLOCK,
    RESUMED,
    SPLIT,
    UNDATED,
    cell_loss_rows,
    loss_rows,
)
from campaign.tell.cli import cli
from tests.support.cells import built_campaign, entry, plan, write_cell

SUMMED = ("forward", "backward", "late", "negotiation", "transfer", "input", "optimizer", "between")
seconds = st.floats(1e-4, 10.0)


def steps(parts: np.ndarray, rest: float = 0.0) -> pd.DataFrame:
    """Steps from seconds by part (steps, ranks, parts in the order of SUMMED); the first is the warm-up.

    `rest` is in no part. Rank 0 is always the last.
    """
    rows = []
    for step, of_ranks in enumerate(parts):
        for rank, values in enumerate(of_ranks):
            row: dict[str, Any] = {PARTS[name].column: value for name, value in zip(SUMMED, values, strict=True)}
            row["seconds_reduction"] = row["seconds_negotiation"] + row["seconds_transfer"]
            row["seconds_exchange"] = row["seconds_late"] + row["seconds_reduction"]
            row |= {"attempt": 1, "step": step, "epoch": 0, "phase": STEADY if step else WARMUP, "rank": rank}
            row |= {"samples": 8, "seconds": float(np.sum(values)), "late_rank": 0, "seconds_hidden": 0.5}
            row |= {"started_at": 0.0, "ended_at": float(np.sum(values)) + rest}
            row |= dict.fromkeys(("loss", "nll", "kl", "accuracy", "accuracy_running"), 0.0)
            rows.append(row)
    return pd.DataFrame(rows)


@st.composite
def runs(draw: st.DrawFn) -> np.ndarray:
    shape = (draw(st.integers(2, 5)), draw(st.integers(1, 3)), len(SUMMED))
    count = math.prod(shape)
    return np.array(draw(st.lists(seconds, min_size=count, max_size=count))).reshape(shape)


@given(runs(), st.floats(-0.1, 0.1))
def test_parts_and_what_is_unexplained_make_the_wall_time(parts: np.ndarray, rest: float) -> None:
    found = rank_losses(steps(parts, rest))
    assert [losses.rank for losses in found] == list(range(parts.shape[1]))
    for rank, losses in enumerate(found):
        assert set(losses.parts) == set(SUMMED)
        for place, name in enumerate(SUMMED):
            assert losses.parts[name] == pytest.approx(parts[1:, rank, place].mean())
        assert losses.wall == pytest.approx(parts[1:, rank].sum(axis=1).mean() + rest)
        assert losses.unexplained == pytest.approx(rest, abs=1e-9)
        assert losses.late_share == (rank == 0)
        assert losses.hidden == 0.5  # beside the parts


@given(runs())
def test_waiting_is_split_as_far_as_it_was_measured(parts: np.ndarray) -> None:
    whole = steps(parts)
    waiting = parts[1:, 0, 2:5].sum(axis=1).mean()
    for absent, error, names in (
        (["seconds_transfer", "seconds_negotiation"], 0.0, {"late", "reduction"}),
        ([column for column in whole if column.startswith("seconds_late")], 0.0, {"exchange"}),
        ([], None, {"exchange"}),
        ([], 2 * BEYOND_CLOCKS * whole["seconds"].max(), {"exchange"}),
    ):
        found = rank_losses(whole.assign(**dict.fromkeys(absent, math.nan)), error)[0]
        assert set(found.parts) - set(SUMMED) | (set(found.parts) & {"late"}) == names
        assert sum(found.parts[name] for name in names) == pytest.approx(waiting)


def test_steps_that_were_not_stamped_are_left_out_of_all_means() -> None:
    parts = np.full((6, 2, len(SUMMED)), 0.1)
    parts[4:, :, 0] = 9.0
    rows = steps(parts)
    rows.loc[(rows["step"] >= 4) & (rows["rank"] == 1), "seconds_late"] = math.nan
    for losses in rank_losses(rows):
        assert losses.steps == 3
        assert losses.wall == pytest.approx(0.8)
        assert losses.unexplained == pytest.approx(0, abs=1e-12)


def test_no_steady_step_has_no_losses() -> None:
    assert rank_losses(steps(np.full((1, 2, len(SUMMED)), 0.1))) == []


@given(st.lists(st.lists(st.floats(-10, 10), min_size=3, max_size=3), min_size=1, max_size=9))
def test_means_of_parts_add_up_and_lie_in_their_intervals(values: list[list[float]]) -> None:
    data = np.array(values)
    found = [mean_interval(list(column)) for column in data.T]
    assert sum(each.value for each in found) == pytest.approx(mean_interval(list(data.sum(axis=1))).value, abs=1e-9)
    if len(values) > 1:
        assert all(each.low <= each.value <= each.high for each in found)
    else:
        assert all(math.isnan(each.low) for each in found)


def cell(kind: str, nodes: int, repeat: int, compute: float, **other: Any) -> list[dict[str, Any]]:
    """The rows of table `cell_losses` of a cell of so many ranks; the later half of them waits."""
    rows = []
    for rank in range(nodes):
        row: dict[str, Any] = dict.fromkeys(CELL_LOSSES.names)
        row |= {
            "site": "here", "dataset": "synthetic", "model": "vgg16", "kind": kind, "nodes": nodes, "batch_size": 8,
            "variant": "base", "repeat": repeat, "study": "s", "roles": "scaling", "implementation": f"{kind}-x",
            "engine": "horovod", "ranks": nodes, "synthetic": True, "width": 1.0, "rho_init": -9.0, "verdict": "OK",
            "counted": True, "reason": "", "reason_split": "", "reason_wall": "", "reason_hidden": "", "rank": rank,
            "steps": 9, "forward": 0.4 * compute, "backward": 0.6 * compute, "late": 0.1 * rank, "negotiation": 0.01,
            "transfer": 0.02, "input": 0.03, "optimizer": 0.04, "between": 0.05, "hidden": 0.5,
            "late_share": float(rank == 0), "clock_error": 0.0, UNEXPLAINED: 0.001,
        }  # fmt: skip
        row["seconds"] = compute + 0.1 * rank + 0.15 + 0.001
        rows.append(row | other)
    return rows


def table(*cells: list[dict[str, Any]]) -> pd.DataFrame:
    return frame(loss_rows(frame([row for rows in cells for row in rows], CELL_LOSSES)), LOSSES)


def of_point(found: pd.DataFrame, kind: str, nodes: int) -> pd.DataFrame:
    return found[(found["kind"] == kind) & (found["nodes"] == nodes)].set_index("part")


GRID = [
    cell(kind, nodes, repeat, compute + 0.01 * repeat)
    for kind, nodes, compute in (("cnn", 1, 1.0), ("bnn", 1, 1.5), ("cnn", 2, 1.1), ("bnn", 2, 1.8))
    for repeat in (1, 2, 3)
]


def test_a_points_parts_add_up_and_its_compute_is_told_by_other_cells() -> None:
    found = table(*GRID)
    for kind, nodes in (("cnn", 1), ("bnn", 2)):
        rows = of_point(found, kind, nodes)
        assert list(rows.index) == list(WORDS)
        assert rows.loc[rows["adds"].astype(bool), "seconds"].sum() == pytest.approx(rows.loc[STEP, "seconds"])
        assert rows.loc[STEP, "share"] == 1
        assert rows.loc["reduction", "reason"] == APART
        assert rows.loc["exchange", "reason"] == SPLIT
    rows = of_point(found, "bnn", 2)
    made = rows.loc[[CONVENTIONAL, BAYESIAN, INFLATION], "seconds"]
    assert made.to_list() == pytest.approx([1.02, 0.5, 0.3])
    assert made.sum() == pytest.approx(rows.loc[["forward", "backward"], "seconds"].sum())
    assert rows.loc["late", "seconds"] == pytest.approx(0.05)  # one of two ranks waits
    assert rows["largest"].astype(bool).idxmax() == "backward"
    assert rows.loc["forward", "low"] < rows.loc["forward", "seconds"] < rows.loc["forward", "high"]
    said = largest_words(rows.reset_index(), frame(GRID[-1], CELL_LOSSES))
    assert "most of it backward pass (1.09 s" in said
    assert "computation takes 0.3 s more than on one node (0.3 to 0.3 s); 0.0% of it is unexplained" in said
    for (low, high), words in {
        (-0.1, 0.7): "takes as long as on one node, as far as its repeats tell (-0.1 to 0.7 s more);",
        (math.nan, math.nan): "takes 0.3 s more than on one node (one repeat);",
    }.items():
        rows.loc[INFLATION, ["low", "high"]] = low, high
        assert words in largest_words(rows.reset_index(), frame(GRID[-1], CELL_LOSSES))
    rows.loc[INFLATION, ["seconds", "low", "high"]] = -0.3, -0.4, -0.2
    assert "takes 0.3 s less than on one node (0.2 to 0.4 s);" in largest_words(
        rows.reset_index(), frame(GRID[-1], CELL_LOSSES)
    )


def test_what_is_missing_says_why() -> None:
    lonely = of_point(table(cell("bnn", 2, 1, 1.0)), "bnn", 2)
    for name in (CONVENTIONAL, BAYESIAN, INFLATION):
        assert lonely.loc[name, "reason"].startswith("not measured: of")
    assert of_point(table(*GRID), "bnn", 1).loc[INFLATION, "reason"] == "this is the baseline"
    together = {"negotiation": math.nan, "transfer": math.nan, "reduction": 0.03, "reason_split": UNDATED}
    rows = of_point(table(cell("cnn", 2, 1, 1.0, **together)), "cnn", 2)
    assert rows.loc["reduction", "adds"]
    assert rows.loc["transfer", "reason"].startswith(UNDATED)
    bad = {"counted": False, "verdict": "INVALID", "reason": ""}
    rows = of_point(table(cell("cnn", 2, 1, 1.0, **bad)), "cnn", 2)
    assert set(rows.loc[list(PARTS), "reason"]) == {"no repeat counts"}
    assert not rows["adds"].astype(bool).any()
    assert "not known (no repeat counts)" in largest_words(rows.reset_index(), frame([], CELL_LOSSES))


def test_a_late_rank_is_named() -> None:
    late = [cell("cnn", 2, 1, 1.0, late=0.4)]
    said = largest_words(table(*late), frame(late[0], CELL_LOSSES))
    assert "beside computation most is waiting for the late rank (0.4 s" in said
    assert "in 100% of the steps rank 0" in said


@pytest.mark.parametrize(
    ("changes", "summary", "reason"),
    [
        ({"ended_at": math.nan, "seconds_late": math.nan}, {"clock_error_seconds": None}, EARLIER),
        ({"seconds_late": math.nan}, {"clock_error_seconds": 0.0}, RESUMED),
        ({"seconds_late": math.nan}, {"clock_error_seconds": None}, NO_CLOCK),
        ({}, {"clock_error_seconds": 1.0}, "not measured: the clocks of the hosts may be off to one another by 1 s"),
        ({"seconds_transfer": math.nan}, {"clock_error_seconds": 0.0}, UNDATED),
        ({}, {"clock_error_seconds": 0.0}, ""),
    ],
)
def test_a_cell_says_why_its_waiting_is_not_split(
    tmp_path: Path, changes: dict[str, float], summary: dict[str, Any], reason: str
) -> None:
    made = entry(nodes=2)
    write_cell(tmp_path, made, profiled=False, **summary)
    file = tmp_path / Cell(**{key: made[key] for key in Cell.__dataclass_fields__}).folder / STEPS_FILE
    write_table(read_table(file, STEPS).assign(**changes), file, STEPS)
    rows = cell_loss_rows(LoadedCell(made, tmp_path))
    assert [row["rank"] for row in rows] == [0, 1]
    assert {row["reason_split"] for row in rows} == {reason}
    assert all(math.isnan(row[UNEXPLAINED]) == bool(row["reason_wall"]) for row in rows)
    write_table(read_table(file, STEPS).assign(seconds_between=math.nan), file, STEPS)
    assert [row["reason"] for row in cell_loss_rows(LoadedCell(made, tmp_path))] == [WITHOUT_BETWEEN]


def test_a_campaigns_tables_explain_every_step() -> None:
    tables = built_campaign()[1]
    assert len(tables["losses"]) == len(tables["throughput"]) * len(WORDS)
    rest = tables["losses"][tables["losses"]["part"] == UNEXPLAINED].dropna(subset=["seconds"])
    assert len(rest)
    assert rest["share"].abs().max() < 0.02
    assert len(loss_sentences(tables)) == len(set(loss_sentences(tables)))


def test_stacks_are_as_high_as_a_step_is_long() -> None:
    plan_, tables = built_campaign()
    figure = draw_figure("losses", tables, Context.from_plan(plan_))
    assert any("negotiation" in text.get_text() for text in figure.legends[0].get_texts())
    points = tables["losses"]
    chosen = points[points["roles"].str.contains("scaling")]
    heights: list[float] = []
    for ax in figure.axes:
        solid = [bar for bar in ax.patches if bar.get_facecolor()[3] > 0]
        for place in sorted({round(bar.get_x(), 6) for bar in solid}):
            stack = [bar for bar in solid if round(bar.get_x(), 6) == place]
            ends = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in stack)
            assert all(low == pytest.approx(high) for (_, high), (low, _) in itertools.pairwise(ends))
            heights.append(ends[-1][1])
    steps_ = chosen[(chosen["part"] == STEP) & chosen["seconds"].notna()]["seconds"]
    assert sorted(heights) == pytest.approx(sorted(steps_), rel=0.01)


@given(st.floats(0.1, 2), st.floats(-0.5, 1), st.floats(-0.5, 0.5), st.sampled_from(["bnn", "cnn"]))
def test_a_stacks_compute_is_what_was_measured(cnn: float, extra: float, inflation: float, kind: str) -> None:
    whole = cnn + (extra if kind == "bnn" else 0) + inflation
    if whole <= 0.01:
        return
    cells = [cell("cnn", 1, 1, cnn), cell("bnn", 1, 1, max(cnn + extra, 1e-3)), cell(kind, 2, 1, whole)]
    drawn = segments(of_point(table(*cells), kind, 2), kind)
    assert all(height > 0 for _, height in drawn)
    beside = {"late", "negotiation", "transfer", "input", "optimizer", "between", UNEXPLAINED}
    assert sum(height for name, height in drawn if name not in beside) == pytest.approx(whole)


def test_the_report_has_a_sentence_per_curve() -> None:
    plan_, tables = built_campaign()
    said = loss_sentences(tables)
    curves = tables["losses"]
    curves = curves[curves["roles"].isin(["scaling", "large-batch"])]
    assert len(said) == len(curves[["dataset", "model", "variant", "batch_size", "kind"]].drop_duplicates())
    page = render(plan_, tables, {})
    assert "Where each second of a step goes at the most ranks on one machine" in page
    assert all(html.escape(sentence, quote=False) in page for sentence in said)


def test_the_command_prints_both_kinds_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from campaign.tell import losses as told

    cells = [
        entry(kind=kind, nodes=nodes, repeat=repeat) for kind in ("bnn", "cnn") for nodes in (1, 2) for repeat in (1, 2)
    ]
    for index, each in enumerate(cells):
        write_cell(tmp_path, each, seconds=1.0 if each["kind"] == "bnn" else 0.5, seed=index, clock_error_seconds=0.0)
    tables = build_tables(plan(cells), tmp_path, ["losses"])
    chosen = {name: tables[name][tables[name]["nodes"] == 2] for name in ("losses", "cell_losses")}
    monkeypatch.setattr(told, "losses_of", lambda *_: (chosen["losses"], chosen["cell_losses"]))
    monkeypatch.setattr("campaign.tell.cli._look", lambda *_: type("D", (), {"campaign": None, "layout": None}))
    monkeypatch.setattr("campaign.tell.why.find_cell", lambda *_: type("J", (), {"cell": None}))
    done = CliRunner().invoke(cli, ["losses", "x"])
    assert done.exit_code == 0, done.output
    assert "BNN (bnn-flipout)" in done.output
    assert "waiting for the late rank" in done.output
    assert "negotiation and transfer" not in done.output  # told apart
    assert "CNN: 0.5" in done.output
    rows = json.loads(CliRunner().invoke(cli, ["losses", "x", "--json"]).output)
    assert {row["kind"] for row in rows} == {"bnn", "cnn"}
    assert {row["part"] for row in rows} == set(WORDS)
    assert next(row for row in rows if row["part"] == "exchange")["seconds"] is None
