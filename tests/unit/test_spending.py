"""What `campaign plan` says that the jobs which are to run may cost at most."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch

from bnn.cli import main
from bnn.posterior.save import save_network
from bnn.records.summary import FileEntry
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.plan.content import plan_content
from campaign.site.site import parse_site
from campaign.tell.plan_table import spending
from tests.support.bench import SECONDS, write_bench
from tests.support.campaigns import SITE, campaign, changed
from tests.support.cells import write_cell
from tests.support.posteriors import paper_network
from tests.unit.test_after_jobs import LEARN

QUEUES = [{"name": "all", "max_nodes": 8, "max_minutes": 6000}]
LIMITS = [  # in hours: 1 for a cell, 10 for infer, 100 for bench
    {"minutes": 600, "where": {"jobs": ["infer"]}},
    {"minutes": 6000, "where": {"jobs": ["bench"]}},
    {"minutes": 60},
]
SCHEDULER = {"kind": "slurm", "queues": QUEUES, "walltimes": LIMITS}
STUDY = {key: value for key, value in LEARN.items() if key != "prune"} | {
    "nodes": [1], "kinds": ["bnn"], "repeats": 2, "infer": {"draws": 4, "images": 60},
}  # fmt: skip
CAMPAIGN = {
    "name": "tiny",
    "seed": 7,
    "nodes": [1],
    "accuracy_targets": [0.5],
    "settings": {"epochs": 2},
    "studies": {"learn": STUDY},
    "bench": {"models": ["fc"], "batch_sizes": [32, 128], "rounds": 3},
}


def hours(found: Campaign, layout: Layout) -> int:
    text = spending(found, layout)
    return int(text.split(": ")[1].split(" node-hours")[0].replace(",", ""))


def test_only_jobs_that_are_to_run_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = campaign(CAMPAIGN, parse_site(changed(SITE, "site/scheduler", SCHEDULER), "site.yaml"))
    layout, plan = Layout(tmp_path, "toy"), plan_content(found)
    assert hours(found, layout) == 2 * 1 + 2 * 10 + 2 * 100
    write_bench(tmp_path, plan["bench"][0], SECONDS)
    assert hours(found, layout) == 2 * 1 + 2 * 10 + 1 * 100
    job = found.after[0]
    [planned] = [planned for planned in found.cells if planned.cell == job.cell]
    [entry] = [entry for entry in plan["cells"] if entry["name"] == job.cell.name]
    write_cell(tmp_path, entry, steps=12, labels=planned.settings.labels)
    assert hours(found, layout) == 1 * 1 + 2 * 10 + 1 * 100
    torch.manual_seed(0)
    save_network(paper_network("fc", 1 / 16, seed=1), layout.posterior(job.cell) / "step-12")
    out = job.record(layout).parent
    monkeypatch.setattr(sys, "argv", ["bnn", "infer", str(layout.posterior(job.cell)), *job.options, "--out", str(out)])
    main()
    assert job.is_current(layout)
    assert hours(found, layout) == 1 * 1 + 1 * 10 + 1 * 100
    os.utime(layout.summary(job.cell), (later := time.time() + 60, later))
    assert hours(found, layout) == 1 * 1 + 1 * 10 + 1 * 100, "times say nothing"
    saved = {"posterior/step-12/posterior.safetensors": FileEntry(bytes=1, sha256="0" * 64)}
    shutil.rmtree(layout.summary(job.cell).parent)
    write_cell(tmp_path, entry, steps=12, labels=planned.settings.labels, manifest=saved)  # trained again
    assert hours(found, layout) == 1 * 1 + 2 * 10 + 1 * 100
