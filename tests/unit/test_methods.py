"""From real records of `bnn infer` to table `methods`: names, costs by repeat, intervals, and why there is none."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bnn.cli import main
from bnn.metrics import ratio_interval, repeats_interval
from bnn.posterior.save import save_network
from bnn.records import Evaluation
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.plan.content import plan_content
from campaign.results.tables.build import build_tables
from campaign.results.tables.evaluations import NOT_MEASURED, OF_OTHERS
from campaign.results.tables.inference_schemas import INFERENCE
from campaign.results.tables.method_names import method_name
from campaign.results.tables.method_schemas import AT_MOST_ONE, MEASURES
from campaign.results.tables.methods import NO_BASELINE, draw_rows, method_rows
from tests.support.campaigns import CAMPAIGN, campaign, changed
from tests.support.cells import write_cell
from tests.support.posteriors import paper_network

SECONDS = {("bnn", 1): 0.30, ("bnn", 2): 0.33, ("cnn", 1): 0.20, ("cnn", 2): 0.21}
OOD = {"dataset": "synthetic", "dataset_options": {"shape": [1, 28, 28], "size": 200}, "images": 30}
INFER = {
    "draws": 12, "images": 60, "kinds": ["bnn", "cnn"], "shift": ["rotation:3"], "temperature": 2.5,
    "ood": OOD, "ensemble": 2,
}  # fmt: skip
STUDY = {
    "roles": [], "dataset": "mnist-sample", "models": ["fc"], "nodes": [1], "batch_sizes": [8], "repeats": 2,
    "infer": INFER, "target": "methods",
}  # fmt: skip


# NLL on held-out images by step, while it trained.
LEARNED = {
    ("bnn", 1): {4: 2.0, 8: 1.5, 12: 1.2}, ("bnn", 2): {4: 2.2, 8: 1.7, 12: 1.6},
    ("cnn", 1): {4: 1.6, 8: 1.5, 12: 1.7}, ("cnn", 2): {4: 1.9, 8: 1.8, 12: 1.7},
}  # fmt: skip
TARGET = 1.6
WARMING = 6  # steps' time that the two of warm-up take more


def asked() -> Campaign:
    return campaign(changed(changed(CAMPAIGN, "studies/side-by-side", STUDY), "nll_target", TARGET))


def learned(kind: str, repeat: int) -> list[Evaluation]:
    fixed = {"epoch": 0, "draws": 2, "images": 50, "accuracy": 0.5, "accuracy_single_draw": 0.4, "draw_spread": None}
    return [Evaluation(step=step, nll=nll, seconds=0.1, **fixed) for step, nll in LEARNED[kind, repeat].items()]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells with known step times, posteriors of both kinds, and all predictions made for real."""
    folder = tmp_path_factory.mktemp("results")
    made = asked()
    layout = Layout(folder, "toy")
    for entry, planned in zip(plan_content(made)["cells"], made.cells, strict=True):
        if planned.target == "methods":
            pace = SECONDS[entry["kind"], entry["repeat"]]
            write_cell(
                folder, entry, steps=12, seconds=pace, jitter=0, labels=planned.settings.labels,
                evaluations=learned(entry["kind"], entry["repeat"]),
            )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for job in made.after:
            for cell in job.after:
                posterior = layout.posterior(cell) / "step-12"
                if not posterior.exists():
                    save_network(paper_network("fc", 1 / 16, seed=cell.repeat, kind=cell.kind), posterior)
            out = job.record(layout).parent
            posteriors = [str(layout.posterior(cell)) for cell in job.after]
            patch.setattr(sys, "argv", ["bnn", "infer", *posteriors, *job.options, "--out", str(out)])
            main()
    return folder


@pytest.fixture(scope="module")
def tables(results: Path) -> dict[str, pd.DataFrame]:
    return build_tables(plan_content(asked()), results)


def test_predictions_of_methods_stay_out_of_the_table_of_single_posteriors(tables: dict[str, pd.DataFrame]) -> None:
    assert tables["inference"].empty
    others = tables["inference_others"]
    assert len(others) == 4 * 4 + 2 * 4
    assert sorted(others["members"].unique()) == [0, 2]
    assert (others["members"] == 2).sum() == 2 * 4
    assert set(others["shift"].fillna("")) == {"", "rotation:3"}
    scaled = others["temperature_asked"] == "2.5"
    assert scaled.sum() == 8 + 4
    assert (others["temperature"] == scaled.map({True: 2.5, False: 1.0})).all()
    told = others["ood"].notna()
    assert (told == others["shift"].isna()).all()
    assert others.loc[told, "ood_auroc_entropy"].between(0, 1).all()
    assert tables["inference_true_class"].empty
    assert len(tables["inference_draws"]) == 2 * (12 + 1)


def test_nll_as_draws_grow_ends_where_the_methods_row_is(tables: dict[str, pd.DataFrame]) -> None:
    rows, methods = tables["method_draws"], tables["methods"].set_index(["method", "shift"])
    flipout = rows[rows["method"] == "flipout"].set_index("draws")
    assert list(flipout.index) == [1, 2, 5, 10, 12]
    assert list(rows.loc[rows["method"] == "deterministic", "draws"]) == [1]
    for name in ("nll", "nll_low", "nll_high", "seconds_per_image", "seconds_per_image_high"):
        assert flipout.loc[12, name] == pytest.approx(methods.loc[("flipout", ""), name], rel=1e-12)
    assert flipout.loc[1, "seconds_per_image"] == pytest.approx(flipout.loc[12, "seconds_per_image"] / 12)
    assert draw_rows(tables["inference"], tables["inference_draws"].iloc[:0]) == []
    old = tables["inference_draws"].assign(nll_so_far=math.nan)
    assert draw_rows(tables["inference_others"], old) == []


def test_a_row_per_method_and_shift_over_repeats(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["methods"]
    names = {"deterministic", "at temperature 2.5", "flipout", "flipout (at temperature 2.5)"}
    mixed = {
        f"ensemble of 2{rest}" for rest in ("", " (at temperature 2.5)", " (flipout)", " (flipout, at temperature 2.5)")
    }
    assert set(rows["method"]) == names | mixed
    assert len(rows) == len(names | mixed) * 2
    repeats = rows["method"].isin(mixed).map({True: 1, False: 2})
    assert (rows["repeats"] == repeats).all()
    assert (rows["repeats_planned"] == repeats).all()
    clean = rows[(rows["method"] == "flipout") & (rows["shift"] == "")].iloc[0]
    others = tables["inference_others"]
    alone = others[(others["kind"] == "bnn") & others["shift"].isna() & (others["members"] == 0)]
    mine = alone[alone["temperature_asked"].isna()]
    for name in ("nll", "brier", "ood_auroc_entropy"):
        found = repeats_interval(list(mine[name]))
        assert clean[name] == pytest.approx(found.value)
        assert clean[f"{name}_low"] == pytest.approx(found.low)
        assert clean[f"{name}_high"] == pytest.approx(min(found.high, 1.0 if name == "ood_auroc_entropy" else math.inf))
    seconds = repeats_interval(list(mine["seconds_draws"] / 60))
    assert clean["seconds_per_image"] == pytest.approx(seconds.value)
    assert clean["draws"] == 12
    assert (rows[[f"{name}_high" for name in MEASURES if name in AT_MOST_ONE]].max() <= 1).all()
    assert clean["ood"] == "synthetic"
    assert rows.loc[rows["shift"] != "", ["ood_auroc_entropy"]].isna().all().all()


def test_the_cost_is_relative_to_the_conventional_network_and_paired_by_repeat(
    tables: dict[str, pd.DataFrame],
) -> None:
    rows = tables["methods"].set_index(["method", "shift"])
    wanted = ratio_interval([0.30, 0.33], [0.20, 0.21])
    for method in ("flipout", "flipout (at temperature 2.5)"):
        row = rows.loc[(method, "rotation:3")]
        assert row["baseline"] == "cnn (base)"
        assert row["cost_repeats"] == 2
        assert (row["cost"], row["cost_low"], row["cost_high"]) == pytest.approx(
            (wanted.value, wanted.low, wanted.high), rel=1e-6
        )
    own = rows.loc[("at temperature 2.5", "")]
    assert own["cost"] == own["cost_low"] == own["cost_high"] == 1
    assert rows.loc[("ensemble of 2", ""), "cost"] == 2, "both members are trained"
    assert rows.loc[("ensemble of 2 (flipout)", ""), "cost_high"] == pytest.approx(2 * wanted.high, rel=1e-6)


def test_an_ensemble_says_what_the_mean_of_its_members_says(tables: dict[str, pd.DataFrame]) -> None:
    """Its NLL is at most the mean of theirs (Jensen), and members that agreed would leave it at that."""
    rows = tables["methods"].set_index(["method", "shift"])
    others = tables["inference_others"]
    single = others[(others["kind"] == "cnn") & others["shift"].isna() & others["temperature_asked"].isna()]
    mean = single.loc[single["members"] == 0, "nll"].mean()
    mixed = rows.loc[("ensemble of 2", "")]
    assert mixed["nll"] < mean
    assert mixed["draws"] == 2
    assert "a single repeat: no intervals" in mixed["reason"]


def test_what_was_measured_in_training_has_its_training_time(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["evaluations"]
    assert len(rows) == 4 * 3
    for row in rows.to_dict("records"):
        assert row["nll"] == LEARNED[row["kind"], row["repeat"]][row["step"]]
        pace = SECONDS[row["kind"], row["repeat"]]
        assert row["seconds"] == pytest.approx((row["step"] + WARMING) * pace, rel=1e-6)


def test_the_time_to_an_nll_is_told_where_all_repeats_reach_it(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["methods"].set_index(["method", "shift"])
    wanted = repeats_interval([(8 + WARMING) * 0.30, (12 + WARMING) * 0.33])
    for shift in ("", "rotation:3"):
        row = rows.loc[("flipout", shift)]
        assert (row["nll_target"], row["nll_reached"]) == (TARGET, 2)
        assert (row["seconds_to_nll"], row["seconds_to_nll_low"], row["seconds_to_nll_high"]) == pytest.approx(
            (wanted.value, wanted.low, wanted.high), rel=1e-6
        )
    late = rows.loc[("deterministic", "")]
    assert late["nll_reached"] == 1
    assert math.isnan(late["seconds_to_nll"])
    assert "NLL 1.6 was reached in 1 of 2 repeats (lowest in 12 steps: 1.5)" in late["reason"]
    for other in ("ensemble of 2 (flipout)", "flipout (at temperature 2.5)"):
        assert math.isnan(rows.loc[(other, ""), "seconds_to_nll"])
        assert OF_OTHERS in rows.loc[(other, ""), "reason"]


def test_without_a_target_or_a_measurement_there_is_no_time(tables: dict[str, pd.DataFrame]) -> None:
    args = (tables["cells"], tables["inference_others"])
    for row in method_rows(*args, tables["evaluations"], None):
        assert math.isnan(row["seconds_to_nll"])
        assert math.isnan(row["nll_target"])
        assert "NLL" not in row["reason"]
    rows = pd.DataFrame(method_rows(*args, tables["evaluations"].iloc[:0], TARGET)).set_index(["method", "shift"])
    assert NOT_MEASURED in rows.loc[("flipout", ""), "reason"]
    spoilt = tables["evaluations"].assign(nll=math.nan)
    rows = pd.DataFrame(method_rows(*args, spoilt, TARGET)).set_index(["method", "shift"])
    assert "reached in 0 of 2 repeats" in rows.loc[("flipout", ""), "reason"]


def altered(tables: dict[str, pd.DataFrame], **changes: Any) -> pd.DataFrame:
    """Rows of methods, of changed tables: keys cells, inference_others; a function of the table each."""
    made = {name: changes.get(name, lambda table: table)(tables[name].copy()) for name in ("cells", "inference_others")}
    rows = method_rows(made["cells"], made["inference_others"], tables["evaluations"], TARGET)
    return pd.DataFrame(rows).set_index(["method", "shift"])


def test_a_method_without_a_baseline_or_a_record_says_why(tables: dict[str, pd.DataFrame]) -> None:
    alone = altered(tables, cells=lambda cells: cells[cells["kind"] == "bnn"]).loc[("flipout", "")]
    assert NO_BASELINE in alone["reason"]
    assert math.isnan(alone["cost"])
    wider = altered(tables, cells=lambda cells: cells.assign(width=cells["width"].where(cells["kind"] == "bnn", 0.5)))
    assert NO_BASELINE in wider.loc[("flipout", ""), "reason"], "of another size"
    whole = tables["inference_others"]["members"] == 0
    lacking = altered(
        tables, inference_others=lambda jobs: jobs[whole].assign(status="MISSING", reasons="not made yet")
    )
    row = lacking.loc[("flipout", "")]
    assert (row["repeats"], row["verdict"]) == (0, "INVALID")
    assert "not made yet" in row["reason"]
    assert math.isnan(row["nll"])
    single = altered(tables, inference_others=lambda jobs: jobs[jobs["repeat"] == 1]).loc[("flipout", "")]
    assert "a single repeat: no intervals" in single["reason"]
    assert single["nll"] > 0
    assert math.isnan(single["nll_low"])
    zero = altered(tables, inference_others=lambda jobs: jobs.assign(calibration_error_debiased=[0.0, *[0.1] * 23]))
    assert zero["reason"].str.contains("calibration_error_debiased: no interval, a repeat's value is 0").sum() == 1
    unpaired = altered(tables, cells=lambda c: c[(c["kind"] == "bnn") | (c["repeat"] == 2)]).loc[("flipout", "")]
    assert unpaired["cost_repeats"] == 1


def test_the_fastest_conventional_network_is_the_baseline(tables: dict[str, pd.DataFrame]) -> None:
    def with_rival(cells: pd.DataFrame) -> pd.DataFrame:
        rival = cells[cells["kind"] == "cnn"].assign(variant="quick", implementation="cnn-kernels")
        rival["throughput_steady"] *= 2
        return pd.concat([cells, rival])

    row = altered(tables, cells=with_rival).loc[("flipout", "")]
    assert row["baseline"] == "cnn-kernels (quick, the fastest of 2)"
    assert row["cost"] == pytest.approx(2 * ratio_interval([0.30, 0.33], [0.20, 0.21]).value, rel=1e-6)


def test_a_mixture_is_called_so(tables: dict[str, pd.DataFrame]) -> None:
    rows = altered(tables, inference_others=lambda jobs: jobs.assign(members=3))
    assert {"ensemble of 3", "ensemble of 3 (flipout)"} <= {method for method, _ in rows.index}


def test_no_predictions_make_no_rows() -> None:
    assert method_rows(pd.DataFrame(), pd.DataFrame(columns=INFERENCE.names), pd.DataFrame()) == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (("cnn", "cnn-kernels"), "deterministic"),
        (("cnn", "cnn-best", "fit"), "temperature-scaled"),
        (("cnn", "cnn", "2.5"), "at temperature 2.5"),
        (("cnn", "cnn", "", 5), "ensemble of 5"),
        (("cnn", "cnn", "fit", 5), "ensemble of 5 (temperature-scaled)"),
        (("bnn", "bnn-flipout"), "flipout"),
        (("bnn", "bnn-flipout-torch-bfloat16"), "flipout"),
        (("bnn", "bnn-flipout-reference"), "reference flipout"),
        (("bnn", "bnn-local-reparameterization-compiled"), "local reparameterization"),
        (("bnn", "bnn-reparameterization", "fit"), "reparameterization (temperature-scaled)"),
        (("bnn", "bnn-ivon-torch", "", 3), "ensemble of 3 (IVON)"),
        (("bnn", "bnn-of-tomorrow"), "of-tomorrow"),
    ],
)
def test_methods_are_called_as_readers_call_them(given: tuple[Any, ...], name: str) -> None:
    assert method_name(*given) == name
