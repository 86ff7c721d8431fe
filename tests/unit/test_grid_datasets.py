"""Data sets of one's own in a campaign: what cells are called, what must be known of them, what their jobs are told."""

import io

import pytest
from rich.console import Console

from bnn.data import prepare_dataset
from bnn.errors import UserError
from campaign.names.layout import data_key
from campaign.plan.campaign import parse_campaign
from tests.support.campaigns import CAMPAIGN, changed, prepared, site
from tests.support.own_images import as_tar, two_classes

OPTIONS = {"name": "pets", "train_size": 64, "checksum": f"sha256:{'0' * 64}"}


def asking(options, **study):
    values = changed(CAMPAIGN, "studies/speed/dataset", "images")
    values["studies"]["speed"] |= {"dataset_options": options, "kinds": ["bnn"], **study}
    return values


def test_cells_are_called_by_the_data_set_s_own_name_and_jobs_are_told_its_recipe():
    campaign = parse_campaign(asking(OPTIONS, infer={"draws": 3}), "config.yaml", site())
    cell, after = campaign.cells[0], campaign.after[0]
    assert cell.cell.place.as_posix().startswith("pets/fc/bnn/")
    assert cell.name.startswith("pets_fc_bnn_")
    assert cell.settings.dataset == "images"
    assert cell.settings.labels["dataset"] == "pets"
    assert cell.reads == after.reads == [("images", OPTIONS)]
    assert after.measures[:2] == ["--dataset", "images"]
    assert campaign.datasets() == [("images", OPTIONS)]
    assert data_key(*campaign.datasets()[0]).startswith("images-")


def test_a_size_is_stated_or_prepared_or_the_command_is_named(tmp_path):
    path = as_tar(tmp_path / "pets.tar", two_classes(train=20))
    values = asking({"path": str(path)})
    with pytest.raises(UserError) as caught:
        parse_campaign(values, "config.yaml", site(), tmp_path)
    command = f"bnn data prepare images --data-dir {tmp_path} --option name=pets --option path={path}"
    assert str(caught.value).startswith("config.yaml: studies.speed.dataset_options: images: pets is not prepared")
    assert str(caught.value).endswith(f"run '{command}'")
    prepare_dataset("images", tmp_path, console=Console(file=io.StringIO()), path=path)
    assert parse_campaign(values, "config.yaml", site(), tmp_path).cells[0].cell.dataset == "pets"
    with pytest.raises(UserError, match="40 training images, not train_size=41"):
        parse_campaign(asking({"name": "pets", "train_size": 41}), "config.yaml", site(), tmp_path)
    with pytest.raises(UserError, match="1 epochs of pets have 40"):
        parse_campaign(asking({"name": "pets"}, batch_sizes=[48]) | {"settings": {}}, "config.yaml", site(), tmp_path)


def test_the_driver_looks_where_its_jobs_will(tmp_path, monkeypatch):
    path = as_tar(tmp_path / "pets.tar", two_classes(train=20))
    for folder in (tmp_path / "results/data", tmp_path / "elsewhere"):
        monkeypatch.delenv("BNN_DATA_DIR", raising=False)
        if folder.name == "elsewhere":
            monkeypatch.setenv("BNN_DATA_DIR", str(folder))
        else:
            with pytest.raises(UserError, match="is not prepared"):
                prepared(tmp_path, asking({"name": "pets"}))
        prepare_dataset("images", folder, console=Console(file=io.StringIO()), path=path)
        assert prepared(tmp_path, asking({"name": "pets"})).campaign.cells


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "option name is missing"),
        ({"name": "mnist"}, "another data set"),
        ({"names": "x"}, "unknown option 'names'"),
    ],
)
def test_slips_are_named_with_their_key(options, words):
    with pytest.raises(UserError) as caught:
        parse_campaign(asking(options), "config.yaml", site())
    assert str(caught.value).startswith("config.yaml: studies.speed.dataset_options: ")
    assert words in str(caught.value)
