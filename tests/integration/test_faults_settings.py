"""The driver is killed, then the campaign is changed: jobs of old settings are named and waited for, not adopted."""

from __future__ import annotations

import json

import pytest

from campaign.plan.campaign import load_campaign
from campaign.site.site import load_site
from tests.support.campaigns import changed
from tests.support.faults import CAMPAIGN, Faulty
from tests.support.faulty_campaigns import Start, both, once_each

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]
pytest_plugins = ["tests.support.faulty_campaigns"]


def change(faulty: Faulty) -> None:
    """Other settings for all cells, and for the stand-in for bnn their records."""
    (faulty.folder / "campaign.json").write_text(json.dumps(changed(CAMPAIGN, "settings/max_steps", 7)))
    faulty.campaign = load_campaign(faulty.folder / "campaign.json", load_site(faulty.folder / "faulty"))
    faulty._write_records()


@both
def test_jobs_of_other_settings_keep_their_scripts_and_are_not_adopted(campaign: Start, kind: str) -> None:
    faulty = campaign(kind)
    faulty.all_wait()
    driver = faulty.start()
    faulty.until(lambda: len(faulty.journal("running")) == len(faulty.names), driver)
    faulty.kill(driver)
    scripts = {path: path.read_bytes() for path in faulty.layout.jobs.glob("*.*") if not path.name.startswith(".")}
    change(faulty)
    driver = faulty.start()
    faulty.until(lambda: faulty.said(driver).count("which was submitted with another content of") == 4, driver)
    said = faulty.said(driver)
    assert "jobs of other settings may still be running or queued: " in said
    assert "their scripts are left as they are: cancel them, or wait" in said
    assert {path: path.read_bytes() for path in scripts} == scripts
    faulty.go()
    driven = faulty.end(driver)
    assert driven.code != 0
    assert set(driven.closing.values()) == {"refused"}
    assert all("start again" in driven.sentence(name) for name in faulty.names)
    assert faulty.submissions() == once_each(faulty)
    assert {path: path.read_bytes() for path in scripts} == scripts
    again = faulty.run()
    assert again.code == 0, again.text
    assert faulty.submissions() == dict.fromkeys(faulty.names, 2)
    assert faulty.finished() == set(faulty.names)
    assert all(path.read_bytes() != text for path, text in scripts.items() if path.suffix == ".json")
