"""Another data set where one's own is not prepared: taken and told, and never in the place of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn.data import prepare_dataset
from bnn.errors import UserError
from campaign.ask.sections import OtherImages
from campaign.plan.campaign import Campaign, load_campaign, parse_campaign
from campaign.plan.content import plan_content
from campaign.site.site import load_site
from tests.support.campaigns import CAMPAIGN, changed, site

ROOT = Path(__file__).parents[2]
STUDY: dict[str, Any] = {
    "roles": [], "dataset": "arrays", "dataset_options": {"name": "mine", "train_size": 40}, "models": ["fc"],
    "nodes": [1], "batch_sizes": [8], "settings": {"epochs": 3, "width": 0.5},
    "instead": {"dataset": "mnist-sample", "settings": {"epochs": 1}},
}  # fmt: skip


def planned(data: Path, **changes: Any) -> Campaign:
    return parse_campaign(changed(CAMPAIGN, "studies/own", STUDY | changes), "c.yaml", site(), data)


def prepare(data: Path, images: int = 40) -> None:
    data.mkdir(exist_ok=True)
    labels = np.arange(images + 10) % 2
    pixels = np.random.default_rng(0).integers(0, 255, (images + 10, 1, 28, 28), np.uint8)
    parts = {"train": slice(images), "test": slice(images, None)}
    arrays = {f"{part}_images": pixels[at] for part, at in parts.items()}
    arrays |= {f"{part}_labels": labels[at] for part, at in parts.items()}
    np.savez(data / "mine.npz", **arrays)
    prepare_dataset("arrays", data, path=data / "mine.npz", name="mine")


def test_it_is_taken_only_where_the_users_own_is_not_prepared(tmp_path: Path) -> None:
    found = planned(tmp_path)
    (cell, *_) = [each for each in found.cells if each.study == "own"]
    assert (cell.cell.dataset, cell.settings.epochs, cell.settings.width) == ("mnist-sample", 1, 0.5)
    said = "own: mnist-sample in place of mine, which is not prepared here (bnn data prepare)"
    assert found.replaced == {"own": said}
    assert plan_content(found)["site"]["other data sets"] == [said]
    prepare(tmp_path)
    found = planned(tmp_path)
    (cell, *_) = [each for each in found.cells if each.study == "own"]
    assert (cell.cell.dataset, cell.settings.epochs) == ("mine", 3)
    assert found.replaced == {}


def test_nothing_takes_the_place_of_a_data_set_that_is_another_than_is_meant(tmp_path: Path) -> None:
    prepare(tmp_path, images=30)
    with pytest.raises(UserError, match="30 training images, not train_size=40"):
        planned(tmp_path)


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        ({"dataset": "mnits-sample"}, "c.yaml: studies.own.instead.dataset: unknown data set 'mnits-sample'"),
        ({}, "instead.dataset: missing"),
        (
            {"dataset": "mnist-sample", "infer": {"ood": {"dataset": "mnits"}}},
            "studies.own.instead.infer: the study asks",
        ),
        ({"dataset": "mnist-sample", "infer": {"ood": None}}, "studies.own.instead.infer: the study asks for no pre"),
        ({"dataset": "mnist-sample", "infer": {"ood": {}}}, "instead.infer.ood"),
        ({"dataset": "mnist-sample", "infer": {"draws": 3}}, "instead.infer.draws"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_mistake_is_named(tmp_path: Path, instead: dict[str, Any], words: str, there: bool) -> None:
    """Also by a machine on which nothing is replaced."""
    if there:
        prepare(tmp_path)
    with pytest.raises(UserError, match=words):
        planned(tmp_path, instead=instead)


def test_a_mistake_in_its_settings_is_named_where_they_apply(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="epoch: unknown setting, did you mean epochs"):
        planned(tmp_path, instead={"dataset": "mnist-sample", "settings": {"epoch": 1}})


def test_other_images_of_another_data_set_are_checked_where_they_are_written(tmp_path: Path) -> None:
    infer = {"draws": 4, "images": None}
    more = {"infer": infer, "settings": STUDY["settings"] | {"save_posterior": True}}
    prepare(tmp_path)
    with pytest.raises(UserError, match=r"instead\.infer\.ood\.dataset: unknown data set 'mnits'"):
        planned(tmp_path, instead=STUDY["instead"] | {"infer": {"ood": {"dataset": "mnits"}}}, **more)
    wide = {"dataset": "synthetic", "dataset_options": {"shape": [3, 32, 32]}}
    with pytest.raises(UserError, match=r"studies.own.infer.ood: images of shape \[3, 32, 32\]; those of mine have"):
        planned(tmp_path, **(more | {"infer": infer | {"ood": wide}}))


@pytest.mark.parametrize("ood", [None, {"dataset": "synthetic", "dataset_options": {"shape": [1, 28, 28]}}])
def test_other_images_are_asked_for_of_the_other_data_set(tmp_path: Path, ood: dict[str, Any] | None) -> None:
    own = {"dataset": "mnist-sample", "images": 9}
    more = {
        "infer": {"draws": 4, "ood": own}, "settings": STUDY["settings"] | {"save_posterior": True},
        "instead": STUDY["instead"] | {"infer": {"ood": ood}},
    }  # fmt: skip

    def asked() -> Any:
        (job, *_) = [each for each in planned(tmp_path, **more).after if each.study == "own"]
        return job.section.ood, job.section.draws

    assert asked() == (None if ood is None else OtherImages(images=None, **ood), 4)
    prepare(tmp_path)
    assert asked() == (OtherImages("mnist-sample", {}, 9), 4)


def test_the_local_study_of_methods_runs_on_either_data_set_at_one_point(tmp_path: Path) -> None:
    found = load_campaign(ROOT / "config.yaml", load_site(ROOT / "profiles/local"), tmp_path)
    mine = [cell for cell in found.cells if cell.target == "methods"]
    assert {cell.cell.dataset for cell in mine} == {"mnist-sample"}
    assert set(found.replaced) == {"methods", "methods-deterministic", "time-to-accuracy"}
    assert len(mine) == 3 * 5 + 6  # methods that learn a posterior, and conventional networks
    shared = {(c.settings.width, c.settings.threads, c.settings.max_steps, c.placement.ranks) for c in mine}
    assert shared == {(0.25, 2, 150, 1)}
    jobs = [job for job in found.after if job.target == "methods"]
    assert len(jobs) == 3 * 5 * 2 + 6 * 4 + 2 * 4
    assert {job.conditions.temperature for job in jobs if job.cell.kind == "bnn"} == {None}
