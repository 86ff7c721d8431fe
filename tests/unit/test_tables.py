"""Tables from records: known step times in, known numbers out."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from bnn.records import STEPS_FILE, read_table, write_table
from bnn.records.pruning import PRUNING
from campaign.results.statistics import paired, pooled_std, ratio_sigma, worse
from campaign.results.tables.build import build_tables
from campaign.results.tables.inference_schemas import INFERENCE_TABLES, PRUNING_TABLES
from campaign.results.tables.schemas import METHOD_TABLES, TABLES
from campaign.results.tables.tuning_schemas import TUNING_TABLES
from tests.support.cells import built_campaign, entry, plan, write_cell

POSITIVE = st.floats(0.01, 100)


def build(results: Path, *cells: tuple[dict, dict]) -> dict[str, pd.DataFrame]:
    """Write (entry, keywords of write_cell) pairs and build the tables; keywords None: the cell is not written."""
    for cell, how in cells:
        if how is not None:
            write_cell(results, cell, **how)
    return build_tables(plan([cell for cell, _ in cells]), results)


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize(("seconds", "efficiency"), [(0.5, 1.0), (1.0, 0.5), (0.625, 0.8)])
def test_efficiency_of_known_step_times(tmp_path, seconds, efficiency):
    cells = [(entry(nodes=1, repeat=r), {"seconds": 0.5, "jitter": 0}) for r in (1, 2)]
    cells += [(entry(nodes=4, repeat=r), {"seconds": seconds, "jitter": 0}) for r in (1, 2)]
    row = only(build(tmp_path, *cells)["scaling"], nodes=4)
    assert row["efficiency_steady"] == pytest.approx(efficiency)
    assert (row["pairs"], row["baseline_nodes"]) == (2, 1)
    assert "1 node" in row["baseline"]
    assert row["reason_steady"] == ""


def test_total_efficiency_counts_start_up_and_needs_complete_epochs(tmp_path):
    whole = {"max_steps": None, "epochs": 2, "warmup_steps": 0}
    # 8 and 4 steps of 0.5 s after 3 s of start-up: (3 + 4) / (2 * (3 + 2))
    how = {"seconds": 0.5, "jitter": 0, "train_size": 64, "startup": 3.0}
    row = only(build(tmp_path, *[(entry(nodes=n, **whole), how) for n in (1, 2)])["scaling"], nodes=2)
    assert row["efficiency_total"] == pytest.approx(7 / 10)
    assert row["efficiency_steady"] == pytest.approx(1)


def test_total_efficiency_of_stopped_runs_is_refused(tmp_path):
    row = only(build(tmp_path, *[(entry(nodes=n), {}) for n in (1, 2)])["scaling"], nodes=2)
    assert math.isnan(row["efficiency_total"])
    assert "stop after 12 steps" in row["reason_total"]


def test_total_efficiency_of_a_resumed_run_is_refused(tmp_path):
    whole = {"max_steps": None, "epochs": 2}
    one, two = entry(nodes=1, **whole), entry(nodes=2, **whole)
    tables = build(tmp_path, (one, {"train_size": 64}), (two, {"train_size": 64, "attempts": 2}))
    assert "resumed" in only(tables["scaling"], nodes=2)["reason_total"]


def test_efficiency_without_baseline_is_refused(tmp_path):
    row = only(build(tmp_path, (entry(nodes=2), {}))["scaling"], nodes=2)
    assert math.isnan(row["efficiency_steady"])
    assert math.isnan(row["efficiency_total"])
    assert "baseline missing" in row["reason_steady"]
    assert pd.isna(row["baseline_nodes"])


def test_efficiency_with_invalid_baseline_is_refused(tmp_path):
    tables = build(tmp_path, (entry(nodes=1), {"status": "INVALID"}), (entry(nodes=2), {}))
    assert "baseline missing" in only(tables["scaling"], nodes=2)["reason_steady"]


def test_invalid_cells_are_listed_but_not_counted(tmp_path):
    good, bad = entry(repeat=1), entry(repeat=2)
    how = {"seconds": 5.0, "status": "INVALID", "reasons": ("unequal steps",)}
    tables = build(tmp_path, (good, {"seconds": 0.5, "jitter": 0}), (bad, how))
    listed = only(tables["cells"], repeat=2)
    assert (listed["verdict"], listed["counted"]) == ("INVALID", False)
    assert "unequal steps" in listed["reasons"]
    point = only(tables["throughput"])
    assert point["throughput_steady"] == pytest.approx(16 / 0.5)
    assert (point["repeats"], point["excluded"], point["verdict"]) == (1, 1, "OK")


def test_rho_init_is_that_of_cells_with_bayesian_layers(tmp_path):
    ivon = {"estimator": "ivon", "learning_rate": 0.1}
    cells = [entry(rho_init=-4.0), entry(variant="ivon", **ivon), entry(kind="cnn")]
    table = build(tmp_path, *((cell, {}) for cell in cells))["cells"]
    assert only(table, kind="bnn", variant="base")["rho_init"] == -4.0
    assert np.isnan(only(table, variant="ivon")["rho_init"])
    assert np.isnan(only(table, kind="cnn")["rho_init"])


def test_a_missing_cell_is_listed(tmp_path):
    tables = build(tmp_path, (entry(), None))
    assert only(tables["cells"])["verdict"] == "MISSING"
    point = only(tables["throughput"])
    assert point["verdict"] == "INVALID"
    assert math.isnan(point["throughput_steady"])


def test_records_of_other_settings_are_invalid(tmp_path):
    write_cell(tmp_path, entry(learning_rate=0.5))
    row = only(build_tables(plan([entry()]), tmp_path)["cells"])
    assert row["verdict"] == "INVALID"
    assert "other settings" in row["reasons"]


def test_steps_of_an_earlier_version_are_read_and_warned_of(tmp_path):
    """Their seconds end with the update: such a cell must not stand beside others without a word."""
    new, old = entry(repeat=1), entry(repeat=2)
    write_cell(tmp_path, old, seconds=0.5)
    (path,) = tmp_path.rglob(STEPS_FILE)
    table = pq.read_table(path).drop_columns(["seconds_between"])
    pq.write_table(table.replace_schema_metadata({"schema": "steps", "schema_version": "1"}), path)
    write_cell(tmp_path, new, seconds=0.5)
    cells = build_tables(plan([new, old]), tmp_path)["cells"]
    before, after = only(cells, repeat=2), only(cells, repeat=1)
    assert (before["verdict"], before["counted"], after["verdict"]) == ("WARN", True, "OK")
    assert before["reasons"] == "recorded by an earlier version: seconds between steps are not counted"
    assert math.isnan(before["seconds_between"])
    assert after["seconds_between"] == pytest.approx(0.005, rel=0.1)


def test_sweeps_of_an_earlier_version_are_read(tmp_path):
    types = {c.name: c.type.replace("string", "object") for c in PRUNING.columns}
    write_table(pd.DataFrame(columns=PRUNING.names).astype(types), tmp_path / "p.parquet", PRUNING)
    table = pq.read_table(tmp_path / "p.parquet")
    pq.write_table(table.replace_schema_metadata({"schema": "pruning", "schema_version": "1"}), tmp_path / "p.parquet")
    assert list(read_table(tmp_path / "p.parquet", PRUNING).columns) == PRUNING.names


def test_ratio_is_paired_by_repeat(tmp_path):
    cells = []
    for repeat, drift in ((1, 1.0), (2, 1.4), (3, 0.8)):
        cells.append((entry(kind="bnn", repeat=repeat), {"seconds": 1.0 * drift, "jitter": 0}))
        cells.append((entry(kind="cnn", repeat=repeat), {"seconds": 0.4 * drift, "jitter": 0}))
    row = only(build(tmp_path, *cells)["ratios"])
    # the drift is common to both sides of a pair, so that the interval is a point
    assert row[["ratio", "ratio_low", "ratio_high"]].to_list() == pytest.approx([2.5, 2.5, 2.5])
    assert (row["bnn_implementation"], row["cnn_implementation"], row["pairs"]) == ("bnn-flipout", "cnn", 3)


def test_ratio_counts_only_repeats_of_both_sides(tmp_path):
    cells = [
        (entry(kind="bnn", repeat=1), {"seconds": 3.0, "jitter": 0}),
        (entry(kind="bnn", repeat=2), {"seconds": 9.0, "jitter": 0}),
        (entry(kind="cnn", repeat=1), {"seconds": 1.0, "jitter": 0}),
        (entry(kind="cnn", repeat=2), {"seconds": 1.0, "status": "INVALID"}),
    ]
    row = only(build(tmp_path, *cells)["ratios"])
    assert (row["ratio"], row["pairs"]) == (pytest.approx(3.0), 1)


def test_time_to_accuracy_in_both_definitions(tmp_path):
    run = {"roles": ("accuracy",), "max_steps": None, "epochs": 2, "warmup_steps": 0}
    # 4 steps of 1 s per epoch: the accuracy is 0.2 in the first epoch and 0.8 in the second, 0.5 on the whole
    how = {"seconds": 1.0, "jitter": 0, "train_size": 64, "accuracy": lambda step: 0.2 if step < 4 else 0.8}
    table = build(tmp_path, (entry(**run), how))["accuracy"]
    assert only(table, target=0.4, definition="epoch")["seconds"] == pytest.approx(8.0)
    # (4 * 0.2 + 2 * 0.8) / 6 = 0.4 after six steps, up to rounding
    assert only(table, target=0.4, definition="running")["seconds"] in (pytest.approx(6.0), pytest.approx(7.0))
    missed = only(table, target=0.6, definition="running")
    assert math.isnan(missed["seconds"])
    assert not missed["reached"]
    assert "not reached in 8 steps: the highest value is 0.500" in missed["reason"]


def test_an_invalid_cell_has_no_time_to_accuracy(tmp_path):
    cell = entry(roles=("accuracy",))
    assert build(tmp_path, (cell, {"status": "INVALID"}))["accuracy"].empty


def test_a_damaged_summary_is_named(tmp_path):
    cell = entry()
    write_cell(tmp_path, cell)
    (summary,) = tmp_path.rglob("summary.json")
    summary.write_text('{"hash": ')
    with pytest.raises(UserError, match=r"summary\.json"):
        build_tables(plan([cell]), tmp_path)


def test_every_table_is_written_and_read_back(tmp_path):
    _, tables = built_campaign()
    assert set(tables) == set(TABLES)
    for name, frame in tables.items():
        write_table(frame, tmp_path / f"{name}.parquet", TABLES[name])
        back = read_table(tmp_path / f"{name}.parquet", TABLES[name])
        assert len(back) == len(frame)
        # test_after_tables.py, test_methods.py, test_tuning.py
        made_elsewhere = INFERENCE_TABLES | PRUNING_TABLES | METHOD_TABLES | TUNING_TABLES
        assert len(back) > 0 or name in made_elsewhere
        assert list(back.columns) == TABLES[name].names


def test_tables_of_an_empty_plan(tmp_path):
    for name, frame in build_tables(plan([]), tmp_path).items():
        assert frame.empty
        write_table(frame, tmp_path / f"{name}.parquet", TABLES[name])


@pytest.mark.parametrize("name", TABLES)
def test_columns_have_meanings_and_seconds_have_units(name):
    for column in TABLES[name].columns:
        assert column.meaning
        if "seconds" in column.name:
            assert column.unit == ("s per step" if "losses" in name else "s")
        if column.name.startswith("throughput_"):
            assert column.unit == "samples/s"


@given(st.lists(st.lists(POSITIVE, min_size=2, max_size=6), min_size=1, max_size=4))
def test_pooled_std_is_the_spread_within_groups(groups):
    centred = np.concatenate([np.array(group) - np.mean(group) for group in groups])
    expected = math.sqrt((centred**2).sum() / (len(centred) - len(groups)))
    stds = [float(np.std(group, ddof=1)) for group in groups]
    assert pooled_std(stds, [len(group) for group in groups]) == pytest.approx(expected, abs=1e-9)


def test_pooled_std_without_two_values():
    assert math.isnan(pooled_std([math.nan], [1]))


@given(st.dictionaries(st.integers(1, 9), POSITIVE, min_size=1), POSITIVE)
def test_paired_ratio_of_proportional_repeats(values, factor):
    interval = paired({repeat: factor * value for repeat, value in values.items()}, values)
    assert interval.value == pytest.approx(factor)


def test_paired_without_common_repeats():
    assert math.isnan(paired({1: 1.0}, {2: 1.0}).value)


def test_ratio_sigma_adds_relative_errors_in_quadrature():
    assert ratio_sigma(2.0, 10.0, 0.3, 5.0, 0.2) == pytest.approx(2.0 * 0.05)


def test_worse():
    assert worse("OK", "INVALID", "WARN") == "INVALID"
