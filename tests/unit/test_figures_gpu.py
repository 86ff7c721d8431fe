"""Figures of GPUs and CPUs from several sites' tables: which can be drawn, what is compared, said and refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from campaign.names.layout import Layout
from campaign.results.figures.catalogue import NO_CPUS, NO_GPUS, available, not_measured
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.select import NothingToDrawError
from campaign.results.figures.sites import OtherSite
from campaign.results.figures.style import COLOURS, MARKERS
from tests.support.cells import entry, plan
from tests.support.frames import Frames, context_of, large_batch_site

FIG7 = ["fig7a", "fig7b", "fig7c", "fig7d"]
GPU_SITE = large_batch_site("dgx", "cuda", (1, 2, 4, 8), 2700.0, verdicts={(4, 2): "WARN", (8, 2): "INVALID"})
FOUR_EACH = large_batch_site("polaris", "cuda", (1, 2), 5000.0, ranks_per_node=4)
CPU_SITE = large_batch_site("theta", "cpu", (1, 2, 8, 16, 128), 100.0, repeats=6)
SMALL = large_batch_site("local", "cpu", (1, 2), 50.0, batch_size=64, width=0.25)

Made = tuple[dict[str, Any], Frames]


def draw(name: str, own: Made, *others: Made) -> Figure:
    return draw_figure(name, own[1], context_of(own, *others))


def words(figure: Figure) -> str:
    """All texts of a figure, on one line."""
    texts = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return " ".join(" ".join(text.get_text().split()) for text in texts)


def heights(ax: Axes) -> list[float]:
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    return sorted(bar.get_height() for bar in bars if bar.get_height() > 0)


def values(site: Made, table: str, column: str, **fixed: Any) -> list[float]:
    """A column of a made site's table, ascending."""
    rows = site[1][table]
    for key, value in fixed.items():
        rows = rows[rows[key] == value]
    return sorted(rows[column].dropna())


def curves(ax: Axes) -> list[tuple[list[float], list[float]]]:
    """Measured curves: lines with a marker of more than one point."""
    lines = [line for line in ax.lines if line.get_marker() in MARKERS and len(line.get_xdata()) > 1]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


# Which figures there are.


def beside(devices: set[str], problem: str = "") -> OtherSite:
    return OtherSite(Layout(Path("results"), "beside"), frozenset(devices), problem)


@pytest.mark.parametrize(
    ("own", "others", "drawn"),
    [
        (GPU_SITE, [], ["fig7a", "fig7d"]),
        (GPU_SITE, [{"cuda"}], ["fig7a", "fig7d"]),
        (GPU_SITE, [{"cpu"}], FIG7),
        (CPU_SITE, [], []),
        (CPU_SITE, [{"cpu"}], []),
        (CPU_SITE, [{"cpu"}, {"cuda"}], FIG7),
        (CPU_SITE, [set()], []),  # a site without large batches
    ],
)
def test_figures_are_there_when_the_devices_they_need_are(own: Made, others: list[set[str]], drawn: list[str]) -> None:
    sites = [beside(devices) for devices in others]
    assert [name for name in available(own[0], sites) if name in FIG7] == drawn
    reasons = not_measured(own[0], sites)
    for name in set(FIG7) - set(drawn):
        assert reasons[name] == (NO_CPUS if own is GPU_SITE else NO_GPUS)


def test_a_reason_names_the_site_that_cannot_be_used_and_its_file() -> None:
    reasons = not_measured(GPU_SITE[0], [beside(set(), "results/beside/plan.json: not JSON")])
    assert reasons["fig7b"] == f"{NO_CPUS}; site beside cannot be used: results/beside/plan.json: not JSON"


def test_a_campaign_without_large_batches_has_none_of_them() -> None:
    own = plan([entry(device="cuda")])
    assert not set(FIG7) & set(available(own, [beside({"cpu"})]))


# What they show.


def test_throughput_on_gpus_counts_ranks_and_leaves_cpus_out() -> None:
    ax = draw("fig7a", FOUR_EACH, CPU_SITE, GPU_SITE).axes[0]
    assert ax.get_xlabel() == "GPUs"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4", "8"]
    both = [value for site in (GPU_SITE, FOUR_EACH) for value in values(site, "throughput", "throughput_steady")]
    assert heights(ax) == pytest.approx(sorted(both))
    # the bars of the machine with four GPUs per node stand at 4 and 8
    places = {round(bar.get_x() + bar.get_width() / 2) for bar in ax.patches if bar.get_linestyle() != "-"}
    assert places == {2, 3}


def test_a_gpu_site_alone_says_that_there_is_no_cpu_site() -> None:
    for name in ("fig7a", "fig7d"):
        figure = draw(name, GPU_SITE)
        assert "GPUs only: no site with CPU runs" in words(figure)
        assert "CPU nodes" not in words(figure)
    for name in ("fig7b", "fig7c"):
        with pytest.raises(NothingToDrawError, match="no run on CPU nodes"):
            draw(name, GPU_SITE)


@pytest.mark.parametrize("sites", [(GPU_SITE, CPU_SITE), (CPU_SITE, GPU_SITE)])
def test_throughputs_have_a_panel_per_kind_and_filled_bars_for_gpus(sites: tuple[Made, Made]) -> None:
    figure = draw("fig7b", *sites)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["BNN", "CNN"]
    for ax, kind in zip(figure.axes, ("bnn", "cnn"), strict=True):
        gpu, cpu = (values(site, "throughput", "throughput_steady", kind=kind) for site in (GPU_SITE, CPU_SITE))
        bars = [bar for bar in ax.patches if bar.get_height() > 0]
        filled = sorted(bar.get_height() for bar in bars if to_hex(bar.get_facecolor()) != "#ffffff")
        assert filled == pytest.approx(gpu)
        assert heights(ax) == pytest.approx(sorted(gpu + cpu))
        assert {to_hex(bar.get_edgecolor()) for bar in bars} == {COLOURS[kind].lower()}
        assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4", "8", "16", "128"]
    assert "BNN on dgx GPUs (bnn-flipout, horovod)" in words(figure)
    assert "CNN on theta CPU nodes (cnn, horovod)" in words(figure)


def test_the_ratio_is_at_the_largest_number_that_both_have() -> None:
    gpu = values(GPU_SITE, "throughput", "throughput_steady", kind="bnn", nodes=8)[0]
    cpu = values(CPU_SITE, "throughput", "throughput_steady", kind="bnn", nodes=8)[0]
    text = words(draw("fig7b", GPU_SITE, CPU_SITE))
    assert f"dgx / theta BNN {gpu / cpu:.3g}, CNN" in text
    assert "(N = 8)" in text
    apart = large_batch_site("theta", "cpu", (16, 32), 100.0)
    assert "centre over centre" not in words(draw("fig7b", GPU_SITE, apart))


def test_training_times_are_those_of_the_tables_in_one_unit() -> None:
    left, right = draw("fig7c", GPU_SITE, CPU_SITE).axes
    for ax, column in ((left, "epoch_seconds"), (right, "total_seconds")):
        found = sorted(y for _, ys in curves(ax) for y in ys)
        expected = sorted(v / 60 for site in (GPU_SITE, CPU_SITE) for v in values(site, "throughput", column))
        assert found == pytest.approx(expected)
        assert "minutes" in ax.get_ylabel()
        assert len(curves(ax)) == 4
    assert "100,000 images" in left.get_ylabel()
    assert right.get_title(loc="left") == "measured: 12 epochs"


def test_training_times_of_another_training_set_or_length_are_left_out_and_named() -> None:
    short = large_batch_site("stopped", "cpu", (1, 2), 120.0, whole=False)
    other = large_batch_site("smaller", "cpu", (1, 2), 130.0, train_size=60_000)
    figure = draw("fig7c", GPU_SITE, CPU_SITE, short, other)
    assert [len(curves(ax)) for ax in figure.axes] == [6, 6]
    assert "Left out on the left: smaller, with another number of training images" in words(figure)
    assert "Left out on the right: stopped, whose runs are of another length" in words(figure)


def test_runs_that_stop_are_compared_with_runs_that_stop() -> None:
    sites = [large_batch_site(n, d, (1, 2), r, whole=False) for n, d, r in (("g", "cuda", 900.0), ("c", "cpu", 90.0))]
    assert draw("fig7c", *sites).axes[1].get_title(loc="left") == "measured: runs stopped after 24 steps"


def test_efficiencies_are_those_of_the_tables_at_gpus_and_nodes() -> None:
    figure = draw("fig7d", FOUR_EACH, CPU_SITE)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["from steady throughput", "from total time"]
    for ax, column in zip(figure.axes, ("efficiency_steady", "efficiency_total"), strict=True):
        found = sorted(y for _, ys in curves(ax) for y in ys)
        expected = [v for site in (FOUR_EACH, CPU_SITE) for v in values(site, "scaling", column)]
        assert found == pytest.approx(sorted(expected))
        assert list(ax.get_xticks()) == [1, 2, 4, 8, 16, 128]
    # one node of the GPU site is four GPUs
    assert "Baseline T1: polaris N = 4, theta N = 1" in words(figure)


def test_repeats_are_marked_by_verdict() -> None:
    for name in ("fig7a", "fig7b", "fig7c"):
        text = words(draw(name, GPU_SITE, CPU_SITE))
        assert "repeat with a warning" in text
        assert "invalid repeat, not counted" in text
    marks = [line for line in draw("fig7a", GPU_SITE).axes[0].lines if line.get_marker() == "x"]
    invalid = GPU_SITE[1]["cells"].query("verdict == 'INVALID'")["throughput_steady"]
    assert sorted(float(mark.get_ydata()[0]) for mark in marks) == pytest.approx(sorted(invalid))


def test_intervals_stand_for_repeats_where_there_are_enough() -> None:
    assert "thick line: 95% interval" in words(draw("fig7b", GPU_SITE, CPU_SITE))
    assert "thick line: 95% interval" not in words(draw("fig7a", GPU_SITE))


# What is never done.


def test_engines_never_share_a_series() -> None:
    mixed = large_batch_site("mixed", "cuda", (1, 2, 4, 8), 1000.0, engines={4: "torch", 8: "torch"})
    figure = draw("fig7d", mixed)
    left = figure.axes[0]
    assert [x for xs, _ in curves(left) for x in map(round, xs)] == [1, 2, 1, 2]
    assert "its baseline ran through another engine" in words(figure)
    figure = draw("fig7a", mixed)
    assert {"BNN on mixed GPUs (bnn-flipout, horovod)", "BNN on mixed GPUs (bnn-flipout, torch)"} <= {
        text.get_text() for text in figure.legends[0].get_texts()
    }
    ideals = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    assert all(len(line.get_xdata()) == 2 for line in ideals)  # from the fewest of each engine, none across


def test_only_runs_of_the_same_work_are_compared() -> None:
    with pytest.raises(NothingToDrawError) as refused:
        draw("fig7b", SMALL, GPU_SITE)
    assert str(refused.value) == (
        "GPUs and CPUs have no data set, network, width and batch size in common: "
        "local (CPU nodes) ran VGG-16 of width 0.25 on infinite-mnist at batch 64; "
        "dgx (GPUs) ran VGG-16 on infinite-mnist at batch 512"
    )
    figure = draw("fig7b", GPU_SITE, CPU_SITE, SMALL)
    assert "Not comparable and left out: local (CPU nodes) ran VGG-16 of width 0.25" in words(figure)
    assert "on local" not in words(figure)


def test_the_smallest_batch_that_both_have_is_shown() -> None:
    def also(site: Made, batch: int) -> Made:
        more = large_batch_site(site[0]["site"]["name"], site[0]["cells"][0]["settings"]["device"], (1,), 7.0,
                                batch_size=batch)  # fmt: skip
        joined = site[0] | {"cells": site[0]["cells"] + more[0]["cells"]}
        return joined, {name: pd.concat([site[1][name], more[1][name]]) for name in site[1]}

    figure = draw("fig7b", also(also(GPU_SITE, 64), 1024), also(CPU_SITE, 1024))
    assert "batch 512 per rank" in words(figure)


def test_of_too_many_sites_those_shown_are_said_and_both_devices_stay() -> None:
    many = [large_batch_site(f"gpu{i}", "cuda", (1, 2), 1000.0 + i) for i in range(4)]
    figure = draw("fig7b", many[3], CPU_SITE, *many[:3])
    text = words(figure)
    assert "Shown are 4 of 5 groups of runs; not shown: gpu2 GPUs, horovod." in text
    assert "on theta CPU nodes" in text
    assert "on gpu3 GPUs" in text
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [re.search(r"on (\w+)", label)[1] for label in labels if label.startswith("BNN")] == [
        "gpu0", "gpu1", "gpu3", "theta",
    ]  # fmt: skip


def test_rows_that_a_plan_does_not_have_are_counted_not_drawn() -> None:
    own = (GPU_SITE[0] | {"cells": [c for c in GPU_SITE[0]["cells"] if c["nodes"] != 8]}, GPU_SITE[1])
    figure = draw("fig7a", own)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "2", "4"]
    assert "Left out of dgx: 2 points of its tables that its plan.json does not have" in words(figure)


# From folders: the tables' own code, the scripts and the workflow.
