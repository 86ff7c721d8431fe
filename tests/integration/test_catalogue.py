"""The small campaign in .test/, run as the Snakemake workflow catalogue says that this workflow is run."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bnn.records.columns import read_table
from campaign.results.tables.schemas import TABLES
from tests.support.ranks import BIN, environment, need_horovod

pytestmark = [pytest.mark.snakemake, pytest.mark.mpi, pytest.mark.slow, pytest.mark.thorough]

ROOT = Path(__file__).parents[2]


def test_the_test_campaign_runs_with_the_catalogues_flags(tmp_path):
    need_horovod()
    for name in ("Snakefile", "workflow", "profiles", "config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".test").mkdir()
    shutil.copy(ROOT / ".test/config.yaml", tmp_path / ".test")
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    command = [str(BIN / "snakemake"), *usage["mandatory-flags"]["flags"].split(), "--directory", ".test"]
    done = subprocess.run(
        [*command, "--config", "campaign=config.yaml"], cwd=tmp_path, env=environment(), capture_output=True, text=True,
        timeout=600, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = tmp_path / ".test" / done.stdout.splitlines()[-1]
    assert report.name == "report.html"
    page = report.read_text()
    assert all(f'id="{name}"' in page or f"{name}" in page for name in ("fig1", "fig2c", "fig8"))
    cells = read_table(report.parent / "tables/cells.parquet", TABLES["cells"])
    assert set(cells["verdict"]) <= {"OK", "WARN"}
    assert len(cells) == 5
    assert set(cells["nodes"]) == {1, 2}
    assert len(read_table(report.parent / "tables/pruning_summary.parquet", TABLES["pruning_summary"]))
    assert len(read_table(report.parent / "tables/inference.parquet", TABLES["inference"]))
