"""From a campaign file to cells, and one clear line for every slip."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.data.pipeline import Schedule
from bnn.errors import UserError
from campaign.io.schema import merge
from campaign.io.yamlfile import read_yaml
from campaign.names.cell import Cell
from campaign.plan.campaign import load_campaign
from campaign.site.machine import Machine
from campaign.site.site import load_site
from tests.support.campaigns import CAMPAIGN, SITE, campaign, changed, site

ROOT = Path(__file__).parents[2]


def test_repeats_are_interleaved_and_twins_are_neighbours():
    cells = [planned.cell for planned in campaign().cells]
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * 2
    assert [cell.repeat for cell in cells] == [1] * 8 + [2] * 8
    for first, second in zip(cells[::2], cells[1::2], strict=True):
        assert (first.kind, second.kind) == ("bnn", "cnn")
        assert first.folder.as_posix().replace("/bnn/", "/cnn/") == second.folder.as_posix()


def test_a_cell_is_told_its_point_its_seed_and_its_labels():
    planned = next(p for p in campaign().cells if (p.cell.repeat, p.cell.variant, p.cell.nodes) == (2, "slow", 2))
    settings = planned.settings
    assert (settings.batch_size, settings.seed, settings.epochs, settings.threads) == (8, 8, 2, 1)
    assert settings.estimator == "flipout-reference"
    assert settings.labels["nodes"] == "2"
    assert settings.labels["launch"] == planned.launch
    assert (planned.ranks, planned.roles, planned.study) == (2, ("scaling",), "speed")


def test_settings_go_from_campaign_over_study_to_variant():
    values = changed(CAMPAIGN, "studies/speed/settings", {"epochs": 3, "beta": 0.5})
    values = changed(values, "variants/slow/settings", {"epochs": 4})
    found = {(p.cell.variant, p.settings.epochs, p.settings.beta) for p in campaign(values).cells}
    assert found == {("base", 3, 0.5), ("slow", 4, 0.5)}


def test_ranks_per_node_of_a_variant_change_ranks_and_launch():
    values = changed(CAMPAIGN, "variants/slow/ranks_per_node", 2)
    cells = {(p.cell.variant, p.cell.nodes): p for p in campaign(values).cells if p.cell.kind == "bnn"}
    assert cells["slow", 2].ranks == 4
    assert cells["slow", 1].launch != cells["base", 2].launch


def test_exclusions_leave_out_what_matches_all_their_keys():
    values = changed(CAMPAIGN, "studies/speed/exclude", [{"variants": ["slow"], "nodes": [2]}])
    assert {(p.cell.variant, p.cell.nodes) for p in campaign(values).cells} == {("base", 1), ("base", 2), ("slow", 1)}


def test_studies_share_a_cell_with_the_same_settings_and_join_their_roles():
    study = CAMPAIGN["studies"]["speed"] | {"roles": ["accuracy"], "variants": ["base"], "repeats": 1}
    cells = campaign(changed(CAMPAIGN, "studies/more", study)).cells
    assert len(cells) == 16
    shared = [p for p in cells if p.studies == ("speed", "more")]
    assert len(shared) == 4
    assert {p.roles for p in shared} == {("scaling", "accuracy")}


def test_studies_that_disagree_on_a_cell_are_both_named():
    study = CAMPAIGN["studies"]["speed"] | {"settings": {"epochs": 9}}
    with pytest.raises(UserError, match=r"studies speed and more ask for the same cell .*epochs: 2 and 9"):
        campaign(changed(CAMPAIGN, "studies/more", study))


SLIPS = [
    ("stuides", {}, r"config.yaml: stuides: unknown key, did you mean studies\?"),
    ("name", "a b", r"config.yaml: name: 'a b' is not a name"),
    ("name", None, r"config.yaml: name: missing"),
    ("seed", "one", r"config.yaml: seed: expected integer, not 'one'"),
    ("seed", -1, r"config.yaml: seed: -1 must be at least 0"),
    ("nodes", [1, 0], r"config.yaml: nodes\[1\]: 0 must be at least 1"),
    ("nodes", [1, 2, 1], r"config.yaml: nodes: 1 is listed twice"),
    ("nodes", None, r"config.yaml: studies.speed.nodes: missing"),
    ("accuracy_targets", [1.2], r"config.yaml: accuracy_targets\[0\]: 1.2 must be at most 1"),
    ("studies", {}, r"config.yaml: studies: must not be empty"),
    ("settings", {"epoch": 3}, r"config.yaml: settings.epoch: unknown setting, did you mean epochs\?"),
    ("settings", {"epochs": 0}, r"config.yaml: settings.epochs: .*greater than 0"),
    ("settings", {"epochs": True}, r"config.yaml: settings.epochs: True is not a value of this setting"),
    ("settings", {"batch_size": 3}, r"config.yaml: settings.batch_size: not set here but by a study's batch_sizes"),
    ("settings", {"labels": {}}, r"config.yaml: settings.labels: not set here"),
    ("variants/slow/settings/estimator", "fliput", r"config.yaml: variants.slow.settings.estimator: .*'flipout'"),
    ("variants/slow/ranks_per_node", 0, r"config.yaml: variants.slow.ranks_per_node: 0 must be at least 1"),
    ("variants/slow/colour", "red", r"config.yaml: variants.slow.colour: unknown key"),
    ("studies/speed/model", ["fc"], r"config.yaml: studies.speed.model: unknown key, did you mean models\?"),
    ("studies/speed/models", [], r"config.yaml: studies.speed.models: must not be empty"),
    ("studies/speed/models", ["vgg61"], r"studies.speed.models\[0\]: unknown model 'vgg61', did you mean vgg16\?"),
    ("studies/speed/models", ["a.b:c d"], r"studies.speed.models\[0\]: unknown model"),
    ("studies/speed/dataset", "cifar", r"studies.speed.dataset: unknown data set 'cifar', did you mean cifar10\?"),
    ("studies/speed/dataset_options", {"size": "big"}, r"studies.speed.dataset_options: synthetic: option size='big'"),
    ("studies/speed/dataset_options", {"sized": 3}, r"speed.dataset_options: synthetic: unknown option 'sized'"),
    ("studies/speed/kinds", ["gan"], r"studies.speed.kinds\[0\]: 'gan' is none of bnn, cnn"),
    ("studies/speed/roles", ["fast"], r"studies.speed.roles\[0\]: 'fast' is none of scaling, accuracy, large-batch"),
    ("studies/speed/roles", None, r"studies.speed.roles: missing"),
    ("studies/speed/repeats", 1.5, r"studies.speed.repeats: expected integer, not 1.5"),
    ("studies/speed/variants", ["base", "slwo"], r"variants\[1\]: unknown variant 'slwo', did you mean slow\?"),
    ("studies/speed/exclude", [{"nodes": [4]}], r"studies.speed.exclude\[0\].nodes: 4 is not in the study's nodes"),
    ("studies/speed/exclude", [{"node": [1]}], r"studies.speed.exclude\[0\].node: unknown key, did you mean nodes\?"),
    ("studies/speed/exclude", [{"nodes": [1, 2]}], r"config.yaml: studies: no cells are left"),
    ("studies/speed/batch_sizes", [8, 100], r"batch_sizes\[1\]: batch 100 on 2 ranks \(2 nodes\) takes 200 images"),
    ("studies/speed/settings", {"engine": "single"}, r"studies.speed.nodes: engine single runs one rank"),
    ("studies/speed/settings", [1], r"config.yaml: studies.speed.settings: expected object"),
    ("studies/a b", {}, r"config.yaml: studies.a b: not a name"),
]


@pytest.mark.parametrize(("path", "value", "message"), SLIPS, ids=[f"{p}={v}" for p, v, _ in SLIPS])
def test_a_slip_is_one_line_with_file_and_key(path, value, message):
    with pytest.raises(UserError, match=message) as error:
        campaign(changed(CAMPAIGN, path, value))
    assert "\n" not in str(error.value)


def test_a_site_cuts_the_campaign_that_it_names_and_no_other():
    grid = {"nodes": [1], "studies": {"speed": {"repeats": 1, "variants": ["base"]}}}
    cut = site(changed(SITE, "site/grid", {"tiny": grid}))
    assert len(campaign(at=cut).cells) == 2
    assert len(campaign(CAMPAIGN | {"name": "other"}, at=cut).cells) == 16


def test_a_slip_in_a_sites_grid_names_the_site_file():
    def at(grid):
        return site(changed(SITE, "site/grid", {"tiny": grid}))

    with pytest.raises(UserError, match=r"^site.yaml: site.grid.tiny: seed: expected integer"):
        campaign(at=at({"seed": "x"}))
    with pytest.raises(UserError, match=r"^site.yaml: site.grid.tiny.studies.sped: nothing to remove, did you mean sp"):
        campaign(at=at({"studies": {"sped": None}}))
    with pytest.raises(UserError, match=r"^site.yaml: site.grid.tiny.settings.epoch: unknown setting"):
        campaign(at=at({"settings": {"epoch": 1}}))
    with pytest.raises(UserError, match=r"^site.yaml: site.grid.tiny.studies.speed.batch_sizes\[0\]: batch 999"):
        campaign(at=at({"studies": {"speed": {"batch_sizes": [999]}}}))


def test_merging_merges_mappings_replaces_lists_and_removes_by_null():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3], "e": {"f": 5}}, "d": None}, "x") == {"a": {"b": 1, "c": [3], "e": {"f": 5}}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_yaml_refuses_repeated_keys_and_reads_exponents(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("a: 1e-4\nb: 2\n")
    assert read_yaml(file) == {"a": 1e-4, "b": 2}
    for text, message in [("a: 1\na: 2\n", r"line 2: key 'a' is given twice"), ("a: [", "line 1"), ("- 1", "expected")]:
        file.write_text(text)
        with pytest.raises(UserError, match=message) as error:
            read_yaml(file)
        assert str(error.value).startswith(str(file))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("settings", "nodes", "words"),
    [
        ({"threads": 9}, [1], r"studies.speed.nodes: 1 ranks x 9 threads need 9 hardware threads on a node, toy has 8"),
        ({}, [1, 64], r"studies.speed.nodes: 64 ranks x 1 threads need 64 hardware threads on a node, toy has 8"),
        ({"device": "cuda"}, [1], r"studies.speed: device cuda, but toy has no GPUs"),
    ],
)
def test_a_point_without_room_on_the_site_is_refused(settings, nodes, words):
    content = changed(CAMPAIGN, "studies/speed/settings", settings)
    with pytest.raises(UserError, match=words):
        campaign(changed(content, "studies/speed/nodes", nodes))


def test_the_papers_campaign_and_its_local_cut(monkeypatch):
    config = ROOT / "config.yaml"
    paper = load_campaign(config, site(changed(SITE, "site/hardware/cores_per_node", 128)))
    assert {p.cell.nodes for p in paper.cells} == {1, 2, 4, 8, 16, 32, 64, 128}
    assert {(p.cell.dataset, p.cell.model, p.cell.batch_size, p.settings.epochs) for p in paper.cells} == {
        ("cifar10", "vgg16", 128, 64), ("cifar10", "vgg16", 256, 64),
        ("cifar10", "resnet18", 128, 64), ("cifar10", "resnet18", 256, 64),
        ("infinite-mnist", "vgg16", 512, 12), ("infinite-mnist", "vgg16", 1024, 12),
        ("mnist", "conv", 100, 23), ("mnist", "fc", 100, 23),
    }  # fmt: skip
    assert {(j.cell.nodes, j.cell.batch_size, j.section.draws) for j in paper.after if j.command == "infer"} == {
        (1, 128, 1000), (16, 128, 1000),
    }  # fmt: skip
    sweeps = {(job.cell.model, job.word) for job in paper.after if job.command == "prune"}
    assert len(sweeps) == 8
    assert ("conv", "bprune-global-weight") in sweeps
    assert ("fc", "zero-global-unit") in sweeps
    assert {p.settings.implementation for p in paper.cells} == {
        "bnn-flipout",
        "bnn-flipout-reference",
        "cnn",
        "cnn-plain",
    }
    assert {(p.settings.cycle_time_ms, p.settings.fusion_buffer_mb) for p in paper.cells} == {(5.0, 64.0)}
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: Machine("any", 2, 1, 1, 24.0))
    local = load_campaign(config, load_site(ROOT / "profiles/local"))
    assert {p.cell.nodes for p in local.cells} == {1, 2}
    assert {p.cell.dataset for p in local.cells if not p.target} == {"synthetic", "mnist-sample", "infinite-mnist"}
    assert {role for p in local.cells for role in p.roles} == {"scaling", "accuracy", "large-batch", "pruning"}
    assert {p.target for p in local.cells} == {"", "pruning_full", "methods", "time_to_accuracy", "tuning"}
    (full,) = [p for p in local.cells if p.target == "pruning_full"]  # needs a network and hours
    assert (full.cell.model, full.cell.dataset, full.settings.width, full.target) == (
        "conv",
        "mnist",
        1.0,
        "pruning_full",
    )
    assert {job.target for job in local.after if job.cell == full.cell} == {"pruning_full"}


def test_every_cells_order_of_settings_is_stable():
    first, second = campaign(), campaign()
    assert [p.fingerprint for p in first.cells] == [p.fingerprint for p in second.cells]
    assert all(a.cell != b.cell for a, b in pairwise(first.cells))


@given(
    batch=st.integers(1, 40),
    nodes=st.integers(1, 6),
    epochs=st.integers(1, 3),
    how=st.sampled_from(["disjoint", "unsharded"]),
)
def test_a_point_is_refused_exactly_when_training_would_have_no_step(batch, nodes, epochs, how):
    values = changed(CAMPAIGN, "studies/speed/batch_sizes", [batch])
    values = changed(values, "nodes", [nodes]) | {"settings": {"epochs": epochs, "sharding": how}}

    def outcome(action):
        try:
            action()
        except UserError as error:
            return bool(re.search("no step|images a step", str(error)))
        return False

    refused = outcome(lambda: campaign(values))
    assert refused == outcome(lambda: Schedule(64, batch, nodes, epochs, seed=0, sharding=how))


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(
    lambda t: t not in (".", "..")
)


@given(words, words, st.sampled_from(["bnn", "cnn"]), st.integers(1), st.integers(1), words, st.integers(1))
def test_a_cell_is_parsed_back_from_its_folder(dataset, model, kind, nodes, batch, variant, repeat):
    cell = Cell("toy", dataset, model, kind, nodes, batch, variant, repeat)
    assert Cell.from_folder(cell.folder) == cell
    assert Cell.from_folder(Path("results") / cell.folder) == cell
    assert "/" not in cell.name
    assert len(cell.folder.parts) == 9
