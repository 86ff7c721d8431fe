"""`campaign compare`: two campaigns whose difference is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bnn.errors import UserError
from bnn.records.columns import read_table
from campaign.results.compare.folder import Side
from campaign.results.compare.metrics import METRICS, chosen, tolerances
from campaign.results.compare.ratios import Noise, adjusted, by_repeat, chance, noise, quantile, unpaired
from campaign.results.compare.rows import cell_words, compare
from campaign.results.compare.said import LOST, totals
from campaign.results.compare.samples import place_of
from campaign.results.compare.schema import BETTER, COMPARISON, SAME, UNDECIDED, WORSE
from campaign.results.compare.write import page
from campaign.results.tables.schemas import IDENTITY_KEYS, TABLES
from campaign.tell.cli import cli
from tests.support.comparisons import measured, provenance, settings, side, write_side

A = [100.0, 101.0, 99.5]
THROUGHPUT = [METRICS["throughput"]]
LIMITS = dict.fromkeys(METRICS, 0.1)
# different, as ties are broken by rounding
values = st.lists(st.integers(10, 10**6), min_size=2, max_size=9, unique=True).map(lambda some: [x / 100 for x in some])
Row = dict[str, Any]


def scaled(by: float) -> list[float]:
    return [by * value for value in A]


def rows_of(a: list[Row], b: list[Row], metrics: Any = None, **more: Any) -> list[Row]:
    return compare(side("A", a), side("B", b), metrics or THROUGHPUT, LIMITS, **more).rows


def run(*words: Any) -> Any:
    return CliRunner().invoke(cli, ["compare", *map(str, words)])


def said(*words: Any) -> str:
    """The one line on a mistake."""
    result = run(*words)
    assert isinstance(result.exception, UserError), result.output
    line = str(result.exception)
    assert "\n" not in line
    return line


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Folders A and B; B is 30% slower."""
    return write_side(tmp_path / "a", measured(A)), write_side(tmp_path / "b", measured(scaled(0.7)))


@pytest.mark.parametrize(
    ("by", "verdict"), [(1.0, SAME), (1.05, SAME), (0.7, WORSE), (1.4, BETTER), (1.1, UNDECIDED), (0.91, UNDECIDED)]
)
def test_a_planted_factor_has_its_verdict(by: float, verdict: str):
    (row,) = rows_of(measured(A), measured(scaled(by)))
    assert row["verdict"] == verdict
    assert row["ratio"] == pytest.approx(by)
    assert row["ratio_low"] < by < row["ratio_high"]


def test_lower_is_better_for_seconds():
    (row,) = rows_of(measured(A), measured(scaled(0.7)), [METRICS["step_seconds"]])
    assert row["verdict"] == WORSE
    assert row["ratio"] == pytest.approx(1 / 0.7)
    assert (row["unit"], row["better"]) == ("s", "lower")


@hypothesis.settings(max_examples=30, deadline=None)
@given(a=values, b=values)
def test_b_against_a_is_a_against_b_turned_round(a: list[float], b: list[float]):
    (one,), (two) = rows_of(measured(a), measured(b)), rows_of(measured(b), measured(a))
    assert one["ratio"] == pytest.approx(1 / two[0]["ratio"])
    assert one["ratio_low"] == pytest.approx(1 / two[0]["ratio_high"])
    turned = {WORSE: BETTER, BETTER: WORSE}
    assert one["verdict"] == turned.get(two[0]["verdict"], two[0]["verdict"])


@given(a=values, b=values, unit=st.floats(1e-3, 1e3))
def test_the_unit_of_both_sides_does_not_matter(a: list[float], b: list[float], unit: float):
    one, other = unpaired(a, b), unpaired([unit * x for x in a], [unit * x for x in b])
    assert one.interval.value == pytest.approx(other.interval.value)
    assert one.interval.low == pytest.approx(other.interval.low)


def test_few_repeats_have_welchs_interval():
    b = [88.0, 95.0, 91.0, 90.0]
    expected = stats.ttest_ind(np.log(b), np.log(A), equal_var=False).confidence_interval(0.95)
    found = unpaired(A, b).interval
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))


def test_many_repeats_rest_on_medians():
    slow_once = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 99.8, 20.0]
    found = unpaired(slow_once, [2 * value for value in slow_once]).interval
    assert found.value == pytest.approx(2)
    assert found.low > 1.5


@given(a=values, b=values, tolerance=st.floats(0.01, 0.5))
def test_a_chance_below_5_percent_is_an_interval_beyond_the_tolerance(a: list[float], b: list[float], tolerance: float):
    found = unpaired(a, b)
    value = chance(found, (1 / (1 + tolerance), 1 + tolerance), Noise(0.0, found.degrees), [len(a), len(b)])
    beyond = found.interval.low > 1 + tolerance or found.interval.high < 1 / (1 + tolerance)
    assert abs(value - 0.05) < 1e-6 or (value < 0.05) == beyond


def test_the_noise_floor_is_what_the_same_twice_stays_within():
    generator = np.random.default_rng(3)
    logs = 0.03 * generator.standard_normal((4000, 2, 3))
    floor = noise(list(logs.reshape(-1, 3))).floor([3, 3])
    ratios = np.abs(logs[:, 1].mean(axis=1) - logs[:, 0].mean(axis=1))
    assert np.mean(ratios < math.log1p(floor)) == pytest.approx(0.95, abs=0.015)


def test_agreement_by_luck_is_not_above_the_noise_of_the_other_cells():
    """One cell whose repeats agree to the digit, among cells that scatter by 20%."""
    noisy = [row for at in range(9) for row in measured([80.0 + at, 100.0, 125.0], variant=f"noisy{at}")]
    lucky = [measured(list(of), variant="lucky") for of in ((100.0, 100.01), (115.0, 115.01))]
    found = {row["variant"]: row for row in rows_of(noisy + lucky[0], noisy + lucky[1])}
    assert found["lucky"]["verdict"] == UNDECIDED
    assert "noise floor" in found["lucky"]["reason"]
    alone = rows_of(*lucky)[0]
    assert alone["verdict"] == BETTER


def test_adjusting_is_benjamini_and_hochbergs():
    chances = [0.001, 0.04, 0.03, 0.5, 1.0, 0.0001]
    assert adjusted(chances) == pytest.approx(list(stats.false_discovery_control(chances)))
    assert adjusted([]) == []


def test_repeats_with_the_same_seed_are_paired():
    seeds = {1: 2.0, 2: 4.0, 3: 8.0}
    found = by_repeat(seeds, {repeat: 1.2 * value for repeat, value in seeds.items()})
    assert found.interval.low == pytest.approx(1.2)
    assert found.interval.high == pytest.approx(1.2)
    apart = unpaired(list(seeds.values()), [1.2 * value for value in seeds.values()]).interval
    assert apart.low < 1 < apart.high


def test_losses_of_real_images_are_paired_and_those_of_made_up_ones_are_not_compared():
    real = [measured(A, synthetic=False, held_out_nll=0.3), measured(A, synthetic=False, held_out_nll=0.36)]
    for rows in real:
        for row, offset in zip(rows, (0.0, 0.1, 0.2), strict=True):
            row["held_out_nll"] *= 1 + offset
    (row,) = rows_of(*real, [METRICS["held_out_nll"]])
    assert row["verdict"] == WORSE
    assert row["ratio"] == pytest.approx(1.2)
    assert "by repeat" in row["interval_method"]
    assert rows_of(measured(A, held_out_nll=0.3), measured(A, held_out_nll=0.6), [METRICS["held_out_nll"]]) == []


def test_one_repeat_has_no_interval_and_no_verdict():
    (row,) = rows_of(measured(A), measured([50.0]))
    assert (row["verdict"], row["ratio"]) == (UNDECIDED, pytest.approx(0.5, rel=0.01))
    assert math.isnan(row["ratio_low"])
    assert row["reason"] == "B: one repeat: an interval is not estimable"


def test_repeats_that_are_not_valid_do_not_count():
    bad = measured([*scaled(1.0), 1.0])
    bad[-1] |= {"counted": False, "verdict": "INVALID"}
    (row,) = rows_of(measured(A), bad)
    assert (row["verdict"], row["repeats_b"]) == (SAME, 3)


def test_a_valid_repeat_without_a_value_keeps_the_cell_from_being_judged():
    lame = measured(A)
    lame[2]["throughput_steady"] = None
    (row,) = rows_of(measured(A), lame)
    assert (row["verdict"], row["reason"]) == (UNDECIDED, "B: only 2 of 3 repeats have a value")


def test_scaling_efficiency_is_that_of_the_same_repeat_on_one_node():
    def campaign(two_nodes: float) -> list[Row]:
        return measured(A) + measured(scaled(two_nodes), nodes=2, ranks=2)

    (row,) = rows_of(campaign(2.0), campaign(1.2), [METRICS["scaling_efficiency"]])
    assert (row["a"], row["b"]) == pytest.approx((1.0, 0.6))
    assert row["verdict"] == WORSE
    assert row["unit"] == ""


def test_pruning_sweeps_are_compared_each_with_its_own():
    def sweeps(speedups: dict[str, float]) -> list[Row]:
        from campaign.results.tables.schemas import TABLES

        blank = dict.fromkeys(TABLES["pruning_summary"].names)
        return [
            blank | {key: row[key] for key in row if key in blank}
            | {"semantics": semantics, "scope": "global", "by": "weight", "status": "OK", "largest_speedup": speedup,
               "draws": 50, "images": 100}
            for semantics, speedup in speedups.items() for row in measured(A)
        ]  # fmt: skip

    a = side("A", measured(A), pruning_summary=sweeps({"zero": 2.0, "bprune": 4.0}))
    b = side("B", measured(A), pruning_summary=sweeps({"zero": 2.0, "bprune": 2.0}))
    found = {row["what"]: row for row in compare(a, b, [METRICS["pruned_speedup"]], LIMITS).rows}
    assert {what: row["verdict"] for what, row in found.items()} == {
        "zero global weight": SAME, "bprune global weight": WORSE,
    }  # fmt: skip
    b.tables["pruning_summary"]["draws"] = 60
    refused = compare(a, b, [METRICS["pruned_speedup"]], LIMITS)
    assert refused.rows == []
    assert "draws 50 in A, 60 in B" in refused.refused[0]["difference"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run": settings(learning_rate=0.01)}, "learning_rate 0.0001 in A, 0.01 in B"),
        ({"run": settings(dataset_options={"classes": 7})}, "dataset_options {} in A, {'classes': 7} in B"),
        ({"ranks": 2}, "ranks 1 in A, 2 in B"),
        ({"threads": 4}, "threads 2 in A, 4 in B"),
    ],
)
def test_cells_that_measured_something_else_are_refused_by_name(tmp_path: Path, change: Row, words: str):
    a, b = write_side(tmp_path / "a", measured(A)), write_side(tmp_path / "b", measured(A, **change))
    line = said(a, b)
    assert "synthetic vgg16 bnn nodes=1 batch=16 reference" in line
    assert words in line
    key = words.split(maxsplit=1)[0]
    assert f"--accept {key}" in line
    accepted = run(a, b, "--accept", key, "--metric", "throughput")
    assert accepted.exit_code == 0, accepted.output
    assert f"compared although it differs: synthetic vgg16 bnn nodes=1 batch=16 reference: {words}" in accepted.output


def test_what_differs_is_not_named_by_a_plan_of_other_settings(tmp_path: Path):
    b = write_side(tmp_path / "b", measured(A, run=settings(learning_rate=0.01)))
    plan = json.loads((b / "plan.json").read_text())
    plan["cells"][0]["settings"]["learning_rate"] = 0.02  # planned since, not run yet
    (b / "plan.json").write_text(json.dumps(plan))
    assert "settings: hash" in said(write_side(tmp_path / "a", measured(A)), b)


def test_cells_without_a_common_repeat_are_refused(tmp_path: Path):
    later = measured(A + A)[3:]
    a, b = write_side(tmp_path / "a", measured(A)), write_side(tmp_path / "b", later)
    assert "repeats [1, 2, 3] in A, [4, 5, 6] in B: none in common" in said(a, b)
    assert run(a, b, "--accept", "repeats").exit_code == 0


def test_exit_codes(tmp_path: Path, two: tuple[Path, Path]):
    a, b = two
    assert run(a, b).exit_code == 1
    assert run(b, a).exit_code == 0
    assert run(a, a).exit_code == 0
    single = write_side(tmp_path / "single", measured([100.0]))
    assert "two repeats" in said(single, single)


def test_the_table_names_what_is_worse_and_hides_what_is_the_same(two: tuple[Path, Path]):
    output = run(*two).output
    assert "worse" in output
    assert "peak_memory" not in output
    assert "peak_memory" in run(*two, "--all").output


def test_json_has_everything_and_no_nan(two: tuple[Path, Path]):
    a, b = two
    found = json.loads(run(a, b, "--json").output)
    assert found["exit_code"] == 1
    worse = {row["metric"] for row in found["rows"] if row["verdict"] == WORSE}
    assert worse == {"throughput", "step_seconds"}
    assert set(found["rows"][0]) == set(COMPARISON.names)


def test_files_are_written_and_read_again(two: tuple[Path, Path], tmp_path: Path):
    table, html = tmp_path / "c.parquet", tmp_path / "c.html"
    assert run(*two, "--out", table, "--out", html).exit_code == 1
    found = read_table(table, COMPARISON)
    assert set(found["verdict"]) == {WORSE, SAME}
    assert "worse" in html.read_text()
    assert "c.txt: --out writes .html or .parquet files" in said(*two, "--out", tmp_path / "c.txt")


def test_the_page_escapes_names_and_allows_no_script():
    hostile = "<img src=x onerror=alert(1)>"
    sides = [side(name, measured(A, variant=hostile)) for name in "AB"]
    sides[0].plan["site"]["title"] = hostile
    text = page(compare(*sides, THROUGHPUT, LIMITS))
    assert "<img" not in text
    assert "script" not in text.partition("<body>")[0]
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_other_software_is_listed():
    a = side("A", measured(A), provenance=[provenance()])
    b = side("B", measured(A, implementation="bnn-flipout-torch"), provenance=[
        provenance(cpu_model="Other", versions=json.dumps({"torch": "2.14"}), git_revision="fedcba9876543210")
    ])  # fmt: skip
    from campaign.results.compare.environment import differences

    found = {row["fact"]: (row["a"], row["b"]) for row in differences(a, b)}
    assert found == {
        "processor": ("Toy", "Other"), "torch": ("2.13", "2.14"),
        "git revision": ("0123456789abcdef", "fedcba9876543210"),
        "implementation": ("bnn-flipout-reference", "bnn-flipout-torch"),
    }  # fmt: skip


def test_cells_of_one_side_are_listed(tmp_path: Path):
    a = write_side(tmp_path / "a", measured(A) + measured(A, variant="old"))
    b = write_side(tmp_path / "b", measured(A) + measured(A, variant="new"))
    output = run(a, b, "--json").output
    found = json.loads(output)
    assert ["old" in found["only_in_a"][0], "new" in found["only_in_b"][0]] == [True, True]


def without(rows: list[Row], verdict: str) -> list[Row]:
    return [row | {"counted": False, "verdict": verdict} for row in rows]


@pytest.mark.parametrize("verdict", ["INVALID", "MISSING"])
def test_a_cell_of_which_no_repeat_is_valid_any_more_is_lost(tmp_path: Path, verdict: str):
    """A job that crashes in B would else be undecided, which is exit code 0 to whom a pipeline asks."""
    a = write_side(tmp_path / "a", measured(A) + measured(A, variant="old"))
    b = write_side(tmp_path / "b", measured(A) + without(measured(A, variant="old"), verdict))
    found = run(a, b, "--metric", "throughput")
    assert found.exit_code == 1
    assert f"{LOST}: synthetic vgg16 bnn nodes=1 batch=16 old\n" in found.output
    told = json.loads(run(a, b, "--json").output)
    assert (told["exit_code"], told["lost"]) == (1, ["synthetic vgg16 bnn nodes=1 batch=16 old"])
    assert run(b, a, "--metric", "throughput").exit_code == 0  # a cell that works now
    page = tmp_path / "c.html"
    run(a, b, "--out", page)
    assert LOST in page.read_text()


def test_lost_predictions_and_sweeps_are_told_from_their_cells():
    identity = {key: measured(A)[0][key] for key in (*IDENTITY_KEYS, "synthetic")}
    sweep = {"semantics": "removal", "scope": "layer", "by": "weight", "seconds_total": 3.0}

    def both(status: str) -> Side:
        told = [identity | {"repeat": repeat, "verdict": "OK", "status": status} for repeat in (1, 2)]
        return side(status, measured(A), inference=[blank("inference") | row | {"seconds_draws": 2.0} for row in told],
                    pruning_summary=[blank("pruning_summary") | row | sweep for row in told])  # fmt: skip

    found = compare(both("OK"), both("MISSING"), list(METRICS.values()), dict.fromkeys(METRICS, 0.1))
    name = cell_words(place_of(measured(A)[0]))
    assert found.lost == [f"{name} predictions", f"{name} removal layer weight pruning"]
    assert "2 lost" in totals(found)[0]


def blank(table: str) -> Row:
    return dict.fromkeys(TABLES[table].names)


@pytest.mark.parametrize(("others", "lost"), [(True, True), (False, False)])
def test_a_targets_own_cell_is_lost_where_the_target_was_run(others: bool, lost: bool):
    """It has no row at all in B, as a cell has none that its target alone runs and that has not finished."""
    mine, its = measured(A, variant="mine"), measured(A, variant="its")
    a, b = side("A", measured(A) + mine + its), side("B", measured(A) + (its if others else []))
    b.plan["cells"] = [
        {key: row[key] for key in IDENTITY_KEYS} | {"target": "methods" if row["variant"] in ("mine", "its") else ""}
        | {"settings": row["settings"].model_dump(mode="json")} for row in measured(A) + mine + its
    ]  # fmt: skip
    found = compare(a, b, THROUGHPUT, LIMITS)
    name = "synthetic vgg16 bnn nodes=1 batch=16 mine"
    assert (found.lost == [name], name in found.only["A"]) == (lost, not lost)


def test_where_everything_is_lost_that_is_said(tmp_path: Path):
    a = write_side(tmp_path / "a", measured(A))
    assert run(a, write_side(tmp_path / "b", without(measured(A), "INVALID"))).exit_code == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--metric", "thruput"], "--metric: 'thruput' is no metric, nor a table of some, did you mean throughput?"),
        (["--tolerance", "wide"], "--tolerance: 'wide' is no percentage above 0 (5, or throughput=5)"),
        (["--tolerance", "loss=-1"], "--tolerance: 'loss=-1' is no percentage above 0 (5, or loss=5)"),
        (["--tolerance", "los=1"], "--tolerance: 'los' is no metric, did you mean loss?"),
        (["--metric", "predict_nll"], "inference.parquet: no such file: predict_nll is made of it"),
    ],
)
def test_a_slip_is_one_line(two: tuple[Path, Path], words: list[str], line: str):
    assert line in said(*two, *words)


def test_folders_that_are_no_site_are_named(two: tuple[Path, Path], tmp_path: Path):
    a, b = two
    assert "it holds those of a, b: name one" in said(tmp_path, b)
    assert "no such folder" in said(tmp_path / "nowhere", b)
    (b / "tables" / "cells.parquet").unlink()
    assert "cells.parquet: no such file" in said(a, b)


def test_nothing_is_written_unasked(two: tuple[Path, Path], tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    run(*two)
    assert sorted(tmp_path.rglob("*")) == before


def test_tolerances_of_one_metric_override_that_of_all():
    found = tolerances(["loss=2", "20%"])
    assert (found["loss"], found["throughput"], len(found)) == (0.02, 0.2, len(chosen(())))


def test_quantiles_are_students():
    assert quantile(4) == pytest.approx(2.776, abs=1e-3)
