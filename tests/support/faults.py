"""A small campaign on an emulated scheduler, run by the real driver: what the tests of failures share.

Jobs are the rendered scripts. Where `bnn` is not what a test is about, stand-ins for it, for the launcher and for the
watchdog come first on the scripts' PATH (by the site's environment) and cost next to nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

from bnn.data import prepare_dataset
from campaign.jobs.train import TrainJob
from campaign.names.layout import Layout
from campaign.plan.campaign import load_campaign
from campaign.plan.content import plan_content
from campaign.run.journal import read_journal
from campaign.site.site import load_site
from campaign.tell.status import CellStatus
from campaign.tell.status import status as campaign_status
from tests.emulators.control import Emulator
from tests.support.campaigns import changed
from tests.support.cells import write_cell
from tests.support.packs import apart
from tests.support.ranks import BIN

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
PROFILE = {"cobalt": "theta", "pbs": "polaris"}  # whose options the driver is given, but for what makes it quick
LAUNCHER = {"cobalt": "aprun", "pbs": "pals"}
CAMPAIGN: dict[str, Any] = {
    "name": "faulty",
    "seed": 3,
    "nodes": [1],
    "accuracy_targets": [0.5],
    "settings": {"epochs": 4, "max_steps": 6, "warmup_steps": 1, "save_posterior": False},
    "studies": {
        "speed": {
            "roles": ["scaling"],
            "dataset": "synthetic",
            "dataset_options": {"shape": [1, 8, 8], "classes": 4, "size": 96, "test_size": 16},
            "models": ["fc"],
            "batch_sizes": [8],
            "repeats": 2,
        }
    },
}
START_S = 60.0  # until something that a driver does must have happened, on a machine that does much else


def site(kind: str) -> dict[str, Any]:
    """A site with one queue; a job may take a minute."""
    return {
        "site": {
            "name": "faulty",
            "hardware": {"cores_per_node": 4},
            "scheduler": {
                "kind": kind,
                "queues": [{"name": "default", "max_nodes": 8, "max_minutes": 600}],
                "walltimes": [{"minutes": 1}],
            },
            "launcher": {"kind": LAUNCHER[kind]},
        }
    }


@dataclass(frozen=True)
class Driven:
    """A driver that has ended: exit code, all that it printed, and each job's line of its closing summary."""

    code: int
    text: str

    @property
    def closing(self) -> dict[str, str]:
        """Outcome by cell, as the closing table has it; empty if there is none."""
        table = self.text.rpartition("\nscript ")[2].splitlines()[1:]
        rows = [re.split(r"  +", line.strip()) for line in table]
        return {row[0]: row[2] for row in rows if len(row) == 6}

    def sentence(self, cell: str) -> str:
        """What is said of a cell that failed, below the closing table; empty if nothing is."""
        below = self.text.rpartition("\nscript ")[2].splitlines()
        return next((line for line in below if re.match(rf"{re.escape(cell)} \S", line)), "")


class Faulty:
    """A campaign in a folder of its own, its scheduler, and the drivers that were started on it."""

    def __init__(
        self,
        folder: Path,
        kind: str = "cobalt",
        campaign: dict[str, Any] = CAMPAIGN,
        stand_ins: bool = True,
        options: dict[str, Any] | None = None,
        site_changes: dict[str, Any] | None = None,
        **emulated: Any,
    ) -> None:
        self.folder, self.kind, self.stand_ins = folder, kind, stand_ins
        self.emulator = Emulator(kind, folder / "scheduler", **emulated)
        self._drivers: list[subprocess.Popen[bytes]] = []
        self._configure(campaign, options or {}, site_changes or {})
        at = load_site(folder / "faulty")
        self.campaign = load_campaign(folder / "campaign.json", at)
        self.layout = Layout(folder / "results", at.name)
        if stand_ins:
            self._write_records()
        for name, asked in self.campaign.datasets():
            record = self.layout.data_record(name, asked)
            record.parent.mkdir(parents=True, exist_ok=True)
            prepare_dataset(name, self.layout.results / "data", **asked)
            record.write_text("{}")

    def _configure(self, campaign: dict[str, Any], options: dict[str, Any], site_changes: dict[str, Any]) -> None:
        """Profile and campaign. JSON is YAML."""
        profile = self.folder / "faulty"
        profile.mkdir()
        known = yaml.safe_load((ROOT / "profiles" / PROFILE[self.kind] / "config.yaml").read_text())
        quick = {"latency-wait": 3, "batch-script-poll": 0.3, "batch-script-retries": 2}
        (profile / "config.yaml").write_text(json.dumps(known | quick | options))
        values = site(self.kind)
        for path, value in site_changes.items():
            values = changed(values, f"site/{path}", value)
        first = PROGRAMS if self.stand_ins else self.emulator.folder / "bin"
        variables = {"PATH": f"{first}:{BIN}:/usr/local/bin:/usr/bin:/bin", "FAULTS": str(self.folder)}
        values["site"]["environment"] = {"variables": variables | {"PYTHONPATH": str(ROOT)}}
        (profile / "site.yaml").write_text(json.dumps(values))
        (self.folder / "campaign.json").write_text(json.dumps(campaign))
        (self.folder / "behave").mkdir()

    def _write_records(self) -> None:
        """What the stand-in for bnn puts into the cells' folders; runs that were started before keep what they had."""
        records = Path(mkdtemp(prefix="records-", dir=self.folder))
        labels = {planned.cell.name: planned.settings.labels for planned in self.campaign.cells}
        for entry in plan_content(self.campaign)["cells"]:
            write_cell(records, entry, profiled=False, labels=labels[entry["name"]])
        (self.folder / "records").unlink(missing_ok=True)
        (self.folder / "records").symlink_to(records)

    # Cells

    @property
    def cells(self) -> list[TrainJob]:
        return list(self.campaign.cells)

    @property
    def names(self) -> list[str]:
        return [planned.cell.name for planned in self.cells]

    def job(self, cell: str) -> str:
        """The name of a cell's job at the scheduler."""
        return f"c-{hashlib.sha256(bytes(self.layout.jobs / f'{cell}.sh')).hexdigest()[:12]}"

    def behave(self, cell: str, *lines: str) -> None:
        """Lines of bash that the stand-in for bnn runs in this cell before it writes records; none: as usual again.

        `$attempt` is the number of the start.
        """
        file = self.folder / "behave" / cell
        aside = file.with_suffix(".new")
        aside.write_text("".join(f"{line}\n" for line in lines))
        aside.rename(file)

    def all_behave(self, *lines: str) -> None:
        for name in self.names:
            self.behave(name, *lines)

    def all_wait(self) -> None:
        """Every cell's run waits for `go`."""
        self.all_behave('while [ ! -e "$FAULTS/go" ]; do sleep 0.1; done')

    def go(self) -> None:
        """Runs that wait go on."""
        (self.folder / "go").touch()

    def starts(self, cell: str) -> int:
        """How often the stand-in for bnn was started in a cell."""
        runs = self.folder / "runs"
        return runs.read_text().splitlines().count(f"start {cell}") if runs.exists() else 0

    def finished(self) -> set[str]:
        """Cells whose summary is there and is of the plan's settings."""
        return {cell.cell.name for cell in self.cells if cell.is_current(self.layout)}

    def journal(self, event: str) -> list[dict[str, Any]]:
        """What the executor wrote down of one sort."""
        return [found for found in read_journal(self.layout) if found["event"] == event]

    def status(self) -> dict[str, CellStatus]:
        """What `campaign status` says of each cell."""
        return {found.cell.name: found for found in campaign_status(self.campaign, self.layout).cells}

    # Drivers

    def start(self) -> subprocess.Popen[bytes]:
        """The driver, asked for all cells, in a session of its own."""
        command = [
            str(BIN / "snakemake"), "--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder),
            "--profile", str(self.folder / "faulty"), *(f"results/{cell.cell.summary}" for cell in self.cells),
            "--config", f"campaign={self.folder / 'campaign.json'}",
        ]  # fmt: skip
        who = pwd.getpwuid(os.geteuid()).pw_name
        environment = self.emulator.env(USER=who, LOGNAME=who)
        environment["PATH"] = f"{self.emulator.folder / 'bin'}:{BIN}:{os.environ['PATH']}"
        environment.pop("BNN_DATA_DIR", None)
        environment.pop("CAMPAIGN_ACCOUNT", None)
        with (self.folder / f"driver-{len(self._drivers)}.log").open("wb") as log:
            driver = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
                # as at a terminal: what a shell starts in the background ignores SIGINT
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )  # fmt: skip
        self._drivers.append(driver)
        return driver

    def said(self, driver: subprocess.Popen[bytes]) -> str:
        """What a driver has printed so far."""
        return (self.folder / f"driver-{self._drivers.index(driver)}.log").read_text(errors="replace")

    def end(self, driver: subprocess.Popen[bytes], timeout: float = 180) -> Driven:
        """Wait until a driver has ended by itself."""
        code = driver.wait(timeout)
        return Driven(code, self.said(driver))

    def run(self) -> Driven:
        return self.end(self.start())

    def kill(self, driver: subprocess.Popen[bytes]) -> None:
        """SIGKILL to the driver alone, as for want of memory: commands that it started go on."""
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait(30)

    def until(self, condition: Callable[[], Any], driver: subprocess.Popen[bytes] | None = None) -> Any:
        """Wait until something holds; fail when that takes too long, or when the driver has ended instead."""
        deadline = time.monotonic() + START_S
        while not (value := condition()):
            assert driver is None or driver.poll() is None, f"the driver has ended:\n{self.said(driver)}"
            assert time.monotonic() < deadline, f"waited in vain; {self.emulator.events()}"
            time.sleep(0.05)
        return value

    def close(self) -> None:
        """End everything that was started."""
        for driver in self._drivers:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
        self.emulator.stop()

    # The scheduler's own log

    def count(self, what: str) -> int:
        """How many events of a sort there were."""
        return len(self.emulator.events(what))

    def events(self) -> list[dict[str, Any]]:
        """Its events, those of packed jobs told cell by cell."""
        return apart(self.emulator.events(), self.layout.jobs)

    def submissions(self) -> dict[str, int]:
        """How often each cell was submitted, by itself or with others."""
        counts = Counter(event["name"] for event in self.events() if event["event"] == "submitted")
        return {name: counts[self.job(name)] for name in self.names}

    def check(self, driven: Driven | None = None, damaged: Collection[str] = ()) -> None:
        """What holds after any failure, by the scheduler's log: see `violations`; and the driver's word agrees.

        `damaged` are cells whose records were damaged after they had succeeded: they may run again.
        """
        events = self.events()
        assert violations(events, {self.job(cell) for cell in damaged}) == []
        assert not self.emulator.overlaps()
        succeeded = {name for name in self.names if self.job(name) in successes(events)}
        assert self.finished() == succeeded, "what is complete is what a job has completed"
        if driven is not None:
            assert (driven.code == 0) == (self.finished() == set(self.names)), driven.text
            assert {name for name, outcome in driven.closing.items() if outcome == "done"} <= succeeded


def successes(events: list[dict[str, Any]]) -> set[str]:
    """Names of the jobs of which one ended with exit code 0."""
    return {event["name"] for event in events if event["event"] == "ended" and event.get("exit_code") == 0}


def violations(events: list[dict[str, Any]], damaged: Collection[str] = ()) -> list[str]:
    """What must not be in a scheduler's log.

    Two jobs of a name at a time, a job after one of the same name has succeeded (unless it was `damaged` then), and a
    job that never ended.
    """
    found = []
    running: dict[str, str] = {}
    live: dict[str, str] = {}
    done: set[str] = set()
    for event in events:
        name, job, what = event["name"], event["id"], event["event"]
        if what == "submitted":
            live[job] = name
            if name in done and name not in damaged:
                found.append(f"{name}: submitted again after it had succeeded (job {job})")
        elif what == "started":
            if name in running:
                found.append(f"{name}: jobs {running[name]} and {job} ran at the same time")
            running[name] = job
        elif what == "ended":
            live.pop(job, None)
            if running.get(name) == job:
                del running[name]
            if event.get("exit_code") == 0:
                done.add(name)
    return found + [f"{name}: job {job} never ended" for job, name in live.items()]
