"""Figures: what is drawn, what it says, and when it is refused."""

import inspect
import re
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from bnn.errors import UserError
from campaign.results.figures.catalogue import FIGURES, available, not_measured
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure, drawing
from campaign.results.figures.select import data_note
from campaign.results.figures.style import COLOURS, save
from campaign.results.tables.build import frame
from campaign.results.tables.projection_schemas import EFFICIENCY_PROJECTION
from tests.support.cells import built_campaign, entry, plan

# Those of inference and pruning are tested in test_figures_inference.py, of methods in test_methods_shown.py, of
# several sites in test_figures_gpu.py, of projections in test_projection_report.py: this campaign has none of these.
OF_CELLS = [
    name
    for name, spec in FIGURES.items()
    if not (spec.inferred or spec.sweeps or spec.compared or spec.tuned or spec.projected or spec.devices)
]


def tables():
    return built_campaign()[1] | {EFFICIENCY_PROJECTION.name: frame([], EFFICIENCY_PROJECTION)}


def context():
    return Context.from_plan(built_campaign()[0])


def bars(ax):
    """Drawn bars of an axes: rectangles with a width and a height."""
    found = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    return [patch for patch in found if patch.get_height() > 0]


def words(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def with_verdict(verdict, counted):
    """The tables as they are when every cell has this verdict."""
    blank = {
        "throughput": ["throughput_steady", "epoch_seconds"],
        "scaling": ["efficiency_steady", "efficiency_total"],
        "efficiencies": ["parallel"],
        "losses": ["seconds"],
    }
    changed = dict(tables())
    changed["cells"] = tables()["cells"].assign(verdict=verdict, counted=counted)
    for name, columns in blank.items():
        changed[name] = tables()[name].assign(verdict=verdict, **dict.fromkeys(columns, float("nan")))
    changed["mpi_ranks"] = tables()["mpi_ranks"].assign(verdict=verdict, counted=counted)
    changed["accuracy"] = tables()["accuracy"].iloc[:0]
    changed["bench"] = tables()["bench"].assign(step_seconds=float("nan"))
    return changed


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("campaign.results.figures.catalogue", {"matplotlib", "pandas", "torch"}),
        ("campaign.results.steps.report", {"scipy", "seaborn", "torch"}),
    ],
)
def test_what_draws_nothing_loads_nothing_heavy(module, heavy):
    code = f"import sys, {module}; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ".:workflow"}
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_every_figure_is_drawn_or_has_a_reason():
    drawn, absent = available(built_campaign()[0]), not_measured(built_campaign()[0])
    assert set(drawn) == set(OF_CELLS)
    for spec in FIGURES.values():
        inspect.signature(drawing(spec)).bind({}, context())
    assert set(drawn) | set(absent) == set(FIGURES)
    assert not set(drawn) & set(absent)
    assert all(absent.values())


def test_a_plan_without_a_role_or_a_second_batch_has_fewer_figures():
    few = plan([entry(model="vgg16"), entry(roles=("large-batch",), dataset="infinite-mnist")])
    assert available(few) == [
        "fig1", "fig2a", "fig2c", "fig2d", "fig3a", "efficiencies", "losses", "fig6a", "fig6c", "fig6d",
    ]  # fmt: skip
    assert "resnet18" in not_measured(few)["fig2b"]


@pytest.mark.parametrize("name", OF_CELLS)
def test_every_figure_has_labels_with_units_and_no_empty_axes(name):
    figure = draw_figure(name, tables(), context())
    for ax in figure.axes:
        assert ax.has_data() or ax.patches
        if name not in ("fig1", "fig2d", "peer_comparison"):
            assert context().node_label in ax.get_xlabel()
    labels = " ".join(ax.get_ylabel() for ax in figure.axes)
    units = {"fig2a": "samples/s", "fig2b": "samples/s", "fig6a": "samples/s", "fig6b": "samples/s", "fig3c": "(s)"}
    assert units.get(name, "") in labels
    if name in ("fig2c", "fig6c"):
        assert "minutes" in labels
        assert "images" in labels


@pytest.mark.parametrize(
    ("name", "data"), [("fig2a", "synthetic"), ("fig3c", "rho starts at -4"), ("fig6c", "width 0.25")]
)
def test_figures_name_their_data(name, data):
    assert any(data in text for text in words(draw_figure(name, tables(), context())))


def test_a_note_names_the_data_of_cells_that_ran_and_counts_the_others():
    cells = tables()["cells"]
    ran = cells[cells["verdict"] != "MISSING"].iloc[:1].assign(dataset="mnist-sample", variant="base", width=1.0)
    planned = ran.assign(verdict="MISSING", counted=False, dataset="infinite-mnist", variant="narrow", width=0.25)
    note = data_note(pd.concat([ran, planned]))
    assert "Data: mnist-sample." in note
    assert "narrow" not in note
    assert "1 planned repeat has no record." in note
    assert "Data: infinite-mnist. Variant narrow:" in data_note(planned), "where none ran, of what was to run"


def test_throughput_has_a_bar_per_series_and_node_count():
    figure = draw_figure("fig2a", tables(), context())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["batch 16 per rank", "batch 32 per rank"]
    assert [len(bars(ax)) for ax in figure.axes] == [8, 4]
    points = tables()["throughput"].query("model == 'vgg16' and batch_size == 32 and dataset == 'synthetic'")
    heights = sorted(bar.get_height() for bar in bars(figure.axes[1]))
    assert heights == pytest.approx(sorted(points["throughput_steady"]))


def test_a_bnn_is_filled_and_a_cnn_is_not():
    ax = draw_figure("fig6a", tables(), context()).axes[0]
    faces = {to_hex(bar.get_edgecolor()): to_hex(bar.get_facecolor()) for bar in bars(ax)}
    assert faces == {COLOURS["bnn"].lower(): COLOURS["bnn"].lower(), COLOURS["cnn"].lower(): "#ffffff"}


def test_ideal_is_the_fewest_nodes_times_n():
    points = tables()["throughput"].query("roles == 'large-batch' and batch_size == 64 and kind == 'bnn'")
    one = points.set_index("nodes")["throughput_steady"][1]
    drawn = [line.get_ydata() for line in draw_figure("fig6a", tables(), context()).axes[0].lines]
    assert any(len(y) == 2 and list(y) == pytest.approx([one, 2 * one]) for y in drawn)


def test_verdicts_are_marked_and_explained():
    assert "invalid repeat, not counted" in words(draw_figure("fig2a", tables(), context()))
    assert "repeat with a warning" in words(draw_figure("fig2b", tables(), context()))


def test_measured_and_computed_times_are_never_in_one_panel():
    left, right = draw_figure("fig2c", tables(), context()).axes
    assert "from steady throughput" in left.get_title(loc="left")
    assert "stopped after 12 steps" in right.get_title(loc="left")


def test_training_time_shows_both_models_at_a_batch_size_that_both_have():
    figure = draw_figure("fig2c", tables(), context())
    shown = words(figure)
    assert any(text.startswith("VGG-16 BNN") for text in shown)
    assert any(text.startswith("ResNet-18 CNN") for text in shown)
    assert any("batch 16 per rank" in text for text in shown)


def test_efficiency_refused_from_total_time_says_why():
    figure = draw_figure("fig3a", tables(), context())
    assert len(figure.axes) == 2
    assert any("stop after 12 steps" in text for text in words(figure))


def test_both_definitions_of_efficiency_where_they_can_be_measured():
    changed = dict(tables())
    changed["scaling"] = tables()["scaling"].assign(roles="scaling,accuracy")
    changed["cells"] = tables()["cells"].assign(roles="scaling,accuracy")
    titles = [ax.get_title(loc="left") for ax in draw_figure("fig3a", changed, context()).axes]
    assert any("from total time" in title for title in titles)


def test_not_reached_is_marked():
    assert "not reached by then" in words(draw_figure("fig3c", tables(), context()))
    reached = tables()["accuracy"].query("kind == 'cnn'")
    assert "not reached by then" not in words(draw_figure("fig3c", {**tables(), "accuracy": reached}, context()))


def test_times_to_accuracy_of_several_data_sets_batches_and_variants_are_never_one_curve():
    changed, ours = dict(tables()), {}
    trained = (("mnist-sample", 8, "narrow"), ("photographs", 8, "base"), ("photographs", 64, "other"))
    for dataset, batch, variant in trained:
        named = {"dataset": dataset, "batch_size": batch, "variant": variant}
        for name in ("accuracy", "cells"):
            ours.setdefault(name, []).append(tables()[name].query("roles.str.contains('accuracy')").assign(**named))
    changed |= {name: pd.concat(parts, ignore_index=True) for name, parts in ours.items()}
    changed["accuracy"]["seconds"] = range(1, len(changed["accuracy"]) + 1)
    changed["accuracy"]["reached"] = True
    figure = draw_figure("fig3c", changed, context())
    rows = changed["accuracy"].groupby(["model", "dataset", "batch_size"])
    for (what, mine), ax in zip(rows, figure.axes[::2], strict=True):
        assert all(str(word) in ax.get_ylabel() for word in what[1:])
        drawn = {y for line in ax.lines if line.get_marker() != "None" for y in line.get_ydata()}
        assert {*mine.query("definition == 'running'")["seconds"]} <= drawn
        assert max(drawn) <= mine["seconds"].max()
    handles = [(h.get_color(), h.get_marker(), str(h.get_linestyle())) for h in figure.legends[0].legend_handles]
    assert len(set(handles)) == len(handles)


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "fig1"])
def test_figures_without_a_valid_value_are_refused(name):
    with pytest.raises(UserError):
        draw_figure(name, with_verdict("INVALID", False), context())


def test_figures_without_rows_are_refused():
    empty = {name: table.iloc[:0] for name, table in tables().items()}
    for name in FIGURES:
        if name != "fig1":
            with pytest.raises(UserError):
                draw_figure(name, empty, context())


def test_many_nodes_and_many_repeats():
    grid = [1, 2, 4, 8, 16, 32, 64, 128]
    one = tables()["throughput"].query("roles == 'scaling' and nodes == 1")
    grown = [one.assign(nodes=n, ranks=n, throughput_steady=one["throughput_steady"] * n**0.9, repeats=6) for n in grid]
    cells = tables()["cells"].query("roles == 'scaling' and nodes == 1")
    grid_tables = {"throughput": pd.concat(grown), "cells": pd.concat(cells.assign(nodes=n, ranks=n) for n in grid)}
    figure = draw_figure("fig2a", grid_tables, context())
    assert [len(bars(ax)) for ax in figure.axes] == [32, 16]
    assert "one repeat" not in words(figure)
    assert any("95% interval over repeats" in text for text in words(figure))


def test_the_same_data_give_the_same_bytes_and_text_stays_text(tmp_path):
    odd = replace(context(), site="<b>$x$ & co</b>")
    written = []
    for folder in ("a", "b"):
        save(draw_figure("fig6a", tables(), odd), tmp_path / folder / "x.svg", tmp_path / folder / "x.png")
        written.append([(tmp_path / folder / name).read_bytes() for name in ("x.svg", "x.png")])
    assert written[0] == written[1]
    svg = written[0][0].decode()
    assert "&lt;b&gt;$x$ &amp; co" in svg
    assert not re.search(r"<dc:date>", svg)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["x.png", "x.svg"]


def row_words(figure):
    """The texts of a table-figure's lines, left to right."""
    rows = {}
    for text in figure.axes[0].texts:
        rows.setdefault(text.get_position()[1], []).append((text.get_position()[0], text.get_text()))
    return [[word for _, word in sorted(found)] for _, found in sorted(rows.items())]


def test_mpi_routines_are_listed_by_what_they_carry_rank_0_beside_the_mean():
    rows = row_words(draw_figure("fig2d", tables(), context()))
    titles = [row[0] for row in rows if len(row) == 2 and row[1].startswith("N = 2, 2 ranks")]
    assert titles == [
        "VGG-16 BNN (bnn-flipout)",
        "VGG-16 CNN (cnn)",
        "ResNet-18 BNN (bnn-flipout)",
        "ResNet-18 CNN (cnn)",
    ]
    lines = [row for row in rows if row[0].startswith("MPI_")]
    assert len(lines) == 4 * 4
    assert [row[:2] for row in lines[:4]] == [
        ["MPI_Allreduce", "data"], ["MPI_Allgatherv", "data"], ["MPI_Allreduce", "control"], ["MPI_Comm_rank", "local"],
    ]  # fmt: skip
    # 12 steps, each with all of VGG-16's 18,823,178 gradients in one message of 4-byte floats
    assert lines[0][2:] == ["12", "75,292,712.0", "0.012", "12", "75,292,712.0", "0.012"]
    sums = [row[0] for row in rows if row[0].startswith("rank 0: in MPI")]
    assert len(sums) == 4
    assert all("communication efficiency" in text for text in sums)


def test_mpi_routines_need_a_profiler_horovod_and_a_profile():
    made = built_campaign()[0]
    off = made | {"site": made["site"] | {"profiler": {"kind": "none"}}}
    assert "site.profiler" in not_measured(off)["fig2d"]
    assert "engine is not horovod" in not_measured(plan([entry(engine="torch")]))["fig2d"]
    bare = dict(tables())
    bare["mpi"], bare["mpi_ranks"] = tables()["mpi"].iloc[:0], tables()["mpi_ranks"].iloc[:0]
    bare["cells"] = tables()["cells"].assign(mpi="not recorded: the interposer is not built")
    with pytest.raises(UserError, match="no cell has an MPI profile: not recorded: the interposer is not built"):
        draw_figure("fig2d", bare, context())
