"""What may be running or queued: it keeps the files that it was started with, and is named where they are others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bnn.errors import UserError
from campaign.io.locking import Lock
from campaign.run import live
from campaign.run.driver import Driver, look
from campaign.tell.cli import cli
from tests.support.campaigns import CAMPAIGN, SITE, changed, ready
from tests.support.finished import snapshot

QUEUES = [{"name": "all", "max_nodes": 8, "max_minutes": 600}]
SLURM = changed(SITE, "site/scheduler", {"kind": "slurm", "queues": QUEUES, "walltimes": [{"minutes": 60}]})
OTHER = changed(CAMPAIGN, "settings/epochs", 5)


def prepared(folder: Path, values: dict[str, Any] = CAMPAIGN, at: dict[str, Any] = SLURM) -> Driver:
    (folder / "config.yaml").write_text(json.dumps(values))
    (folder / "site.yaml").write_text(json.dumps(at))
    return ready(folder / "site.yaml", folder / "config.yaml", folder / "results")


def note(driver: Driver, name: str, *events: dict[str, Any]) -> None:
    """What an executor writes of one script."""
    with driver.layout.journal.open("a") as journal:
        for event in events:
            journal.write(json.dumps({"script": f"/x/jobs/{name}.sh", "name": "c-1"} | event) + "\n")


def files(driver: Driver, name: str) -> list[str]:
    return [(driver.layout.jobs / f"{name}.{end}").read_text() for end in ("sh", "json")]


@pytest.mark.parametrize("event", ["submitting", "submitted", "attached", "running"])
def test_a_job_that_may_be_queued_keeps_its_files_and_is_named(tmp_path: Path, event: str) -> None:
    driver = prepared(tmp_path)
    first, second = (planned.cell.name for planned in driver.campaign.cells[:2])
    before = {name: files(driver, name) for name in (first, second)}
    note(driver, first, {"event": event, "job": "77"})
    assert look(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "results").notice == ""
    other = prepared(tmp_path, OTHER)
    assert files(driver, first) == before[first]
    assert all(now != then for now, then in zip(files(driver, second), before[second], strict=True))
    assert other.notice == (
        f"a job of other settings may still be running or queued: {first} (job 77); its script is left as it is: "
        "cancel it, or wait"
    )
    words = [str(tmp_path / name) for name in ("site.yaml", "config.yaml", "results")]
    said = CliRunner().invoke(cli, ["status", "--profile", words[0], "--campaign", words[1], "--results", words[2]])
    assert said.exit_code == 0, said.output
    assert f"{first} (job 77); its script is left as it is" in " ".join(said.output.split())
    note(driver, first, {"event": "ended", "job": "77", "outcome": "failed"})
    assert prepared(tmp_path, OTHER).notice == ""
    assert files(driver, first) != before[first]


def test_the_journals_digest_tells_what_a_job_was_started_with(tmp_path: Path) -> None:
    driver = prepared(tmp_path)
    job = driver.campaign.cells[0]
    same, other = driver.script_digest(job), "0" * 16
    assert live.file_digest(job.script(driver.layout)) == same
    for digest, named in ((same, False), (other, True)):
        note(driver, job.name, {"event": "submitting"}, {"event": "submitted", "job": "1", "digest": digest})
        note(driver, job.name, {"event": "running", "job": "1"})
        assert (job.name in prepared(tmp_path).lingering) == named


def test_on_one_machine_a_job_that_holds_its_lock_keeps_its_files(tmp_path: Path) -> None:
    driver = prepared(tmp_path, at=SITE)
    cell = driver.campaign.cells[0].cell
    note(driver, driver.campaign.cells[1].name, {"event": "running", "job": "5"})  # it ended with its driver
    before = files(driver, cell.name)
    lock = Lock(driver.layout.lock(cell), "the cell")
    other = prepared(tmp_path, OTHER, SITE)
    assert files(driver, cell.name) == before
    assert set(other.lingering) == {cell.name}
    lock.release()
    assert prepared(tmp_path, OTHER, SITE).lingering == {}
    assert files(driver, cell.name) != before


def test_what_measures_keeps_its_files_whatever_it_is(tmp_path: Path) -> None:
    driver = prepared(tmp_path)
    name = driver.campaign.cells[3].cell.name
    lock = Lock(driver.layout.measuring_lock, "a test")
    driver.layout.measuring_lock.write_text(f"cell {name}, process 1 on host since today\n")
    assert list(live.may_live(driver.campaign, driver.layout)) == [name]
    lock.release()
    assert live.may_live(driver.campaign, driver.layout) == {}


def test_a_job_that_the_campaign_has_no_more_keeps_its_files_until_it_is_gone(tmp_path: Path) -> None:
    driver = prepared(tmp_path)
    job = next(planned for planned in driver.campaign.cells if planned.cell.nodes == 2)
    note(driver, job.name, {"event": "submitted", "job": "8"})
    fewer = changed(CAMPAIGN, "nodes", [1])
    assert prepared(tmp_path, fewer).lingering == {job.name: "job 8"}, "it still uses the machine"
    assert job.script(driver.layout).exists()
    assert driver.layout.settings(job.cell).exists()
    assert len(list(driver.layout.jobs.glob("*_n2_*"))) == 2
    note(driver, job.name, {"event": "cancelled", "job": "8"})
    assert not prepared(tmp_path, fewer).lingering
    assert not list(driver.layout.jobs.glob("*_n2_*"))


def test_a_plan_that_has_changed_since_it_was_read_is_not_made_ready(tmp_path: Path) -> None:
    driver = prepared(tmp_path)
    before = snapshot(driver.layout.jobs)
    (tmp_path / "config.yaml").write_text(json.dumps(OTHER))
    with pytest.raises(UserError, match="has changed since it was read: start again"):
        driver.make_ready()
    with pytest.raises(UserError, match="has changed since it was read: start again"):
        driver.start()
    assert snapshot(driver.layout.jobs) == before


def test_the_plan_is_written_with_the_time_of_the_last_run_kept(tmp_path: Path) -> None:
    """`campaign status` counts from when the last driver took its lock."""
    driver = prepared(tmp_path)
    driver.start()
    assert driver.lock is not None
    driver.lock.release()
    stamp = driver.layout.driver_lock.stat().st_mtime_ns
    prepared(tmp_path, OTHER)
    assert driver.layout.driver_lock.stat().st_mtime_ns == stamp


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    driver = prepared(tmp_path)
    summary = driver.layout.summary(driver.campaign.cells[0].cell)
    summary.parent.mkdir(parents=True)
    summary.write_text("{")
    (tmp_path / "config.yaml").write_text(json.dumps(OTHER))
    before = snapshot(tmp_path)
    look(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "results")
    assert snapshot(tmp_path) == before
    look(tmp_path / "site.yaml", tmp_path / "config.yaml", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
