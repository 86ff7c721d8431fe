"""What the rest of the machine did, in a campaign's tables and report; and the number that the report puts in front."""

import pandas as pd
import pytest

from bnn.records import SUMMARY, Summary
from bnn.records.neighbours import PhaseLoad
from campaign.names.cell import Cell
from campaign.results.report.bench import _others
from campaign.results.report.cells import cell_rows
from campaign.results.report.headline import best_measured, cards
from campaign.results.tables.build import build_tables
from tests.support.cells import entry, plan, write_cell

LOAD = PhaseLoad(
    seconds=9.0, cpus=2, foreign_cores=0.44, foreign_share=0.22, stolen_share=0.0, involuntary_per_second=12.0,
    megahertz_mean=2600.0, throttles=None,
)  # fmt: skip
REASON = "other programs used 0.44 of a core during the steady steps: 22% of the 2 CPUs it may use (limit 5%)"


def test_a_cells_row_has_its_steady_steps_numbers_and_its_reason(tmp_path):
    cells = [entry(kind="bnn"), entry(kind="cnn")]
    write_cell(
        tmp_path, cells[0], seconds=1.0, status="WARN", reasons=(REASON,),
        neighbours={"steady": LOAD, "warmup": LOAD.model_copy(update={"foreign_cores": 2.0})},
    )  # fmt: skip
    write_cell(tmp_path, cells[1], seconds=1.0)
    tables = build_tables(plan(cells), tmp_path)
    row, old = (tables["cells"][tables["cells"]["kind"] == kind].iloc[0] for kind in ("bnn", "cnn"))
    assert (row["foreign_cores"], row["foreign_share"], row["megahertz_mean"]) == (0.44, 0.22, 2600.0)
    assert (row["stolen_share"], row["involuntary_per_second"]) == (0.0, 12.0)
    assert pd.isna(row["throttles"])
    assert pd.isna(row["held_back_share"])
    assert REASON in row["reasons"]
    assert pd.isna(old["foreign_cores"]), "a record that did not look is not a quiet machine"
    assert {r["others"] for r in cell_rows(tables)} == {"0.44", "–"}


def test_a_summary_without_the_field_is_read(tmp_path):
    cell = entry(kind="bnn")
    write_cell(tmp_path, cell, seconds=1.0)
    identity = Cell(**{key: cell[key] for key in Cell.__dataclass_fields__})
    file = tmp_path / identity.folder / SUMMARY
    old = Summary.model_validate_json(file.read_text()).model_dump(mode="json", exclude={"neighbours"})
    assert Summary.model_validate(old).neighbours is None


def point(nodes=1, verdict="OK", ratio=2.0, half=0.1, pairs=3, batch=128) -> dict:
    return {
        "model": "fc", "dataset": "mnist", "variant": "base", "roles": "scaling", "nodes": nodes, "batch_size": batch,
        "bnn_implementation": "bnn-flipout", "cnn_implementation": "cnn", "verdict": verdict, "pairs": pairs,
        "ratio": ratio, "ratio_low": ratio * (1 - half), "ratio_high": ratio * (1 + half),
    }  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    [
        [point(4, "WARN", half=0.01), point(1, "OK", half=0.3)],  # quiet before narrow
        [point(4, half=0.2), point(1, half=0.1)],  # narrow before large
        [point(4, pairs=2, half=0.05), point(1, pairs=3, half=0.1)],  # repeated before narrow
        [point(4, half=float("nan"), pairs=5), point(1, half=0.5)],  # with an interval before without
        [point(4, "INVALID"), point(1, "WARN")],
    ],
)
def test_the_best_measured_point_is_in_front(rows):
    assert best_measured(pd.DataFrame(rows))["nodes"] == 1


def test_of_alike_points_the_largest_is_in_front():
    assert best_measured(pd.DataFrame([point(1), point(4), point(2)]))["nodes"] == 4


def test_the_card_says_which_point_it_is():
    (card,) = cards({"ratios": pd.DataFrame([point(4, "WARN", 3.0), point(1, "OK", 2.0)])})
    assert (card["value"], card["verdict"]) == ("2×", "OK")
    assert card["detail"] == "N = 1, batch 128, the best measured of 2 points; 95% interval 1.8 to 2.2, 3 pairs"


@pytest.mark.parametrize(
    ("cores", "warnings", "words"),
    [
        (0.02, "", "kept 0.02 CPUs busy in the measured turns"),
        (1.5, REASON, f"kept 1.5 CPUs busy in the measured turns; WARN: {REASON}"),
        (float("nan"), None, "not measured"),
    ],
)
def test_a_benchmark_says_what_others_did(cores, warnings, words):
    assert _others(pd.Series({"foreign_cpu": cores, "warnings": warnings})) == words
