"""`campaign why`, `campaign plan` and what makes a cell run again."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from bnn.errors import UserError
from bnn.records import CELL, SUMMARY
from bnn.settings import read_settings
from campaign.io.locking import Lock
from campaign.io.unreadable import aside
from campaign.plan.content import plan_content
from campaign.run.entry import open_campaign
from campaign.tell.cli import cli, main
from campaign.tell.plan_table import estimate, plan_table
from campaign.tell.why import find_cell, why
from tests.support.campaigns import CAMPAIGN, changed, prepared, ready
from tests.support.cells import write_cell


@pytest.fixture
def driver(tmp_path):
    return prepared(tmp_path)


def finish(driver, planned, **keywords):
    """Leave the records of a finished run, as a job of this plan would."""
    entry = next(cell for cell in plan_content(driver.campaign)["cells"] if cell["name"] == planned.cell.name)
    labels = planned.settings.labels
    return write_cell(driver.layout.results, entry, steps=12, labels=labels, **keywords)


def again(driver, values=CAMPAIGN):
    return prepared(driver.layout.results.parent, values)


def test_a_cell_is_found_by_name_folder_file_and_identity(driver):
    planned = driver.campaign.cells[5]
    cell, layout = planned.cell, driver.layout
    identity = f"model=fc,kind={cell.kind},nodes={cell.nodes},batch=8,variant={cell.variant},repeat={cell.repeat}"
    asked = [cell.name, str(cell.folder), str(layout.folder(cell)) + "/", str(layout.summary(cell)), identity]
    assert [find_cell(driver.campaign, layout, text).cell for text in asked] == [cell] * 5


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("synthetic_fc_bnn_n1_b8_base_r", "did you mean synthetic_fc_bnn_n1_b8_base_r"),
        ("nonsense", "no cell of campaign tiny on toy"),
        ("kind=bnn", r"matches several cells \(8 cells: "),
        ("kind=bnn,nodes=7", "matches no cell of the plan"),
        ("node=1", "node is no part of a cell's identity, did you mean nodes"),
        ("results/toy/cells/x", "not the folder of a cell"),
        ("toy/cells/synthetic/fc/bnn/nodes=9/batch=8/variant=base/repeat=1", "not one of campaign tiny"),
    ],
)
def test_a_cell_that_is_not_there_is_one_line(driver, asked, message):
    with pytest.raises(UserError, match=message):
        find_cell(driver.campaign, driver.layout, asked)


def test_why_tells_the_states_of_a_cell_apart(driver):
    planned, layout = driver.campaign.cells[0], driver.layout
    folder = layout.folder(planned.cell)
    assert why(planned, layout)[0] == "would run: it has never been started"
    folder.mkdir(parents=True)
    (folder / "job.log").write_text("# job local 1\n")
    assert "started and has not finished" in why(planned, layout)[0]
    (folder / SUMMARY).write_text("{")
    said = "would run: its record cannot be read and will be made anew"
    assert why(planned, layout)[0] == f"{said} ({folder / SUMMARY})"
    again(driver)
    assert why(planned, layout)[0] == f"{said} ({aside(folder / SUMMARY)})"
    shutil.rmtree(folder)
    finish(driver, planned, jitter=0.0)
    assert why(planned, layout)[0] == "would not run: finished, verdict OK"
    shutil.rmtree(folder)
    finish(driver, planned, status="INVALID", reasons=("non-finite loss at step 3 on rank 1",))
    assert why(planned, layout)[:2] == [
        "would not run: finished, verdict INVALID because", "  non-finite loss at step 3 on rank 1",
    ]  # fmt: skip
    layout.script(planned.cell).unlink()
    lock = Lock(layout.lock(planned.cell), "the cell")
    text = "\n".join(why(planned, layout))
    assert "is missing" in text
    assert f"its job is going on: process {os.getpid()}" in text
    lock.release()


def test_a_changed_setting_is_named_and_its_cells_alone_are_stale(driver):
    for planned in driver.campaign.cells:
        finish(driver, planned)
    assert again(driver).outstanding == ()
    other = again(driver, changed(CAMPAIGN, "variants/slow/settings/beta", 0.5))
    stale = sorted(job.name for job in other.outstanding)
    assert {name.rsplit("_", 2)[1] for name in stale} == {"slow"}
    assert len(stale) == 4, "the Bayesian ones: beta means nothing to the others"
    planned = find_cell(other.campaign, other.layout, stale[0])
    assert why(planned, other.layout)[:2] == ["would run: its settings have changed", "  beta: 1.0 then, 0.5 now"]
    for job in other.outstanding:
        assert read_settings(other.layout.settings(job.cell)).fingerprint() == job.settings.fingerprint()
    # Snakemake has deleted the summary, the job has not started yet: its second name still tells
    layout = other.layout
    layout.summary(planned.cell).rename(layout.finished(planned.cell))
    assert why(planned, layout)[:2] == ["would run: its records are of other settings", "  beta: 1.0 then, 0.5 now"]
    (layout.folder(planned.cell) / CELL).unlink()
    assert "cannot be read" in why(planned, layout)[1]


def test_a_changed_launch_is_a_reason(driver):
    planned = driver.campaign.cells[0]
    finish(driver, planned)
    site = json.loads((driver.layout.results.parent / "site.yaml").read_text())
    folder = driver.layout.results.parent
    for change, said in [("site/ranks_per_node", "1 ranks then, 2 now"), ("site/launcher/options", "launcher options")]:
        value = 2 if change.endswith("node") else ["-bind-to", "core"]
        (folder / "site.yaml").write_text(json.dumps(changed(site, change, value)))
        other = ready(folder / "site.yaml", folder / "config.yaml", folder / "results")
        assert said in why(other.campaign.cells[0], other.layout)[0]


def test_node_hours_are_measured_or_unknown_never_invented(driver):
    first = driver.campaign.cells[0]
    twin = next(p for p in driver.campaign.cells if p.cell.repeat == 2 and p.cell.name[:-1] == first.cell.name[:-1])
    assert all(state.node_hours is None for state in estimate(driver.campaign, driver.layout).values())
    summary = finish(driver, first)
    states = estimate(driver.campaign, driver.layout)
    assert (states[first.cell].finished, states[first.cell].node_hours) == (True, summary.seconds_total / 3600)
    assert (states[twin.cell].finished, states[twin.cell].node_hours) == (False, states[first.cell].node_hours)
    assert sum(state.node_hours is not None for state in states.values()) == 2
    _, totals = plan_table(driver.campaign, driver.layout)
    assert totals.startswith("16 cells, 1 finished; node-hours: ")
    assert "unknown (14 cells)" in totals


def test_the_plan_is_rewritten_only_when_it_changed(driver):
    stamp = driver.layout.plan.stat().st_mtime_ns
    again(driver)
    assert driver.layout.plan.stat().st_mtime_ns == stamp
    again(driver, CAMPAIGN | {"accuracy_targets": [0.7]})
    assert json.loads(driver.layout.plan.read_text())["accuracy_targets"] == [0.7]


def test_nothing_is_changed_under_a_run_that_is_going_on(driver):
    lock = Lock(driver.layout.driver_lock, "the campaign")
    before = {path: path.read_bytes() for path in [driver.layout.plan, *driver.layout.jobs.iterdir()]}
    other = again(driver, changed(CAMPAIGN, "settings/epochs", 5))
    assert f"process {os.getpid()}" in other.notice
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(UserError, match="already being run by process"):
        other.start()
    lock.release()
    with pytest.raises(UserError, match="until now: start again"):
        other.start()


def test_the_command_line(driver, monkeypatch, capsys):
    monkeypatch.chdir(driver.layout.results.parent)
    where = ["--profile", "site.yaml", "--campaign", "config.yaml", "--results", "results"]
    done = CliRunner().invoke(cli, ["plan", *where])
    assert done.exit_code == 0, done.output
    assert "16 cells, 0 finished; node-hours: unknown in all" in done.output
    assert "synthetic_fc_bnn_n1_b8_base_r{1..2}.sh" in done.output
    done = CliRunner().invoke(cli, ["why", "kind=bnn,nodes=1,variant=base,repeat=1", *where])
    assert "synthetic_fc_bnn_n1_b8_base_r1: would run: it has never been started" in done.output
    done = CliRunner().invoke(cli, ["site", "check", "./site.yaml"])
    assert "16 cells of campaign tiny" in done.output
    monkeypatch.setattr("sys.argv", ["campaign", "why", "nothing", *where])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "campaign: nothing: no cell of campaign tiny on toy (campaign plan lists them)\n"
    )


def test_snakemakes_configuration_is_checked(driver, monkeypatch):
    folder = driver.layout.results.parent
    monkeypatch.chdir(folder)
    given = {"campaign": "config.yaml", "results": "results"}
    options = {"configfile": "options.yaml", "cores": 1} | given
    for file in ("options.yaml", "site.yaml"):
        found = open_campaign(options, given, [folder / file], folder)
    assert [p.fingerprint for p in found.campaign.cells] == [p.fingerprint for p in driver.campaign.cells]
    assert found.layout.plan.resolve() == driver.layout.plan
    with pytest.raises(UserError, match=r"--config campagne: unknown key, did you mean campaign\?"):
        open_campaign(options, {"campagne": "x"}, ["options.yaml"], folder)
    (folder / "nowhere").mkdir()
    with pytest.raises(UserError, match=r"^nowhere/site.yaml: No such file or directory$"):
        open_campaign(options, given, [folder / "nowhere/options.yaml"], folder)
    (folder / "profiles/here").mkdir(parents=True)
    (folder / "profiles/here/site.yaml").touch()
    with pytest.raises(UserError, match="no site given: use snakemake --profile PROFILE with one of profiles/here"):
        open_campaign({}, {}, [], folder)
