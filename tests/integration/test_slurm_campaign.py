"""A campaign on a real Slurm of four hosts: real Horovod ranks on 1, 2 and 4 nodes, submitted by the real driver."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bnn.records import PROVENANCE, Provenance, Summary
from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.plan.campaign import load_campaign
from campaign.run.journal import read_journal
from campaign.site.site import load_site
from tests.support.ranks import BIN, environment, need_horovod
from tests.support.slurm import Cluster

pytest_plugins = ["tests.support.slurm"]
pytestmark = [pytest.mark.snakemake, pytest.mark.mpi, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SITE = """
site:
  name: virtual
  title: four virtual hosts
  hardware: {cores_per_node: 2}
  scheduler:
    kind: slurm
    queues: [{name: debug, max_nodes: 4, max_minutes: 30}]
    walltimes: [{minutes: 10}]
  launcher: {kind: LAUNCHER}
  profiler: {kind: bnn}
"""
CAMPAIGN = """
name: mini
seed: 1
nodes: [1, 2, 4]
settings: {width: 0.125, warmup_steps: 1, rho_init: -4, learning_rate: 1e-3}
studies:
  mini:
    roles: [scaling]
    dataset: synthetic
    dataset_options: {shape: [1, 8, 8], classes: 4, size: 96, test_size: 16}
    models: [fc]
    batch_sizes: [8]
    settings: {epochs: 2, save_posterior: false}
"""


class Project:
    """A site on the virtual hosts, with the options of profiles/slurm but a shorter poll."""

    def __init__(self, folder: Path, launcher: str = "mpiexec", campaign: str = CAMPAIGN, scheduler: str = "") -> None:
        self.folder, self.profile = folder, folder / "virtual"
        self.profile.mkdir()
        options = (ROOT / "profiles/slurm/config.yaml").read_text()
        options = re.sub(r"seconds-between-status-checks: \d+", "seconds-between-status-checks: 1", options)
        (self.profile / "config.yaml").write_text(options)
        text = SITE.replace("LAUNCHER", launcher).replace("    walltimes:", f"{scheduler}    walltimes:")
        (self.profile / "site.yaml").write_text(text)
        (folder / "mini.yaml").write_text(campaign)
        self.layout = Layout(folder / "results", "virtual")

    def command(self, *words: str) -> list[str]:
        config = [f"campaign={self.folder}/mini.yaml", f"results={self.folder}/results"]
        return [str(BIN / "snakemake"), "--profile", str(self.profile), *words, "--config", *config]

    def run(self, *words: str) -> str:
        """What the driver said. AssertionError with it where it fails."""
        done = subprocess.run(
            self.command(*words), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "driver.log").open("wb") as log:
            return subprocess.Popen(
                self.command(*words), cwd=ROOT, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def cells(self) -> list[Cell]:
        found = load_campaign(self.folder / "mini.yaml", load_site(self.profile))
        return [planned.cell for planned in found.cells]

    def starts(self, cell: Cell) -> int:
        """How often the cell's job has begun to train."""
        log = self.layout.folder(cell) / "job.log"
        return log.read_text().count("# job slurm ") if log.exists() else 0


def test_ranks_run_on_as_many_hosts_as_a_cell_has_nodes(cluster: Cluster, tmp_path: Path) -> None:
    need_horovod()
    project = Project(tmp_path)
    said = project.run("cpu_scaling")
    assert len(project.cells()) == 6
    for cell in project.cells():
        folder = project.layout.folder(cell)
        summary = Summary.model_validate_json((folder / "summary.json").read_bytes())
        provenance = Provenance.model_validate_json((folder / PROVENANCE).read_bytes())
        assert summary.verdict.status in ("OK", "WARN"), summary.verdict.reasons
        hosts = {rank.hostname for rank in provenance.ranks}
        assert (summary.ranks, len(hosts)) == (cell.nodes, cell.nodes)
        assert hosts <= set(cluster.nodes)
        assert project.starts(cell) == 1
        assert len(list((folder / "mpi").glob("*.parquet"))) == cell.nodes
    events = [(event["event"], event.get("outcome")) for event in read_journal(project.layout)]
    assert events.count(("submitted", None)) == 6
    assert events.count(("ended", "done")) == 6
    assert "6 done" in said
    assert project.layout.figure("fig2c", "png").exists()
    assert "Nothing to be done" in project.run("-n", "cpu_scaling")


def test_a_driver_that_was_killed_attaches_to_its_jobs(cluster: Cluster, tmp_path: Path) -> None:
    need_horovod()
    steps = CAMPAIGN.replace("epochs: 2", "epochs: 60").replace("nodes: [1, 2, 4]", "nodes: [2]")
    project = Project(tmp_path, campaign=steps)
    driver = project.start("cpu_scaling")
    deadline = time.monotonic() + 120
    while sum(event["event"] == "running" for event in read_journal(project.layout)) < 2:
        assert driver.poll() is None, (tmp_path / "driver.log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "driver.log").read_text()
        time.sleep(0.1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    said = project.run("cpu_scaling")
    assert [project.starts(cell) for cell in project.cells()] == [1, 1], said
    kinds = [event["event"] for event in read_journal(project.layout)]
    assert kinds.count("submitted") == 2, json.dumps(list(read_journal(project.layout)))


@pytest.mark.parametrize(
    "launcher",
    ["mpiexec", pytest.param("srun, options: [--mpi=none]", marks=pytest.mark.thorough)],
    ids=["mpiexec", "srun"],
)
def test_cells_share_a_job_on_hosts_of_their_own(cluster: Cluster, tmp_path: Path, launcher: str) -> None:
    """Four cells of one and two nodes on four hosts, at most twice in turn: one job."""
    need_horovod()
    shared = "    packing: {nodes: 4, in_turn: 2}\n"
    campaign = CAMPAIGN.replace("nodes: [1, 2, 4]", "nodes: [1, 2]")
    if launcher != "mpiexec":
        campaign = campaign.replace("width: 0.125,", "width: 0.125, engine: torch,")
    project = Project(tmp_path, launcher, campaign, scheduler=shared)
    said = project.run("cpu_scaling")
    assert "4 done" in said
    packs = list((project.layout.jobs / ".packs").iterdir())
    assert len(packs) == 1, said
    spans = []
    for cell in project.cells():
        started, ended = (json.loads((packs[0] / f"{cell.name}.{what}").read_text()) for what in ("started", "ended"))
        folder = project.layout.folder(cell)
        provenance = Provenance.model_validate_json((folder / PROVENANCE).read_bytes())
        hosts = {rank.hostname for rank in provenance.ranks}
        assert hosts == set(started["nodes"])
        assert len(hosts) == cell.nodes
        assert project.starts(cell) == 1
        spans.append((started["time"], ended["time"], hosts))
    assert all(
        not (one[2] & other[2]) or one[1] <= other[0] or other[1] <= one[0]
        for i, one in enumerate(spans)
        for other in spans[:i]
    )
    assert len({event["job"].partition(":")[0] for event in read_journal(project.layout) if event.get("job")}) == 1


def test_srun_starts_ranks_of_torch_distributed(cluster: Cluster, tmp_path: Path) -> None:
    """Rank 0's host comes from Slurm's list of nodes; there is no MPI in such a run."""
    campaign = CAMPAIGN.replace("nodes: [1, 2, 4]", "nodes: [2]").replace(
        "models: [fc]", "models: [fc]\n    kinds: [cnn]"
    )
    campaign = campaign.replace("width: 0.125,", "width: 0.125, engine: torch,")
    project = Project(tmp_path, "srun, options: [--mpi=none]", campaign)
    project.run(str(project.layout.summary(project.cells()[0])))
    folder = project.layout.folder(project.cells()[0])
    provenance = Provenance.model_validate_json((folder / PROVENANCE).read_bytes())
    assert {rank.hostname for rank in provenance.ranks} <= set(cluster.nodes)
    assert len({rank.hostname for rank in provenance.ranks}) == 2
    assert Summary.model_validate_json((folder / "summary.json").read_bytes()).engine == "torch"
    assert not (folder / "mpi").exists()
