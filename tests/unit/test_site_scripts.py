"""The sites that come with the project: their scripts as their users would have written them.

Golden files are written anew by UPDATE_GOLDEN=1 pytest tests/unit/test_site_scripts.py; look at the difference.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaign.io.yamlfile import read_yaml
from campaign.names.layout import Layout
from campaign.plan.campaign import load_campaign
from campaign.render.scripts import Place, pack_texts, render_jobs, script_text
from campaign.site.machine import Machine
from campaign.site.site import load_site, parse_site

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "scripts"
SITES = sorted(path.parent.name for path in ROOT.glob("profiles/*/site.yaml"))
# One cell on several nodes (or GPUs) of each site, as the campaign names it.
CELLS = {
    "local": "synthetic_vgg16_bnn_n2_b16_base_r1",
    "theta": "cifar10_vgg16_bnn_n16_b128_base_r1",
    "workstation": "cifar10_vgg16_bnn_n2_b128_base_r1",
}
TWO_CORES = Machine("AMD EPYC", 2, 1, 1, 24.0)
TWO_GPUS = Machine("AMD Ryzen 9 7950X 16-Core Processor", 16, 2, 1, 62.6, 2, "NVIDIA GeForce RTX 4090")
CELL = "cifar10_vgg16_bnn_n8_b128_base_r1"


@pytest.fixture(autouse=True)
def account(monkeypatch):
    monkeypatch.setenv("CAMPAIGN_ACCOUNT", "my-project")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """The same scripts wherever the tests run."""
    monkeypatch.setattr("campaign.site.machine.detect", lambda gpus: TWO_GPUS if gpus else TWO_CORES)


def planned_at(site):
    return load_campaign(ROOT / "config.yaml", load_site(ROOT / "profiles" / site))


def compare(name, text):
    file = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("site", SITES)
def test_scripts_are_as_a_user_of_the_site_would_write_them(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, layout = planned_at(site), Layout(Path("results"), site)
    here = Place(Path("/project"), Path("/project/.venv/bin"), Path("/project/data"))

    def portable(text):
        return text.replace(str(tmp_path), "/project")

    planned = next(cell for cell in found.cells if cell.cell.name == CELLS.get(site, CELL))
    compare(f"{site}-train.sh", portable(script_text(planned, found, layout, here)))
    compare(f"{site}-{found.after[0].command}.sh", portable(script_text(found.after[0], found, layout, here)))
    for text in pack_texts(found, layout, here).values():
        compare(f"{site}-pack.sh", portable(text))


def shared_at(site):
    """The campaign on a site where jobs may share one in turn, if it has any."""
    values = read_yaml(ROOT / "profiles" / site / "site.yaml")
    scheduler = values["site"]["scheduler"]
    if scheduler["kind"] != "none":
        scheduler["packing"] = {"in_turn": 2}
        for queue in scheduler["queues"]:
            queue["max_minutes"] = max(limit["minutes"] for limit in scheduler["walltimes"]) * 2
    return load_campaign(ROOT / "config.yaml", parse_site(values, "site.yaml"))


@pytest.mark.parametrize("site", ["theta", "polaris", "slurm"])
def test_scripts_that_share_a_job_keep_to_their_nodes(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, layout = shared_at(site), Layout(Path("results"), site)
    here = Place(Path("/project"), Path("/project/.venv/bin"), Path("/project/data"))
    planned = next(cell for cell in found.cells if cell.cell.name == CELLS.get(site, CELL))
    texts = [script_text(planned, found, layout, here), script_text(found.after[0], found, layout, here)]
    option = {"theta": None, "polaris": "--hostfile", "slurm": "-f"}[site]
    for text in texts:
        (line,) = [line for line in text.splitlines() if line.startswith("#BATCH_SCRIPT")]
        head = Path(line.split()[2])
        assert head in [path.absolute() for path in pack_texts(found, layout, here)]
        assert (f'nodes=({option} "$BATCH_SCRIPT_NODEFILE")' in text) == bool(option)
        launcher = "aprun" if site == "theta" else "mpiexec"
        (start,) = [line for line in text.splitlines() if line.removeprefix("exec ").startswith(f"{launcher} -n ")]
        assert ('${nodes[@]+"${nodes[@]}"}' in start) == bool(option)


@pytest.mark.parametrize("shared", [False, True], ids=["own jobs", "shared jobs"])
@pytest.mark.parametrize("site", SITES)
def test_every_script_is_clean(site, shared, tmp_path):
    found, layout = shared_at(site) if shared else planned_at(site), Layout(tmp_path / "results", site)
    render_jobs(found, layout, Place(tmp_path, tmp_path / "bin", tmp_path / "data"))
    kinds = {}  # scripts that differ in more than names and numbers
    for planned in found.cells:
        kinds.setdefault(("train", planned.placement, planned.allocation), layout.script(planned.cell))
    for job in found.after:
        kinds.setdefault((job.command, job.section.origin), layout.job(job.name))
    for point in found.bench:
        kinds.setdefault("bench", layout.job(point.name))
    kinds |= {path: path for path in layout.jobs.glob("pack_*.sh")}
    assert len(kinds) > 3
    shellcheck = Path(sys.prefix) / "bin" / "shellcheck"
    checked = subprocess.run([shellcheck, "-S", "style", *kinds.values()], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    directive = {"none": "# ", "slurm": "#SBATCH ", "pbs": "#PBS ", "cobalt": "#COBALT "}[found.site.scheduler.kind]
    assert all(script.read_text().splitlines()[1].startswith(directive) for script in kinds.values())
