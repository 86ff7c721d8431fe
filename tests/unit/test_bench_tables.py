"""Benchmarks: from records to tables, figure and report. All records are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.bench.implementations import BEST, OURS, PEERS
from bnn.errors import UserError
from bnn.flops.formulae import network_flops
from bnn.models.describe import describe
from bnn.records.bench import header_path
from bnn.records.columns import read_table, write_table
from campaign.results.figures.catalogue import PEER_COMPARISON, available, not_measured
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.select import NothingToDrawError
from campaign.results.figures.style import notice, save
from campaign.results.report import write_report
from campaign.results.tables.bench import MEASURED
from campaign.results.tables.build import build_tables
from campaign.results.tables.schemas import BENCH_TABLES, CELL_TABLES, TABLES
from tests.support.bench import PEAK, SECONDS, WITH_PEERS, bench_entry, write_bench
from tests.support.cells import entry, plan


def tables_of(folder: Path, *entries: dict[str, Any]) -> dict[str, pd.DataFrame]:
    return build_tables(plan([], entries), folder, BENCH_TABLES)


def only(frame: pd.DataFrame, implementation: str) -> pd.Series:
    (row,) = [row for _, row in frame.iterrows() if row["implementation"] == implementation]
    return row


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """With peers, and no noise but the machine's pace, which a round shares."""
    folder = tmp_path_factory.mktemp("results")
    write_bench(folder, bench_entry(), WITH_PEERS, jitter=0.0)
    return tables_of(folder, bench_entry())


def test_ratios_are_taken_within_rounds(tables: dict[str, pd.DataFrame]) -> None:
    ours = only(tables["bench"], "bnn-flipout")
    assert ours["ratio_cnn"] == pytest.approx(0.55 / 0.5)
    assert (ours["ratio_cnn_low"], ours["ratio_cnn_high"]) == pytest.approx((1.1, 1.1)), "the pace of rounds cancels"
    assert ours["ratio_cnn_plain"] == pytest.approx(0.55 / 0.56)
    assert ours["ratio_cnn_best"] == pytest.approx(0.55 / 0.45)
    assert ours["speedup_bayesian_torch"] == pytest.approx(1.4 / 0.55)
    assert ours["speedup_tfp"] == pytest.approx(1.35 / 0.55)
    assert ours["memory_ratio_bayesian_torch"] == pytest.approx(0.55 / 1.4)
    assert ours["step_seconds_low"] < ours["step_seconds"] < ours["step_seconds_high"]
    assert ours["samples_per_second"] == pytest.approx(32 / ours["step_seconds"])
    assert ours["overhead_fraction"] == pytest.approx(0.03)
    assert (ours["rounds"], ours["side"], ours["control"]) == (4, "bnn", False)


def test_a_conventional_network_has_no_overhead_and_none_is_compared_with_itself(
    tables: dict[str, pd.DataFrame],
) -> None:
    base = only(tables["bench"], "cnn")
    assert pd.isna(base["overhead_fraction"])
    assert pd.isna(base["ratio_cnn"])
    best = only(tables["bench"], "cnn-best")
    assert best["resolved"] == "cnn-kernels"
    assert best["step_seconds"] == only(tables["bench"], "cnn-kernels")["step_seconds"]


def test_flops_are_of_what_each_implementation_computes(tables: dict[str, pd.DataFrame]) -> None:
    bnn, cnn = describe("vgg16", "bnn"), describe("vgg16", "cnn")
    dense = {"dense": "two-convolutions"}
    wanted = {
        "cnn-best": (cnn, "conventional", {}),
        "bnn-flipout": (bnn, "per-example", dense),
        "bnn-flipout-reference": (bnn, "two-convolutions", {}),
        "tfp": (bnn, "two-convolutions", {}),
    }
    for name, arguments in wanted.items():
        row = only(tables["bench"], name)
        assert row["flops_per_image"] == network_flops(*arguments).total
        needed = network_flops(*arguments, padding=False).total
        assert row["flops_per_image_needed"] == needed < row["flops_per_image"]
        assert row["flops_per_second"] == pytest.approx(needed * 32 / row["step_seconds"])
        assert row["peak_fraction"] == pytest.approx(row["flops_per_second"] / PEAK["flops_per_second"])


def test_a_run_has_its_header_and_its_noise_floor(tables: dict[str, pd.DataFrame]) -> None:
    (run,) = tables["bench_runs"].to_dict("records")
    assert (run["state"], run["rounds"], run["cpu_model"]) == (MEASURED, 4, "Toy CPU")
    assert run["control_ratio"] == pytest.approx(0.503 / 0.5)
    assert run["noise_floor"] == pytest.approx(0.006)
    assert run["peak_source"] == PEAK["source"]
    assert json.loads(run["versions"])["tfp"] == {"tensorflow": "2.21.0"}
    assert run["command"].startswith("bnn bench step --model vgg16 --batch 32")


def test_a_users_model_and_a_record_without_a_peak_have_no_flops_rate(tmp_path: Path) -> None:
    entries = [bench_entry("mine:net", peers=()), bench_entry(peers=())]
    write_bench(tmp_path, entries[0], SECONDS)
    write_bench(tmp_path, entries[1], SECONDS, peak=None)
    bench = tables_of(tmp_path, *entries)["bench"]
    assert bench.loc[bench["model"] == "mine:net", "flops_per_image"].isna().all()
    paper = bench[bench["model"] == "vgg16"]
    assert paper["flops_per_second"].notna().all()
    assert paper["peak_fraction"].isna().all()


def test_what_was_asked_for_and_is_not_there_has_a_row_with_the_reason(tmp_path: Path) -> None:
    asked = bench_entry(implementations=("bnn-flipout", "bnn-reparameterization"))
    write_bench(tmp_path, asked, SECONDS, not_measured={"tfp": "no network"})
    bench = tables_of(tmp_path, asked)["bench"]
    assert only(bench, "tfp")["state"] == "not measured: no network"
    assert only(bench, "bayesian-torch")["state"] == "not measured: no rows in the record"
    assert only(bench, "bnn-reparameterization")["side"] == "bnn"
    assert bench.loc[bench["state"] != MEASURED, "step_seconds"].isna().all()


def test_what_is_not_measured_as_planned_is_not_shown(tmp_path: Path) -> None:
    entries = [bench_entry(), bench_entry(batch=128)]
    write_bench(tmp_path, entries[0], SECONDS, options=["--model", "vgg16", "--rounds", "1"])
    made = tables_of(tmp_path, *entries)
    assert made["bench"].empty
    assert list(made["bench_runs"]["state"]) == [
        "measured with other options than the plan's, which is not shown", "not measured yet",
    ]  # fmt: skip


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    write_bench(tmp_path, bench_entry(), SECONDS)
    record = tmp_path / bench_entry()["record"]
    good = header_path(record).read_text()
    header_path(record).write_text("{}")
    with pytest.raises(UserError, match=r"batch=32\.json: benchmark: Field required"):
        tables_of(tmp_path, bench_entry())
    header_path(record).unlink()
    with pytest.raises(UserError, match=r"batch=32\.json: No such file"):
        tables_of(tmp_path, bench_entry())
    header_path(record).write_text(good)
    record.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"batch=32\.parquet: not a readable Parquet file"):
        tables_of(tmp_path, bench_entry())


def test_tables_keep_their_types_and_cells_tables_need_no_benchmark(tmp_path: Path) -> None:
    write_bench(tmp_path, bench_entry(), SECONDS)
    (tmp_path / bench_entry()["record"]).with_name("batch=128.parquet").write_bytes(b"damaged")
    made_plan = plan([entry()], [bench_entry(), bench_entry(batch=128)])
    assert set(build_tables(made_plan, tmp_path, CELL_TABLES)) == set(CELL_TABLES)
    for name, frame in tables_of(tmp_path, bench_entry()).items():
        write_table(frame, tmp_path / f"{name}.parquet", TABLES[name])
        assert len(read_table(tmp_path / f"{name}.parquet", TABLES[name])) == len(frame)
    old = {key: value for key, value in made_plan.items() if key != "bench"}
    assert build_tables(old, tmp_path, BENCH_TABLES)["bench_runs"].empty


def words(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


NAMES = st.lists(st.sampled_from([*(name for name in OURS if name != "cnn"), *PEERS, BEST]), unique=True, max_size=8)


@settings(max_examples=12, deadline=None)
@given(names=NAMES, with_base=st.booleans(), missing=NAMES)
def test_every_implementation_appears_and_missing_ones_say_so(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], with_base: bool, missing: list[str]
) -> None:
    present = [*(["cnn"] if with_base or not names else []), *names]
    if BEST in present:
        present = [*(name for name in present if name not in (BEST, "cnn-kernels")), "cnn-kernels", BEST]
    missing = [name for name in missing if name not in present]
    folder = tmp_path_factory.mktemp("figure")
    asked = bench_entry(peers=())
    write_bench(folder, asked, dict.fromkeys(present, 0.5), not_measured=dict.fromkeys(missing, "out of reach"))
    made = tables_of(folder, asked)
    figure = draw_figure(PEER_COMPARISON, made, Context.from_plan(plan([], [asked])))
    left, right = figure.axes
    assert {label.get_text() for label in left.get_yticklabels()} == {*present, *missing}
    marks = [line for line in left.lines if line.get_marker() not in (None, "None")]
    assert len(marks) == len(present)
    assert len([line for line in right.lines if line.get_marker() not in (None, "None")]) == len(present)
    said = words(figure)
    assert said.count("not measured") == 2 * len(missing)
    shown = " ".join(" ".join(text.split()) for text in said)
    assert all(f"{name}: not measured: out of reach" in shown for name in missing)


def test_the_figure_has_ratios_intervals_and_the_noise_floor(tables: dict[str, pd.DataFrame]) -> None:
    figure = draw_figure(PEER_COMPARISON, tables, Context("Toy", "nodes"))
    left, right = figure.axes
    assert "(s)" in left.get_xlabel()
    assert "(MiB)" in right.get_xlabel()
    assert {"1.10×", "2.80×", "2.70×"} <= set(words(figure))
    (band,) = [patch for patch in left.patches if patch.get_gid() == "noise-floor"]
    base = only(tables["bench"], "cnn")["step_seconds"]
    assert [band.get_x(), band.get_x() + band.get_width()] == pytest.approx([base * 0.994, base * 1.006])
    assert any("BNN, peer" in text for text in words(figure))


def test_a_figure_of_ours_alone_says_that_no_peer_is_part_of_it(tmp_path: Path) -> None:
    ours = bench_entry(peers=())
    write_bench(tmp_path, ours, SECONDS)
    figure = draw_figure(PEER_COMPARISON, tables_of(tmp_path, ours), Context("Toy", "nodes"))
    assert any("No peer is part of this comparison." in text for text in words(figure))


def test_without_a_record_the_figure_is_refused_with_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NothingToDrawError, match="peer_comparison does"):
        draw_figure(PEER_COMPARISON, tables_of(tmp_path, bench_entry()), Context("Toy", "nodes"))
    assert PEER_COMPARISON in available(plan([entry()], [bench_entry()]))
    assert "section bench" in not_measured(plan([entry()]))[PEER_COMPARISON]


def page_of(folder: Path, entries: list[dict[str, Any]], *, drawn: bool = True, **site: Any) -> str:
    made_plan = plan([entry()], entries, **site)
    made = build_tables(made_plan, folder)
    svg = folder / "peer_comparison.svg"
    try:
        figure = draw_figure(PEER_COMPARISON, made, Context.from_plan(made_plan))
    except NothingToDrawError as reason:
        figure = notice("x", str(reason))
    save(figure, svg, svg.with_suffix(".png"))
    write_report(made_plan, made, {PEER_COMPARISON: svg} if drawn else {}, folder / "report.html")
    return (folder / "report.html").read_text()


def test_the_report_has_header_table_and_figure(tmp_path: Path) -> None:
    write_bench(tmp_path, bench_entry(), WITH_PEERS)
    page = page_of(tmp_path, [bench_entry(), bench_entry(batch=128)])
    assert '<figure id="peer_comparison">' in page
    assert "Figure peer_comparison" not in page.replace('aria-label="Figure peer_comparison', "")
    for text in ("Toy CPU, 2 cores", "4, interleaved, 2 steps each", "bnn bench step --model vgg16", "torch 2.13.0",
                 "100 GFLOP/s by a convolution", "faster than bayesian-torch"):  # fmt: skip
        assert text in page
    assert "vgg16, batch 128: not measured yet" in page
    assert "nan" not in page[page.index('<section id="peers">') : page.index('<section id="absent">')].lower().split()


def test_the_report_without_records_says_how_to_get_them(tmp_path: Path) -> None:
    page = page_of(tmp_path, [bench_entry()])
    assert "<code>snakemake --profile PROFILE peer_comparison</code>" in page
    assert '<figure id="peer_comparison">' not in page
    assert "no section <code>bench</code>" in page_of(tmp_path, [])


def test_a_figure_that_was_not_drawn_leaves_its_table(tmp_path: Path) -> None:
    write_bench(tmp_path, bench_entry(), WITH_PEERS)
    page = page_of(tmp_path, [bench_entry()], drawn=False)
    assert "Its figure could not be drawn in this run." in page
    assert "bnn-flipout-reference</td>" in page


def test_what_comes_from_records_is_escaped(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    write_bench(tmp_path, bench_entry(), SECONDS | {attack: 1.0}, cpu_model=attack, not_measured={"tfp": attack})
    page = page_of(tmp_path, [bench_entry()])
    assert attack not in page
    assert page.count("&lt;script&gt;alert(1)") >= 3


def test_the_report_counts_flops_beside_the_papers_rates(tmp_path: Path) -> None:
    page = page_of(tmp_path, [])
    section = page[page.index('<section id="flops">') : page.index('<section id="parameters">')]
    for printed in ("18.84", "573.87", "9.82", "299.02"):
        assert f'<td class="n">{printed}</td><td class="published">{printed}</td><td>yes</td>' in section
    assert section.count("<td>vgg16</td>") == 3
    assert '<td class="n">228</td><td class="n">18.9%</td>' in section
    assert '<td class="n">258</td>' in section
    assert ">NO<" not in section
    assert "an artefact" in section
