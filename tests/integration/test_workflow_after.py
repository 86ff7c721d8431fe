"""Inference and pruning as jobs after cells, and studies of a target's own, through the real Snakemake.

Each runs once, and again for a reason only.
"""

import json
import os

import pytest

from bnn.records.columns import read_table
from campaign.plan.campaign import load_campaign
from campaign.results.tables.schemas import TABLES
from campaign.site.site import load_site
from tests.integration.test_workflow import Project
from tests.support.browser import assert_readable, with_chromium

pytestmark = [pytest.mark.snakemake, pytest.mark.slow]

CAMPAIGN = """
name: mini
seed: 1
nodes: [1]
accuracy_targets: [0.2]
settings: {width: 0.125, warmup_steps: 1, rho_init: -4, learning_rate: 1e-3, engine: single}
studies:
  learn:
    roles: [pruning]
    dataset: mnist-sample
    models: [fc]
    kinds: [bnn]
    batch_sizes: [50]
    settings: {epochs: 1, max_steps: 30}
    infer: {draws: 20, images: 50}
    prune: {percent: [50, 90], draws: 5, images: 50, sweeps: [{semantics: zero}, {semantics: zero, by: unit}]}
  full:
    roles: [pruning]
    target: pruning_full
    dataset: mnist-sample
    models: [fc]
    kinds: [bnn]
    batch_sizes: [40]
    settings: {epochs: 1, max_steps: 3}
    prune: {percent: [50], draws: 2, images: 50, sweeps: [{semantics: bprune}]}
  timed:
    roles: [accuracy]
    target: time_to_accuracy
    dataset: mnist-sample
    models: [fc]
    kinds: [bnn, cnn]
    batch_sizes: [20]
    settings: {epochs: 1, max_steps: 30}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("project"), CAMPAIGN)


def jobs(project):
    return load_campaign(project.folder / "mini.yaml", load_site(project.folder / "profiles/mini")).after


def test_all_figures_infers_and_prunes_what_was_trained(project):
    done = project.snakemake("all_figures")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    mine = [job for job in jobs(project) if not job.target]
    assert len(mine) == 3
    for job in mine:
        assert job.record(project.layout).exists()
    for name in ("fig8", "fig9b", "snr", "pruning_speed", "inference_runtime", "inference_convergence"):
        assert project.layout.figure(name, "svg").stat().st_size > 5000
    page = project.layout.report.read_text()
    assert 'id="inference-table"' in page
    assert page.count("<tr title=") >= 3
    assert "pruning_full" not in page
    assert "time_to_accuracy" not in page
    assert project.dry_jobs("all_figures") == {}


@pytest.mark.browser
@with_chromium
def test_its_report_can_be_read(project, browser):
    assert_readable(browser, project.layout.report)
    for page in sorted(project.layout.report_cells.glob("*.html"))[:2]:
        assert_readable(browser, page)


def test_other_draws_run_inference_again_and_train_nothing(project):
    file = project.folder / "mini.yaml"
    file.write_text(CAMPAIGN.replace("draws: 20", "draws: 21"))
    planned = project.dry_jobs("all_figures")
    assert planned["infer"] == 1
    assert "train" not in planned
    assert "prune" not in planned
    file.write_text(CAMPAIGN)
    assert "infer" not in project.dry_jobs("all_figures")


def test_a_cell_trained_again_is_pruned_again_whatever_times_say(project):
    mine = [job for job in jobs(project) if not job.target]
    summary = project.layout.summary(mine[0].cell)
    before = summary.read_text()
    later = max(job.record(project.layout).stat().st_mtime for job in mine) + 5
    os.utime(summary, (later, later))
    assert not {"train", "infer", "prune"} & set(project.dry_jobs("all_figures")), "touched only"
    manifest = json.loads(before)["manifest"]
    (weights,) = [entry["sha256"] for name, entry in manifest.items() if name.endswith(".safetensors")]
    summary.write_text(before.replace(weights, "0" * len(weights)))
    os.utime(summary, (later - 3600, later - 3600))
    planned = project.dry_jobs("all_figures")
    assert (planned["infer"], planned["prune"]) == (1, 2)
    assert "train" not in planned
    summary.write_text(before)
    os.utime(summary, (later - 3600, later - 3600))
    assert not {"train", "infer", "prune"} & set(project.dry_jobs("all_figures"))


def test_records_that_cannot_be_read_are_made_anew_whatever_snakemake_remembers(project):
    mine = [job for job in jobs(project) if not job.target]
    records = [job.record(project.layout) for job in mine]
    for record in records:
        record.write_text('{"posterior": ')
    planned = project.dry_jobs("all_figures")
    assert (planned["infer"], planned["prune"]) == (1, 2)
    assert "train" not in planned
    done = project.snakemake("all_figures")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all(job.is_current(project.layout) for job in mine)
    assert project.dry_jobs("all_figures") == {}


def test_the_target_of_a_study_runs_it_alone(project):
    assert "full" not in str(project.dry_jobs("all_figures"))
    planned = project.dry_jobs("pruning_full")
    assert (planned["train"], planned["prune"]) == (1, 1)
    done = project.snakemake("pruning_full")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (job,) = [job for job in jobs(project) if job.target]
    assert job.record(project.layout).exists()
    assert project.dry_jobs("pruning_full") == {}


def test_time_to_accuracy_trains_its_study_and_draws_it(project):
    assert project.dry_jobs("time_to_accuracy")["train"] == 2
    done = project.snakemake("time_to_accuracy")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = read_table(project.layout.table("accuracy"), TABLES["accuracy"])
    assert set(zip(rows["kind"], rows["definition"], strict=True)) == {
        (kind, definition) for kind in ("bnn", "cnn") for definition in ("running", "epoch")
    }
    assert rows.loc[(rows["kind"] == "cnn") & (rows["definition"] == "running"), "reached"].all()
    assert "accuracy 0.2" in project.layout.figure("fig3c", "svg").read_text()
    assert project.dry_jobs("time_to_accuracy") == {}
