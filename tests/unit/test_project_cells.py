"""campaign project cells: from records to rows, intervals, targets and what-ifs, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.errors import UserError
from bnn.records import STEPS, STEPS_FILE, read_table, write_table
from bnn.records.summary import GradientBlock
from campaign.names.layout import Layout
from campaign.results.projection import verdicts
from campaign.results.projection.efficiency import EFFICIENCY_PROJECTION, MEASURED_HERE, efficiency_rows
from campaign.results.projection.fabrics import load_fabric
from campaign.results.projection.families import families
from campaign.results.projection.networks import OfCurve, OfFabric
from campaign.results.projection.read import read_curves
from campaign.results.projection.scales import errors
from campaign.results.projection.step import LOSSES, Model
from campaign.results.projection.target import answer, usual_changes
from campaign.results.tables.cells import LoadedCell
from campaign.tell.cli import cli
from campaign.tell.project_cells import Question, Told, counts, project_cells
from tests.support.allreduce import curve, microseconds, write_csv
from tests.support.cells import entry, plan, write_cell
from tests.support.clusters import GRADIENTS, MEBIBYTE, Cluster
from tests.support.finished import snapshot

ARIES = OfFabric(load_fabric("aries"))
STEPS_DONE = 80


def laid_out(results: Path, *nodes: int, repeats: int = 3, host: str = "node-{rank}", **more: Any) -> Layout:
    """Records of one family at these numbers of nodes."""
    cells = [entry(nodes=count, repeat=repeat, max_steps=STEPS_DONE, **more)
             for count in nodes for repeat in range(1, repeats + 1)]  # fmt: skip
    for seed, cell in enumerate(cells):
        write_cell(results, cell, seconds=0.1, seed=seed, host=host, profiled=False)
    layout = Layout(results, "toy")
    layout.plan.parent.mkdir(parents=True, exist_ok=True)
    layout.plan.write_text(json.dumps(plan(cells)))
    return layout


def asked(layout: Layout, out: Path, **changes: Any) -> Told:
    question = {"nodes": [1, 2, 16, 256], "fabric": "aries"} | changes
    return project_cells(layout, Question(**question), out)


def of(layout: Layout) -> Any:
    found, _ = families(LoadedCell(cell, layout.results) for cell in json.loads(layout.plan.read_text())["cells"])
    return found[0]


def test_the_table_has_its_schema_and_its_parts_add_up(tmp_path: Path) -> None:
    layout, out = laid_out(tmp_path / "results", 1), tmp_path / "new" / "p.parquet"
    before = snapshot(layout.results)
    told = asked(layout, out)
    table = read_table(out, EFFICIENCY_PROJECTION)
    assert list(table["nodes"]) == [1, 2, 16, 256]
    parts = table[["work", *LOSSES]].sum(axis=1)
    assert np.allclose(parts, table["model_seconds"])
    assert (table["range_low"] <= table["model_seconds"]).all()
    assert (table["model_seconds"] <= table["range_high"]).all()
    assert np.allclose(table["efficiency"], table["step_seconds"].iloc[0] / table["step_seconds"])
    assert np.allclose(table["throughput"], 16 * table["nodes"] / table["step_seconds"])
    assert set(table["source"]) == {"projected: fabric aries, assumed from published facts"}
    assert "one rank's steps" in table["assumed"].iloc[0]
    assert "nothing hidden" in table["assumed"].iloc[0]
    assert told.said[-1].startswith(f"{out}: 4 points of 1 families, 0 refused")
    assert snapshot(layout.results) == before  # what is measured is only read


def test_work_is_the_records_step_less_the_wait_for_gradients(tmp_path: Path) -> None:
    family = of(laid_out(tmp_path, 1))
    (scale,) = family.scales
    assert scale.work == pytest.approx(0.92 * scale.seconds, rel=0.001)  # 8% of these steps is exchange
    assert Model.of(family, ARIES).step(1).parts.total == pytest.approx(scale.work)


def test_fewer_than_three_scales_have_no_interval(tmp_path: Path) -> None:
    table = asked(laid_out(tmp_path / "r", 1, 2), tmp_path / "p.parquet").rows
    assert list(table["verdict"]) == [MEASURED_HERE, MEASURED_HERE, verdicts.NOT_ESTIMABLE, verdicts.NOT_ESTIMABLE]
    assert table[["low", "high", "efficiency_low", "efficiency_high"]].isna().all(axis=None)
    assert table["step_seconds"].notna().all()


def test_three_scales_have_one_beyond_them(tmp_path: Path) -> None:
    table = asked(laid_out(tmp_path / "r", 1, 2, 4), tmp_path / "p.parquet").rows
    beyond = table[table["nodes"] > 4]
    assert set(beyond["verdict"]) <= {verdicts.INSIDE, verdicts.TOO_WIDE}
    assert (beyond["low"] < beyond["step_seconds"]).all()
    assert (beyond["step_seconds"] < beyond["high"]).all()
    widths = np.log(beyond["high"] / beyond["low"])
    assert widths.is_monotonic_increasing
    assert np.allclose(beyond["efficiency_low"], table["model_seconds"].iloc[0] / beyond["high"])


def test_cells_of_another_network_do_not_judge_this_one(tmp_path: Path) -> None:
    layout = laid_out(tmp_path / "r", 1, 2, 4)
    own, other = (asked(layout, tmp_path / "p.parquet", elsewhere=elsewhere).rows for elsewhere in (False, True))
    assert list(other["verdict"]) == [MEASURED_HERE, *[verdicts.NOT_ESTIMABLE] * 3]
    assert np.allclose(other["step_seconds"], other["model_seconds"])
    assert np.allclose(other["model_seconds"], own["model_seconds"])
    assert not np.allclose(own["step_seconds"], own["model_seconds"])
    assert "another network" in other["assumed"].iloc[0]


def test_scales_that_shared_a_host_say_nothing_of_a_network(tmp_path: Path) -> None:
    family = of(laid_out(tmp_path, 1, 2, 4, host="one"))
    assert not errors([family], ARIES).tests
    assert "2, 4 nodes shared hosts" in family.said[0]
    assert Model.of(family, ARIES).step(8).parts.inflation == 0
    assert Model.of(family, ARIES).spread.apart  # type: ignore[union-attr]


def test_too_few_steps_refuse_what_needs_a_late_rank_and_no_more(tmp_path: Path) -> None:
    cell = entry(max_steps=20)
    write_cell(tmp_path, cell, profiled=False)
    found, _ = families([LoadedCell(cell, tmp_path)])
    rows = efficiency_rows(found[0], Model.of(found[0], ARIES), [1, 2], errors(found, ARIES), "s")
    assert rows[0]["step_seconds"] is not None
    assert rows[1]["step_seconds"] is None
    assert rows[1]["verdict"].startswith("refused: too few steps for the late rank (")


def test_cells_that_do_not_count_are_told_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    layout = laid_out(tmp_path / "r", 1)
    content = json.loads(layout.plan.read_text())
    content["cells"].append(entry(model="resnet18"))
    layout.plan.write_text(json.dumps(content))
    told = asked(layout, tmp_path / "p.parquet")
    assert told.said[0] == "left out: no cell of it counts: synthetic resnet18 BNN, batch 16, base"
    layout.plan.write_text(json.dumps(plan([entry(model="resnet18")])))
    with pytest.raises(UserError, match=r"plan\.json: no cell of it is there to project from \(left out: no cell"):
        asked(layout, tmp_path / "p.parquet")


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf])
def test_a_step_without_a_time_is_named_by_file_step_and_rank(tmp_path: Path, seconds: float) -> None:
    cell = entry(max_steps=STEPS_DONE)
    write_cell(tmp_path, cell, profiled=False)
    loaded = LoadedCell(cell, tmp_path)
    path = tmp_path / loaded.cell.folder / STEPS_FILE
    steps = read_table(path, STEPS)
    steps.loc[steps["step"] == 70, "seconds"] = seconds
    write_table(steps, path, STEPS)
    with pytest.raises(UserError, match=r"steps\.parquet: step 70, rank 0: .* s is no positive, finite time"):
        families([LoadedCell(cell, tmp_path)])


def test_a_single_rank_of_ivon_does_not_say_what_it_would_send(tmp_path: Path) -> None:
    cell = entry(max_steps=STEPS_DONE, estimator="ivon", learning_rate=0.2)
    write_cell(tmp_path, cell, profiled=False)
    found, said = families([LoadedCell(cell, tmp_path)])
    assert not found
    assert "beside gradients" in said[0]


def test_a_fault_on_purpose_is_projected_to_nothing(tmp_path: Path) -> None:
    cell = entry(nodes=2, max_steps=STEPS_DONE, fault={"rank": 1, "slow": 0.1})
    write_cell(tmp_path, cell, profiled=False)
    found, said = families([LoadedCell(cell, tmp_path)])
    assert not found
    assert "a rank suffers a fault on purpose" in said[0]


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("known", [True, False])
def test_recorded_blocks_are_hidden_as_they_were_full(tmp_path: Path, nodes: int, known: bool) -> None:
    cell = entry(nodes=nodes, max_steps=STEPS_DONE)
    blocks = [
        GradientBlock(bytes=1000, full_seconds=0.02 if known else None),
        GradientBlock(bytes=500, full_seconds=0.05),
    ]
    write_cell(tmp_path, cell, seconds=0.1, jitter=0, profiled=False, gradient_blocks=blocks)
    (family,) = families([LoadedCell(cell, tmp_path)])[0]
    assert family.gradients.sizes == (1000, 500)
    shares = (0.4, 1.0) if known else ()  # of 0.05 s of backward pass
    assert family.gradients.shares == pytest.approx(shares)
    assert any("nothing hidden" in line for line in family.said) != known


@given(st.floats(0.5, 128))
def test_other_blocks_carry_the_same_bytes_by_the_same_time(size: float) -> None:
    other = GRADIENTS.regrouped(size * MEBIBYTE)
    assert math.fsum(other.sizes) == pytest.approx(math.fsum(GRADIENTS.sizes))
    assert max(other.sizes) <= size * MEBIBYTE * (1 + 1e-12)
    assert other.shares[-1] == 1
    assert list(other.shares) == sorted(other.shares)
    assert GRADIENTS.regrouped(math.inf).sizes == (64 * MEBIBYTE,)
    same = GRADIENTS.regrouped(16 * MEBIBYTE)
    assert same.sizes == GRADIENTS.sizes
    assert same.shares == pytest.approx(GRADIENTS.shares)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 0.99), st.integers(0, 5))
def test_the_answer_to_a_target_is_where_efficiency_crosses_it(target: float, seed: int) -> None:
    cluster = Cluster(ARIES.fabric.middle)
    family = cluster.family([1], np.random.default_rng(seed))
    model = Model.of(family, ARIES)
    found = answer(model, target, [1, 2, 64, 4096], True, usual_changes(model, None, {}))
    assert model.efficiency(found.limit.nodes) >= target
    if not found.limit.open:
        assert model.efficiency(found.limit.nodes + 1) < target
        assert found.largest in LOSSES
    assert found.worst.nodes <= found.limit.nodes <= found.best.nodes
    changes = dict(found.changes)
    assert changes["batch x 2 (passes, input and spread twice as long)"].nodes > 0
    assert changes["blocks of 16 MiB"] == found.limit  # as they are


def test_a_measured_cell_of_twice_the_batch_stands_for_an_assumed_one(tmp_path: Path) -> None:
    layout = laid_out(tmp_path / "r", 1)
    content = json.loads(layout.plan.read_text())
    larger = entry(batch_size=32, max_steps=STEPS_DONE)
    write_cell(layout.results, larger, seconds=0.3, profiled=False)
    layout.plan.write_text(json.dumps(plan([*content["cells"], larger])))
    told = asked(layout, tmp_path / "p.parquet", target=0.9)
    (first, small), (second, large) = told.answers
    assert (first.key.batch_size, second.key.batch_size) == (16, 32)
    assert not isinstance(small, str)
    assert not isinstance(large, str)
    assert dict(small.changes)["batch x 2 (measured cells)"] == large.limit


def test_a_measured_curve_takes_the_place_of_a_fabric(tmp_path: Path) -> None:
    scales = (2, 4, 8, 16)
    measured = curve(microseconds("ring", scales, per_node=1), scales, per_node=1)
    path = write_csv(tmp_path / "t.csv", [measured, replace(measured, node="other")])
    layout = laid_out(tmp_path / "r", 1, model="resnet18", width=0.125)
    told = asked(layout, tmp_path / "p.parquet", fabric=None, allreduce=path, node="node", nodes=[1, 2, 3, 16, 64])
    table = told.rows.set_index("nodes")
    assert set(table["source"]) == {"projected: measured curve node library"}
    assert table.loc[3, "verdict"] == "refused: 3 ranks: fewer than the 16 measured"
    known = table.drop(index=3)
    assert known["step_seconds"].notna().all()
    assert (known["range_low"] <= known["model_seconds"]).all()
    with pytest.raises(UserError, match="more than one curve by --node and --library"):
        asked(layout, tmp_path / "p.parquet", fabric=None, allreduce=path)
    with pytest.raises(UserError, match=r"no curve by --node and --library .*, did you mean node\?"):
        asked(layout, tmp_path / "p.parquet", fabric=None, allreduce=path, node="nod")


def test_gradients_beyond_the_curve_are_refused(tmp_path: Path) -> None:
    measured = curve(microseconds("ring", (2, 4, 8), per_node=1), (2, 4, 8), per_node=1)
    path = write_csv(tmp_path / "t.csv", [measured])
    network = OfCurve(read_curves(path)[0], [], [16])
    family = Cluster(ARIES.fabric.middle).family([1], np.random.default_rng(0))  # 64 MiB in all
    rows = efficiency_rows(family, Model.of(family, network), [2, 16], errors([family], network), "s")
    assert all(row["verdict"].endswith("the curve ends at 8388608") for row in rows)
    assert all(row["step_seconds"] is None for row in rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fabric": None}, "a network is needed: --fabric NAME or --allreduce FILE"),
        ({"allreduce": Path("x")}, "only one of them"),
        ({"target": 1.5}, r"--target-efficiency: 1\.5 is not between 0 and 1"),
        ({"target": math.nan}, "--target-efficiency: nan is not between 0 and 1"),
        ({"fabric": "myrinet"}, r"--fabric: .*fabrics\.yaml has no 'myrinet'"),
    ],
)
def test_options_that_cannot_be_used_are_told(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        asked(Layout(tmp_path, "toy"), tmp_path / "p.parquet", **changes)


def test_nothing_that_is_projected_is_written_among_tables(tmp_path: Path) -> None:
    layout = laid_out(tmp_path / "r", 1)
    for place in (layout.table("projected"), layout.root / "p.parquet"):
        with pytest.raises(
            UserError, match=r"--out: what is in .* is the campaign's own; what is projected by hand lies elsewhere"
        ):
            asked(layout, place)
    times = tmp_path / "t.csv"
    times.write_text("x")
    with pytest.raises(UserError, match="--out is the file of measurements itself"):
        asked(layout, times, fabric=None, allreduce=times)
    assert times.read_text() == "x"


@pytest.mark.parametrize("text", ["", "0", "2,2", "16385", "1.5", "a"])
def test_numbers_of_nodes_that_are_none_are_told(text: str) -> None:
    with pytest.raises(UserError, match=r"^--nodes: "):
        counts(text)


def test_the_command_prints_tables_and_answers(tmp_path: Path) -> None:
    layout = laid_out(tmp_path / "r", 1)
    options = ["project", "cells", "toy", "--results", str(layout.results), "--fabric", "aries"]
    options += ["--target-efficiency", "0.8", "--nodes", "1,2,4", "--out", str(tmp_path / "p.parquet")]
    shown = CliRunner().invoke(cli, options, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "interval not estimable" in shown.output
    assert "synthetic vgg16 BNN, batch 16, base: efficiency 0.8 up to " in shown.output
    found = json.loads(CliRunner().invoke(cli, [*options, "--json"], catch_exceptions=False).stdout)
    assert [row["nodes"] for row in found["rows"]] == [1, 2, 4]
    assert found["answers"][0]["target_efficiency"] == 0.8
    assert pd.DataFrame(found["rows"])["step_seconds"].notna().all()


def test_options_of_curves_alone_belong_to_no_cells(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["project", "--ranks", "3", "cells", "toy", "--out", str(tmp_path / "p")])
    assert result.exit_code == 2
    assert "--ranks belongs after cells" in result.output
