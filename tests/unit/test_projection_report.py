"""Projections in the report: tables of their own, the publication's numbers, the figure and the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from campaign.io.yamlfile import read_yaml
from campaign.names.layout import Layout
from campaign.results.claims.ledger import LEDGER, load_ledger
from campaign.results.figures.catalogue import available, not_measured
from campaign.results.figures.context import Context
from campaign.results.figures.draw import draw_figure
from campaign.results.figures.select import NothingToDrawError
from campaign.results.projection.cells import POWERS
from campaign.results.projection.fabrics import BUILT_IN, load_fabric
from campaign.results.projection.families import families
from campaign.results.projection.networks import OfFabric
from campaign.results.projection.site import project_site
from campaign.results.projection.step import Model
from campaign.results.report.projection import projected_claims, projection_section
from campaign.results.tables.build import build_tables
from campaign.results.tables.cells import LoadedCell
from campaign.results.tables.projection_schemas import LOSSES, PROJECTION_TABLES
from campaign.site.site import load_site
from tests.support.cells import entry, plan, write_cell
from tests.support.made import make_figures, make_report, make_tables

ASKED = {"here": "", "elsewhere": ["aries", "ethernet-1g"], "target_efficiency": 0.8}
CASES = [("vgg16", "bnn", "flipout-reference"), ("vgg16", "cnn", ""), ("resnet18", "bnn", "flipout")]


def laid_out(results: Path, projection: dict[str, Any] = ASKED, nodes: tuple[int, ...] = (1, 2)) -> Layout:
    """Cells of three families, one of them no implementation of the publication's, and one that serves no curve."""
    cells = []
    for model, kind, estimator in CASES:
        given = {"estimator": estimator} if estimator else {"baseline": "cnn-plain"}
        variant = "reference" if estimator != "flipout" else "base"
        cells += [
            entry(model=model, kind=kind, nodes=count, batch_size=32, variant=variant, max_steps=60, repeat=repeat,
                  **given)
            for count in nodes for repeat in (1, 2)
        ]  # fmt: skip
    cells.append(entry(model="fc", dataset="mnist", roles=("pruning",), max_steps=60))
    for seed, cell in enumerate(cells):
        write_cell(results, cell, seconds=1.0, seed=seed, profiled=False)
    layout = Layout(results, "toy")
    layout.plan.parent.mkdir(parents=True, exist_ok=True)
    layout.plan.write_text(json.dumps(plan(cells) | {"projection": projection}))
    return layout


def read(layout: Layout) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(layout.plan.read_text())
    return content


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return laid_out(tmp_path_factory.mktemp("r"))


@pytest.fixture(scope="module")
def tables(layout: Layout) -> dict[str, pd.DataFrame]:
    return project_site(read(layout), layout.results, load_ledger(LEDGER))


def test_a_site_may_name_every_network_that_is_known() -> None:
    schema = read_yaml(Path(load_fabric.__code__.co_filename).parents[3] / "schemas" / "site.schema.yaml")
    assert schema["$defs"]["fabric"]["enum"] == list(read_yaml(BUILT_IN)["fabrics"])


def test_profiles_name_networks() -> None:
    profiles = Path(__file__).parents[2] / "profiles"
    local, theta = (load_site(profiles / name).projection for name in ("local", "theta"))
    assert local is not None
    assert not local.here  # one machine is no network
    assert theta is not None
    assert theta.here == "aries"


def test_every_family_is_projected_onto_every_network(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["efficiency_projection"]
    assert len(rows) == len(CASES) * len(ASKED["elsewhere"]) * len(POWERS)
    assert "fc" not in set(rows["model"])
    assert rows["source"].str.startswith("projected: ").all()
    assert rows["efficiency"].between(0, 1.001).all()
    assert rows[["low", "high"]].isna().all(axis=None), "the cells ran on none of these networks"
    limits = tables["projection_limits"]
    asked = limits[limits["change"] == ""]
    assert len(asked) == len(CASES) * len(ASKED["elsewhere"])
    slow, fast = (asked[asked["source"].str.contains(name)]["nodes"].to_numpy(int) for name in ("1g", "aries"))
    assert (slow < fast).all()


def test_a_limit_is_where_the_efficiency_falls_below_the_target(
    layout: Layout, tables: dict[str, pd.DataFrame]
) -> None:
    found, _ = families(LoadedCell(cell, layout.results) for cell in read(layout)["cells"] if cell["model"] != "fc")
    network = OfFabric(load_fabric("ethernet-1g"))
    limits = tables["projection_limits"]
    for family in found:
        model = Model.of(family, network)
        base = model.step(1).parts.total
        mine = limits[
            (limits["source"] == network.source) & (limits["change"] == "") & (limits["model"] == family.key.model)
            & (limits["kind"] == family.key.kind)
        ].iloc[0]  # fmt: skip
        assert not mine["at_least"]
        assert base / model.step(int(mine["nodes"])).parts.total >= 0.8
        assert base / model.step(int(mine["nodes"]) + 1).parts.total < 0.8
        assert mine["limit"] in LOSSES


def test_printed_numbers_stand_beside_what_cells_come_to(layout: Layout, tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["projection_claims"].set_index("id")
    assert len(rows) == 6  # four times and two efficiencies on 128 nodes
    found, _ = families(LoadedCell(cell, layout.results) for cell in read(layout)["cells"])
    family = next(each for each in found if (each.key.model, each.key.kind) == ("vgg16", "bnn"))
    model = Model.of(family, OfFabric(load_fabric("aries"))).of_batch(256 / 32)
    step, base = model.step(128), model.step(1)
    time, efficiency = rows.loc["time-64-epochs-vgg16-bnn"], rows.loc["efficiency-128-vgg16-bnn"]
    assert time["projected"] == pytest.approx(64 * 50_000 / (128 * 256) * step.parts.total / 60)
    assert time["error"] == pytest.approx(time["projected"] / 3.37 - 1)
    assert efficiency["projected"] == pytest.approx(100 * base.parts.total / step.parts.total)
    assert efficiency["range_low"] <= efficiency["projected"] <= efficiency["range_high"]
    assert time["range_low"] <= time["projected"] <= time["range_high"]
    assert "another processor" in time["assumed"]
    assert "from batch 32" in time["assumed"]
    other = rows.loc["time-64-epochs-resnet18-bnn"]  # ours, not the publication's
    assert math.isnan(other["projected"])
    assert "implementation like its own" in other["reason"]


def test_narrower_networks_say_nothing_of_the_publications(tmp_path: Path) -> None:
    cell = entry(kind="cnn", baseline="cnn-plain", variant="reference", max_steps=60, width=0.5)
    write_cell(tmp_path, cell, profiled=False)
    made = project_site(plan([cell]) | {"projection": ASKED}, tmp_path, load_ledger(LEDGER))
    assert len(made["efficiency_projection"])
    assert made["projection_claims"]["projected"].isna().all()


def test_nothing_is_projected_unasked(tmp_path: Path) -> None:
    layout = laid_out(tmp_path, projection={})
    assert all(table.empty for table in project_site(read(layout), layout.results, load_ledger(LEDGER)).values())
    assert "projection" not in available(read(layout))
    assert "site.yaml" in not_measured(read(layout))["projection"]


def test_a_network_here_is_judged_by_the_scales_on_it(tmp_path: Path) -> None:
    layout = laid_out(tmp_path, projection=ASKED | {"here": "aries", "elsewhere": []}, nodes=(1, 2, 4))
    rows = project_site(read(layout), layout.results, load_ledger(LEDGER))["efficiency_projection"]
    beyond = rows[rows["nodes"] > 4]
    assert beyond[["low", "high"]].notna().all(axis=None)
    assert np.allclose(beyond["efficiency"], Projected.base(rows) / beyond["step_seconds"])


class Projected:
    """What rows of a projection are against."""

    @staticmethod
    def base(rows: pd.DataFrame) -> Any:
        one = rows[rows["nodes"] == 1].set_index(["model", "kind"])["model_seconds"]
        beyond = rows[rows["nodes"] > 4]
        return [one[key] for key in zip(beyond["model"], beyond["kind"], strict=True)]


def test_no_measured_table_holds_anything_of_it(layout: Layout) -> None:
    asked = read(layout)
    with_it, without = (build_tables(each, layout.results) for each in (asked, asked | {"projection": {}}))
    assert set(with_it).isdisjoint(PROJECTION_TABLES)
    for name, table in with_it.items():
        pd.testing.assert_frame_equal(table, without[name])


def test_the_figure_has_a_curve_per_family_and_network(layout: Layout, tables: dict[str, pd.DataFrame]) -> None:
    figure = draw_figure("projection", tables, Context.from_plan(read(layout)))
    drawn = [ax for ax in figure.axes if ax.lines]
    titles = [ax.get_title(loc="left") for ax in drawn]
    assert len(drawn) == 4  # two points (model and variant), two networks
    assert all("aries" in title or "ethernet-1g" in title for title in titles)
    curves = [line for ax in drawn for line in ax.lines if len(line.get_xdata()) > 2]
    assert len(curves) == len(CASES) * len(ASKED["elsewhere"])
    assert all(ax.get_xlabel().endswith(", projected") for ax in drawn)
    empty = {name: table.iloc[:0] for name, table in tables.items()}
    with pytest.raises(NothingToDrawError, match="no efficiency could be projected"):
        draw_figure("projection", empty, Context.from_plan(read(layout)))


def test_the_page_says_up_to_where_and_what_is_lost(layout: Layout, tables: dict[str, pd.DataFrame]) -> None:
    section = projection_section(tables, lambda table: table)
    assert section is not None
    assert [network["name"] for network in section["networks"]] == ASKED["elsewhere"]
    (first, *_) = section["networks"][1]["sentences"]
    assert "vgg16" in first
    assert "efficiency 0.8 up to" in first
    assert "links of twice the bandwidth: " in first
    (far, *_) = section["networks"][0]["sentences"]
    assert far.endswith(f"up to at least 16,384 nodes; most is lost there by {LOSSES['straggler']}.")
    assert len(section["table"]["rows"]) == len(tables["efficiency_projection"])
    assert not any("data-verdict" in row["attributes"] for row in section["table"]["rows"])
    claims = projected_claims(tables)
    assert claims is not None
    texts = [cell["text"] for row in claims["rows"] for cell in row["cells"]]
    assert "3.37 minutes" in texts
    assert projection_section({}, lambda table: table) is None


def test_the_report_has_both(layout: Layout) -> None:
    make_tables(layout)
    make_figures(layout)
    make_report(layout)
    page = layout.report.read_text()
    assert "Projected, not measured" in page
    assert "Printed at scales that were not run here" in page
    assert 'id="projection"' in page
    assert layout.figure("projection", "png").stat().st_size > 10_000
