"""Target methods through the real Snakemake: it alone runs its study, and leaves tables, figures and the report."""

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
settings: {width: 0.125, warmup_steps: 1, rho_init: -4, learning_rate: 1e-3, engine: single, epochs: 1, max_steps: 30}
studies:
  draws:
    roles: []
    target: methods
    dataset: mnist-sample
    models: [fc]
    kinds: [bnn]
    batch_sizes: [50]
    infer: {draws: 5, images: 50, shift: [noise:2], ood: {dataset: infinite-mnist, images: 20}}
  deterministic:
    roles: []
    target: methods
    dataset: images
    dataset_options: {name: not-here, train_size: 4000}
    instead: {dataset: mnist-sample}
    models: [fc]
    kinds: [cnn]
    batch_sizes: [50]
    infer: {draws: 1, images: 50, kinds: [cnn], temperature: 1.5}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("project"), CAMPAIGN)


def test_no_other_target_runs_it(project):
    assert not {"train", "infer", "infer_conditions"} & set(project.dry_jobs("all_figures"))
    planned = project.dry_jobs("methods")
    assert (planned["train"], planned["infer"], planned["infer_conditions"]) == (2, 2, 2)


def test_it_leaves_the_table_the_figures_and_a_page_that_says_it(project):
    done = project.snakemake("methods")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "mnist-sample in place of not-here, which is not prepared here" in done.stdout + done.stderr
    layout = project.layout
    found = load_campaign(project.folder / "mini.yaml", load_site(project.folder / "profiles/mini"))
    assert all(job.is_current(layout) for job in found.after)
    rows = read_table(layout.table("methods"), TABLES["methods"]).set_index(["method", "shift"])
    assert sorted(rows.index) == [
        ("at temperature 1.5", ""), ("deterministic", ""), ("flipout", ""), ("flipout", "noise:2"),
    ]  # fmt: skip
    assert rows["cost"].notna().all()
    assert 0 <= rows.loc[("flipout", ""), "ood_auroc_entropy"] <= 1
    for name in ("uncertainty", "uncertainty_draws"):
        assert layout.figure(name, "svg").stat().st_size > 5000
    page = layout.report.read_text()
    assert 'id="methods-table"' in page
    assert "a single repeat: no intervals" in page
    assert project.dry_jobs("methods") == {}


@pytest.mark.browser
@with_chromium
def test_its_report_can_be_read(project, browser):
    assert_readable(browser, project.layout.report)
