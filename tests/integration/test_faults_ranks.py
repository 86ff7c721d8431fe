"""Real ranks in emulated batch jobs: a full disk, a rank that dies or hangs, and records that were damaged."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bnn.records.heartbeat import HeartbeatRecord, read_heartbeats
from campaign.jobs.train import read_summary
from campaign.tell.status import FAILED
from campaign.tell.why import why
from tests.support.campaigns import changed
from tests.support.faults import CAMPAIGN, Driven, Faulty
from tests.support.late_model import ASLEEP_AT
from tests.support.ranks import need_horovod

pytestmark = [pytest.mark.snakemake, pytest.mark.slow, pytest.mark.mpi]


Start = Callable[..., Faulty]


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Start]:
    need_horovod()
    made = []

    def start(kind: str, ranks: int, settings: dict[str, Any], model: str = "fc", **more: Any) -> Faulty:
        study = {
            "models": [model], "kinds": ["bnn" if model == "fc" else "cnn"], "repeats": 1,
            "settings": {"max_steps": None, **settings},
        }  # fmt: skip
        asked = changed(CAMPAIGN, "studies/speed", CAMPAIGN["studies"]["speed"] | study)
        changes = {"ranks_per_node": ranks, **more.pop("site_changes", {})}
        options = {"batch-script-retries": 0}
        made.append(Faulty(tmp_path, kind, asked, stand_ins=False, options=options, site_changes=changes, **more))
        return made[-1]

    yield start
    for faulty in made:
        faulty.close()


def output(driven: Driven, cell: str) -> str:
    """What the failed job wrote, where the closing summary says it did."""
    log = Path(driven.sentence(cell).rpartition("; log: ")[2])
    return "".join(path.read_text() for path in (log, log.with_suffix(".error")) if path.exists())


LATE = "tests.support.late_model:late"
QUICK = {"save_posterior": False, "checkpoint_epochs": 1}


def failed_then_finished(faulty: Faulty, first: Driven, code: int, word: str = "") -> str:
    """What holds after a driver that lost its only cell, and after a second one; returns the lost job's output."""
    [cell] = faulty.names
    faulty.check(first)
    assert first.closing == {cell: "failed"}
    assert f"failed: exit code {code}; log: " in first.sentence(cell)
    status = faulty.status()[cell]
    assert status.state == FAILED
    assert status.detail.startswith("failed, ")
    assert re.search(word, status.detail)
    assert f", exit code {code}, " in status.detail
    assert f"its last job: {status.detail}" in why(faulty.cells[0], faulty.layout)
    said = output(first, cell)
    again = faulty.run()
    assert again.closing == {cell: "done"}, again.text
    assert faulty.submissions() == {cell: 2}
    faulty.check(again)
    return said


def test_a_rank_that_dies_while_others_exchange_ends_the_job_and_the_next_one_finishes(campaign: Start) -> None:
    """Rank 1 waits for rank 0 in the exchange of its gradients when it is killed."""
    faulty = campaign("pbs", 2, QUICK, LATE)
    folder = faulty.layout.folder(faulty.cells[0].cell)
    (faulty.folder / "sleep-0").touch()
    driver = faulty.start()

    def waiting() -> HeartbeatRecord | None:
        ranks = read_heartbeats(folder)
        return next((r for r in ranks if (r.rank, r.step, r.part) == (1, ASLEEP_AT, "exchange")), None)

    os.kill(faulty.until(waiting, driver).pid, signal.SIGKILL)
    said = failed_then_finished(faulty, faulty.end(driver), code=9)
    assert "Killed (signal 9)" in said


def test_a_rank_that_hangs_is_named_by_the_watchdog_and_the_next_job_finishes(campaign: Start) -> None:
    faulty = campaign("cobalt", 2, QUICK, LATE, site_changes={"watchdog": {"limit": 15, "start_limit": 120}})
    (faulty.folder / "sleep-1").touch()
    word = rf"watchdog: no rank has moved for \d+ s; late: rank 1 on \S+ .*: step {ASLEEP_AT} of"
    said = failed_then_finished(faulty, faulty.run(), 70, word)
    assert "ended by the watchdog" in said
    assert re.search(word, said)
    assert "rank 0" not in said


def test_a_full_disk_is_told_and_the_run_finishes_once_there_is_room(campaign: Start) -> None:
    """The cell's folder is a file system of 256 KiB: the log and the first records fit, a checkpoint does not."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    faulty = campaign("cobalt", 1, {"checkpoint_epochs": 1})
    folder = faulty.layout.folder(faulty.cells[0].cell)
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        first = faulty.run()
        assert not faulty.layout.summary(faulty.cells[0].cell).exists()
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        assert "No space left on device" in failed_then_finished(faulty, first, code=1)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_run_that_died_early_leaves_records_that_do_not_hinder_the_next(campaign: Start) -> None:
    """Half-written records, a checkpoint that was cut, and a summary that is none."""
    faulty = campaign("pbs", 1, QUICK)
    [planned], [cell] = faulty.cells, faulty.names
    folder = faulty.layout.folder(planned.cell)
    for path in ("cell.json", "summary.json", "provenance.json", "steps.parquet", ".partial-3/steps.parquet",
                 "heartbeat/rank-0.json", ".checkpoint/step-12/shared.safetensors"):  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text('{"hash": ')
    driven = faulty.run()
    assert driven.closing == {cell: "done"}, driven.text + output(driven, cell)
    faulty.check(driven)
    summary = read_summary(faulty.layout.summary(planned.cell))
    assert summary is not None
    assert summary.steps == summary.steps_per_epoch * planned.settings.epochs
    assert set(summary.manifest) <= {path.name for path in folder.iterdir()}
