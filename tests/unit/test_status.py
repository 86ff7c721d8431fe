"""`campaign status`: read from summaries, locks, heartbeats and the executor's journal."""

import json
import os
import re
from dataclasses import replace

from click.testing import CliRunner

from bnn.records.files import HEARTBEAT, heartbeat_name
from bnn.records.heartbeat import HeartbeatRecord
from bnn.watchdog import leave_word
from campaign.io.locking import Lock
from campaign.jobs.train import read_summary
from campaign.plan.content import plan_content
from campaign.site.allocation import Scheduler
from campaign.tell.cli import cli
from campaign.tell.spent import spent, spent_line
from campaign.tell.status import status, status_table
from campaign.tell.why import why
from tests.support.campaigns import prepared
from tests.support.cells import write_cell


def finish(driver, planned):
    entry = next(cell for cell in plan_content(driver.campaign)["cells"] if cell["name"] == planned.cell.name)
    write_cell(driver.layout.results, entry, steps=12, labels=planned.settings.labels)


def note(driver, *events):
    with driver.layout.journal.open("a") as journal:
        for name, event, more in events:
            journal.write(json.dumps({"script": f"/x/{name}.sh", "event": event} | more) + "\n")


def beat(folder, rank, step, now, **more):
    record = HeartbeatRecord(rank=rank, host="n1", pid=5, attempt=1, step=step, steps=40, moved=now, beat=now, **more)
    (folder / HEARTBEAT).mkdir(parents=True, exist_ok=True)
    (folder / HEARTBEAT / heartbeat_name(rank)).write_bytes(record.padded())


def test_cells_are_told_apart_by_what_was_left_of_them(tmp_path):
    driver = prepared(tmp_path)
    layout, names = driver.layout, [planned.cell.name for planned in driver.campaign.cells]
    finish(driver, driver.campaign.cells[0])
    note(
        driver,
        (names[0], "ended", {"outcome": "done"}),
        (names[1], "submitted", {"job": "77"}),
        (names[2], "submitted", {}),
        (names[2], "running", {"job": "78"}),
        (names[3], "ended", {"outcome": "walltime", "job": "79", "detail": "60 min exceeded", "log": "a.log"}),
        (names[4], "refused", {"outcome": None, "detail": "no such queue"}),
        (names[5], "ended", {"outcome": "failed"}),
        (names[5], "retry", {"job": "80"}),
        (names[6], "cancelled", {}),
    )
    with layout.journal.open("a") as journal:
        journal.write('{"event": "ended", "scr')  # is being written
    now = 1000.0
    running = layout.folder(driver.campaign.cells[2].cell)
    beat(running, 0, 12, now, part="exchange", samples_per_second=100.0)
    beat(running, 1, 11, now - 90, part="forward", samples_per_second=50.0)
    lock = Lock(layout.lock(driver.campaign.cells[2].cell), "the cell")
    found = status(driver.campaign, layout, now)
    lock.release()
    assert [cell.state for cell in found.cells[:8]] == [
        "finished", "queued", "running", "failed", "failed", "queued", "waiting", "waiting"
    ]  # fmt: skip
    assert [cell.detail for cell in found.cells[1:6]] == [
        "job 77",
        "step 11 of 40, 150 images/s, forward, last heard of 90 s ago",
        "walltime, job 79, 60 min exceeded, a.log",
        "refused, no such queue",
        "job 80",
    ]
    assert sum(found.counts.values()) == len(names)
    reasons = why(driver.campaign.cells[3], layout)
    assert "its last job: walltime, job 79, 60 min exceeded, a.log" in reasons
    table, totals = status_table(found)
    assert table.row_count == 5
    assert "no driver is running" in totals


def test_a_cell_that_ran_here_when_the_machine_went_down_does_not_run_any_more(tmp_path):
    driver = prepared(tmp_path)
    planned, layout = driver.campaign.cells[0], driver.layout
    note(driver, (planned.cell.name, "running", {"job": "77-1234-0123abcd"}))
    assert status(driver.campaign, layout).cells[0].state == "waiting"
    elsewhere = replace(driver.campaign.site, scheduler=Scheduler("slurm"))
    assert status(replace(driver.campaign, site=elsewhere), layout).cells[0].state == "running"


def test_a_cell_whose_record_is_to_be_made_anew_says_why(tmp_path):
    driver = prepared(tmp_path)
    cells, layout = driver.campaign.cells, driver.layout
    for planned in cells[:5]:
        finish(driver, planned)
        if planned != cells[1]:  # run without an executor
            note(driver, (planned.cell.name, "ended", {"outcome": "done"}))
    for planned in cells[:2]:
        layout.summary(planned.cell).write_text('{"hash": ')
    layout.summary(cells[2].cell).unlink()
    other = layout.summary(cells[3].cell)
    other.write_text(other.read_text().replace(cells[3].settings.fingerprint(), "0" * 16))
    expected = [
        ("waiting", "its record cannot be read and will be made anew"),
        ("waiting", "its record cannot be read and will be made anew"),
        ("waiting", "its record is gone and will be made anew"),
        ("waiting", "its record is of other settings and will be made anew"),
        ("finished", ""),
        ("waiting", ""),
    ]
    for _ in range(2):
        found = status(driver.campaign, layout)
        assert [(cell.state, cell.detail) for cell in found.cells[:6]] == expected
        assert status_table(found)[0].row_count == 4
        prepared(tmp_path)  # what cannot be read is set aside: the same is said of it
    note(driver, (cells[0].cell.name, "submitted", {"job": "9"}))
    assert status(driver.campaign, layout).cells[0].state == "queued"


def test_what_the_watchdog_said_of_a_cells_ranks_is_passed_on(tmp_path):
    driver = prepared(tmp_path)
    cells, layout = driver.campaign.cells, driver.layout
    for planned in cells[:4]:
        leave_word(layout.folder(planned.cell), "no rank has moved for 600 s; late: rank 3 on n7")
    names = [planned.cell.name for planned in cells]
    failed = {"outcome": "failed", "job": "7"}
    note(
        driver,
        (names[0], "ended", failed | {"exit_code": 70, "detail": "exit code 70"}),
        (names[1], "ended", failed | {"exit_code": 1, "detail": "exit code 1"}),  # before its watchdog started
        (names[2], "submitted", {"job": "8"}),
    )
    said = "ended by the watchdog: no rank has moved for 600 s; late: rank 3 on n7"
    expected = [
        ("failed", f"failed, job 7, exit code 70; {said}"),
        ("failed", "failed, job 7, exit code 1"),
        ("queued", "job 8"),
        ("failed", said),  # on a site without scheduler
        ("waiting", ""),
    ]
    assert [(cell.state, cell.detail) for cell in status(driver.campaign, layout).cells[:5]] == expected
    assert f"its last job: failed, job 7, exit code 70; {said}" in why(cells[0], layout)
    assert f"its last job: {said}" in why(cells[3], layout)
    assert not any("last job" in line for line in why(cells[4], layout))


def test_a_held_lock_is_a_running_cell(tmp_path):
    driver = prepared(tmp_path)
    planned = driver.campaign.cells[3]
    lock = Lock(driver.layout.lock(planned.cell), "the cell")
    found = status(driver.campaign, driver.layout)
    assert [cell.cell for cell in found.cells if cell.state == "running"] == [planned.cell]
    assert found.cells[3].detail == "no sign of life yet"
    lock.release()
    assert status(driver.campaign, driver.layout).cells[3].state == "waiting"


def test_an_end_is_estimated_from_the_pace_of_the_driver_that_runs(tmp_path):
    driver = prepared(tmp_path)
    finish(driver, driver.campaign.cells[0])
    os.utime(driver.layout.summary(driver.campaign.cells[0].cell), (1000, 1000))  # by an earlier driver
    driver.start()
    os.utime(driver.layout.driver_lock, (5000, 5000))
    for place, planned in enumerate(driver.campaign.cells[1:4], start=1):
        assert status(driver.campaign, driver.layout, 8600).per_hour is None, "too few to tell"
        finish(driver, planned)
        os.utime(driver.layout.summary(planned.cell), (5000 + place, 5000 + place))
    found = status(driver.campaign, driver.layout, 8600)
    assert found.per_hour == 3.0
    left = len(driver.campaign.cells) - 4
    assert found.end.timestamp() == 8600 + left / 3 * 3600
    assert "3 cells an hour, at this pace done on" in status_table(found)[1]


def test_limits_of_the_scheduler_are_shown_with_its_words(tmp_path):
    driver = prepared(tmp_path)
    names = [planned.cell.name for planned in driver.campaign.cells]
    words = "qsub: would exceed queue debug's per-user limit"
    note(driver, (names[0], "submitting", {}), (names[0], "waits", {"detail": words}))
    note(driver, (names[1], "submitting", {}), (names[1], "unclear", {"detail": "qsub: come back tomorrow"}))
    with driver.layout.journal.open("a") as journal:
        for day, queue, slots in ((1, "old", 9), (3, "debug", 4), (4, "debug", 3), (5, None, 0)):
            event = {"time": f"2026-05-0{day}T10:00:00+00:00", "event": "limit", "slots": slots, "detail": words}
            journal.write(json.dumps(event | ({"queue": queue} if queue else {})) + "\n")
    driver.start()
    os.utime(driver.layout.driver_lock, (1777723200, 1777723200))  # 2026-05-02 at 12:00 UTC
    found = status(driver.campaign, driver.layout)
    assert (found.cells[0].state, found.cells[0].detail) == ("waiting", f"not taken by the scheduler so far: {words}")
    assert (found.cells[1].state, found.cells[1].detail) == (
        "queued", "not taken by the scheduler so far: qsub: come back tomorrow",
    )  # fmt: skip
    assert found.limits == (
        f"the scheduler takes at most 3 jobs at once in queue debug: {words}",
        f"the scheduler takes no jobs at the moment: {words}",
    )
    assert status_table(found)[1].splitlines()[1:] == list(found.limits)


def test_the_command_prints_it_for_a_pipe_and_escapes_what_it_read(tmp_path):
    driver = prepared(tmp_path)
    note(driver, (driver.campaign.cells[0].cell.name, "refused", {"detail": "[red]no[/red] such queue"}))
    files = {"--profile": "site.yaml", "--campaign": "config.yaml", "--results": "results"}
    words = [word for option, name in files.items() for word in (option, str(tmp_path / name))]
    result = CliRunner().invoke(cli, ["status", *words])
    assert result.exit_code == 0
    assert re.search(r"16 cells: 1 failed, 15 waiting; no driver is running", result.output)
    assert "[red]no[/red] such queue" in result.output


def test_the_time_that_finished_jobs_took_is_summed_by_what_they_do(tmp_path):
    driver = prepared(tmp_path)
    assert spent_line(spent(driver.campaign, driver.layout)) == ""
    for planned in driver.campaign.cells[:2]:
        finish(driver, planned)
    seconds = [read_summary(driver.layout.summary(planned.cell)).seconds_total for planned in driver.campaign.cells[:2]]
    found = spent(driver.campaign, driver.layout)
    assert found["train"] == seconds
    assert spent_line(found) == f"finished jobs took: training {sum(seconds) / 60:.1f} min (2)"
    assert spent_line({"train": [90.0], "infer": [30.0, 60.0], "prune": []}) == (
        "finished jobs took: training 1.5 min (1), inference 1.5 min (2)"
    )
