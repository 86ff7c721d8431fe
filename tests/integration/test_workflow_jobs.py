"""Which jobs Snakemake runs: exactly those whose record is not as the plan asks, whatever it remembers or times say.

Records are made up, and `bnn` is a stand-in that copies them: what is tested is the graph, not what jobs compute.
"""

import os
import random
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bnn.records.bench import header_path
from campaign.io.unreadable import aside
from campaign.plan.campaign import load_campaign
from campaign.results.report.series import rerun
from campaign.site.site import load_site
from tests.integration.test_workflow import ROOT, SITE, Project
from tests.support.finished import finish, snapshot
from tests.support.ranks import BIN

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]

CAMPAIGN = """
name: mini
seed: 1
nodes: [1]
settings: {width: 0.125, engine: single, max_steps: 12}
studies:
  learn:
    roles: [scaling]
    dataset: mnist-sample
    models: [fc]
    batch_sizes: [50]
    repeats: 2
    settings: {epochs: 1}
    infer: {draws: 20, images: 50}
    prune: {percent: [50], draws: 5, images: 50, sweeps: [{semantics: zero}]}
bench: {models: [fc], batch_sizes: [8], rounds: 2}
"""
JOBS = {"train", "infer", "prune", "bench"}
ALL = {"train": 4, "infer": 2, "prune": 2}  # two cells are Bayesian
BNN = """#!/usr/bin/env bash
# Stand-in for bnn: what a job leaves is what lies at the same place below records/.
echo "$1" >>"{folder}/runs"
while [ "$1" != --out ]; do shift; done
out=${{2#results/}}
[ -d "$2" ] && cp -r "{folder}/records/$out/." "$2/" || cp "{folder}/records/${{out%.*}}".* "${{2%/*}}/"
"""


class Small(Project):
    """A campaign of which all records are there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CAMPAIGN)
        (folder / "bin").mkdir()
        (folder / "bin/bnn").write_text(BNN.format(folder=folder))
        (folder / "bin/mpiexec").write_text('#!/usr/bin/env bash\nshift 2\nexec "$@"\n')
        (folder / "bin/python").write_text((ROOT / "tests/support/programs/python").read_text())
        for program in (folder / "bin").iterdir():
            program.chmod(0o755)
        variables = f"environment: {{variables: {{PATH: '{folder}/bin:/usr/bin:/bin'}}}}"
        site = SITE.replace("  profiler: {kind: bnn, timeline: true}", "  " + variables)
        (folder / "profiles/mini/site.yaml").write_text(site)
        layout = self.layout
        finish(self.planned, layout)
        for name, options in self.planned.datasets():
            record = layout.data_record(name, options)
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text("{}")
        shutil.copytree(layout.root, folder / "records/mini")

    @property
    def planned(self):
        return load_campaign(self.folder / "mini.yaml", load_site(self.folder / "profiles/mini"))

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Of a dry run, the jobs that are no drawing."""
        return {rule: count for rule, count in self.dry_jobs(*arguments).items() if rule in JOBS}

    def records(self) -> list[str]:
        """All records, as targets."""
        return [str(job.record(self.layout).relative_to(self.folder)) for job in self.planned.jobs]

    def again(self) -> None:
        """All records as they were, and nothing else."""
        for folder in (self.layout.root, self.folder / ".snakemake"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / "records/mini", self.layout.root)
        (self.folder / "mini.yaml").write_text(CAMPAIGN)
        (self.folder / "runs").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def project(made):
    made.again()
    return made


def test_a_fresh_folder_runs_all_and_a_finished_one_nothing_by_any_target(project):
    assert project.jobs("all_figures") == {}
    assert project.jobs("peer_comparison") == {}
    shutil.rmtree(project.layout.root)
    assert project.jobs("all_figures") == ALL
    assert project.jobs("peer_comparison") == {"bench": 1}
    assert project.jobs("cpu_scaling") == {"train": 4}
    assert project.jobs("report") == {}


def test_times_and_memories_of_others_are_no_reason(project):
    shuffled = random.Random(0)
    for path in project.layout.root.rglob("*"):
        moment = shuffled.randint(10**9, 2 * 10**9)
        os.utime(path, (moment, moment))
    assert project.jobs("all_figures") == {}
    assert project.jobs("peer_comparison") == {}


def test_the_reports_command_runs_the_cells_of_a_point_again_and_no_others(project):
    """By a shell as a reader would, but for the campaign's file, which is config.yaml by default."""
    cells = project.cells()
    point = asdict(cells[0]) | {"implementation": "any"}
    mine = [cell for cell in cells if replace(cell, repeat=1) == replace(cells[0], repeat=1)]
    command = f"{rerun(point, [cell.repeat for cell in mine])} --config campaign=mini.yaml"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (project.folder / "runs").read_text().split() == ["train"] * len(mine) == ["train"] * 2
    assert all(project.layout.summary(cell).exists() for cell in cells)


def test_what_snakemake_remembers_of_other_rules_is_no_reason(project):
    """Records made by rules of another text, with other inputs and parameters, as an earlier version had them."""
    shutil.rmtree(project.layout.folder(project.cells()[0]))
    rules = project.folder / "workflow/rules/jobs.smk"
    text = rules.read_text()
    older = text.replace('"bash {', '"bash -e {').replace(
        "            unpack(", '            "mini.yaml",\n            unpack('
    )
    rules.write_text(older.replace("fingerprint=", "settings="))
    done = project.snakemake(*project.records())
    assert done.returncode == 0, done.stderr
    assert sorted((project.folder / "runs").read_text().split()) == ["infer", "prune", "train"]
    rules.write_text(text)
    assert (project.folder / ".snakemake/metadata").exists()
    assert project.jobs("all_figures") == {}


def test_a_cell_of_other_settings_is_trained_and_what_is_after_it_runs_again(project):
    file = project.folder / "mini.yaml"
    file.write_text(CAMPAIGN.replace("max_steps: 12", "max_steps: 13"))
    assert project.jobs("all_figures") == ALL
    assert project.jobs("report") == {}, "the report is of what has been measured"
    file.write_text(CAMPAIGN.replace("draws: 20", "draws: 21"))
    assert project.jobs("all_figures") == {"infer": 2}
    file.write_text(CAMPAIGN.replace("rounds: 2", "rounds: 3"))
    assert project.jobs("all_figures") == {}
    assert project.jobs("peer_comparison") == {"bench": 1}


@pytest.mark.parametrize("harm", ["damaged", "deleted", "of other settings"])
def test_one_cell_alone_runs_and_what_is_after_it(project, harm):
    cell = next(cell for cell in project.cells() if cell.kind == "bnn")
    summary, whole = project.layout.summary(cell), project.layout.summary(cell).read_text()
    if harm == "damaged":
        summary.write_text(whole[:100])
    elif harm == "deleted":
        summary.unlink()
    else:
        summary.write_text(re.sub(r'"hash":\s?"\w+"', '"hash": "0"', whole))
    harmed = summary.read_text() if summary.exists() else None
    expected = {"train": 1, "infer": 1, "prune": 1}
    assert project.jobs("all_figures") == expected
    assert project.jobs(*project.records()) == expected, "also where all are asked for by name"
    assert (summary.read_text() if summary.exists() else None) == harmed, "a dry run sets nothing aside"
    done = project.snakemake(*project.records())
    assert done.returncode == 0, done.stderr
    runs = (project.folder / "runs").read_text().split()
    assert (runs[0], sorted(runs[1:])) == ("train", ["infer", "prune"])
    assert summary.read_text() == whole
    assert aside(summary).exists() == (harm == "damaged")
    assert project.jobs("all_figures") == {}


def test_rows_without_their_header_are_measured_again(project):
    (point,) = project.planned.bench
    header_path(point.record(project.layout)).unlink()
    assert project.jobs("peer_comparison") == {"bench": 1}


def test_records_named_as_targets(project):
    records = project.records()
    assert project.jobs(*records) == {}
    before = snapshot(project.layout.root / "cells")
    done = project.snakemake(*records)
    assert done.returncode == 0, done.stderr
    assert snapshot(project.layout.root / "cells") == before
    assert not (project.folder / "runs").exists()
    strange = records[0].replace("batch=50", "batch=51")
    done = project.snakemake(strange)
    assert done.returncode == 2
    assert f"{strange}: of no job of campaign mini on mini" in done.stderr


def test_a_results_folder_by_its_absolute_path(project, tmp_path):
    shutil.copytree(project.layout.root, tmp_path / "mini")
    shutil.rmtree(tmp_path / "mini/infer")
    command = [str(BIN / "snakemake"), "--profile", "profiles/mini", "--config", "campaign=mini.yaml"]
    done = project.snakemake("-n", "all_figures", command=[*command, f"results={tmp_path}"])
    assert re.search(r"^infer +2$", done.stdout, re.M)
    assert not re.search(r"^(train|prune) ", done.stdout, re.M)


def test_looking_writes_nothing(project):
    shutil.rmtree(project.layout.folder(project.cells()[0]))
    damaged = project.layout.summary(project.cells()[1])
    damaged.write_text("{")
    before = snapshot(project.layout.results)
    assert project.jobs("all_figures")["train"] == 2
    name = project.cells()[0].name
    linted = project.snakemake("--lint")  # wants a conda environment for each rule: no error here
    assert "Lints for rule train" in linted.stdout + linted.stderr
    for done in (
        project.snakemake("--list-rules"),
        project.campaign("why", name),
        project.campaign("status"),
    ):
        assert done.returncode == 0, done.stdout + done.stderr
    assert snapshot(project.layout.results) == before
    assert project.campaign("plan").returncode == 0
    assert project.layout.job(name).exists()
    assert not damaged.exists()


def test_a_run_whose_files_change_before_its_first_job_ends_in_one_line(project):
    shutil.rmtree(project.layout.folder(project.cells()[0]))
    with (project.folder / "workflow/rules/common.smk").open("a") as rules:
        rules.write('\nopen("mini.yaml", "a").write("accuracy_targets: [0.5]\\n")\n')
    try:
        done = project.snakemake("all_figures")
    finally:
        shutil.copy(ROOT / "workflow/rules/common.smk", project.folder / "workflow/rules")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "mini.yaml or profiles/mini/site.yaml has changed since it was read: start again"
    )
    assert not (project.folder / "runs").exists()
    assert not project.layout.plan.exists()
