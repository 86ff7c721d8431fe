"""The campaign files in examples/: each can be planned, and the paper's study on photographs is the paper's."""

from pathlib import Path

import numpy as np
import pytest

from campaign.io.yamlfile import read_yaml
from campaign.plan.campaign import load_campaign
from campaign.site.site import load_site

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DATA = {"dataset", "dataset_options", "description"}


@pytest.mark.parametrize("profile", ["local", "slurm", "theta"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_planned_before_its_data_are_there(monkeypatch, tmp_path, path, profile):
    monkeypatch.setenv("BNN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CAMPAIGN_ACCOUNT", "anyone")
    assert load_campaign(path, load_site(ROOT / "profiles" / profile)).cells


def test_the_papers_study_on_photographs_differs_in_its_data_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("BNN_DATA_DIR", str(tmp_path))
    paper, example = read_yaml(ROOT / "config.yaml"), read_yaml(ROOT / "examples/cifar10-jpeg.yaml")
    for key in ("seed", "nodes", "accuracy_targets", "settings"):
        assert example[key] == paper[key]
    assert all(paper["variants"][name] == values for name, values in example["variants"].items())
    one, two = example["studies"]["cifar10-jpeg"], paper["studies"]["cifar10"]
    assert {key: one[key] for key in one.keys() - DATA} == {key: two[key] for key in two.keys() - DATA}
    cells = load_campaign(ROOT / "examples/cifar10-jpeg.yaml", load_site(ROOT / "profiles/theta")).cells
    assert {cell.cell.dataset for cell in cells} == {"cifar10-jpeg"}


def test_the_photographs_have_the_checksum_that_the_example_states(tmp_path, reference_data):
    from bnn.data import load_dataset, prepare_dataset

    path = reference_data / "cifar10-jpeg/cifar10-jpeg.tar.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    options = read_yaml(ROOT / "examples/cifar10-jpeg.yaml")["studies"]["cifar10-jpeg"]["dataset_options"]
    prepare_dataset("images", tmp_path, path=path, **options)
    data = load_dataset("images", tmp_path, **options)
    assert (data.name, data.input_shape, data.classes) == ("cifar10-jpeg", (3, 32, 32), 10)
    assert np.bincount(data.train.labels).tolist() == [5_000] * 10
    assert np.bincount(data.test.labels).tolist() == [1_000] * 10


def test_the_methods_of_the_example_are_compared_at_one_point_with_one_conventional_network(monkeypatch, tmp_path):
    monkeypatch.setenv("BNN_DATA_DIR", str(tmp_path))
    found = load_campaign(ROOT / "examples/methods.yaml", load_site(ROOT / "profiles/theta"))
    assert {cell.cell.dataset for cell in found.cells} == {"cifar10-jpeg"}
    assert len(found.cells) == 5 * 5 + 5 * 5  # of each method, and the members of five ensembles
    variants = {(cell.cell.kind, cell.cell.variant) for cell in found.cells}
    assert {variant for kind, variant in variants if kind == "cnn"} == {"deterministic"}
    assert len({(cell.settings.width, cell.placement.ranks, cell.settings.threads) for cell in found.cells}) == 1
    assert len(found.after) == 5 * 5 * 7 + 25 * 2 * 7 + 5 * 2 * 7
