"""`campaign site check --run`: what runs here, and what is to be submitted; with a stand-in for bnn."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bnn.errors import UserError
from campaign.names.layout import Layout
from campaign.render.scripts import Place, render_jobs
from campaign.run import site_check
from campaign.run.site_check import check_text, run_or_render
from campaign.site.site import Site, load_site
from campaign.tell.cli import cli
from tests.support import campaigns
from tests.support.campaigns import SITE, changed

ROOT = Path(__file__).parents[2]
QUEUES = [
    {"name": "long", "min_nodes": 4, "max_nodes": 9, "max_minutes": 600},
    {"name": "short", "max_nodes": 2, "max_minutes": 30},
]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Programs that write down how they were called; bnn ends with the code in the file `code`."""
    programs = tmp_path / "my programs"
    programs.mkdir()
    for name, more in (("bnn", 'exit "$(cat code)"'), ("aprun", 'shift 10; exec "$@"'), ("mpiexec", "")):
        text = f"""#!/bin/bash
for word in {name} "$@"; do printf '%s\\n' "$word"; done >>called
echo "$OMP_NUM_THREADS $COLOUR" >>environment
{more}
"""
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "code").write_text("0")
    return Place(tmp_path, programs, tmp_path / "data")


def called(folder: Path) -> list[str]:
    return (folder / "called").read_text().splitlines()


def toy(**given: object) -> Site:
    site = campaigns.site(changed(SITE, "site/environment", {"variables": {"COLOUR": "dark blue"}}))
    return replace(site, **given)


def scheduled(kind: str, name: str, **more: object) -> Site:
    """The toy site behind a scheduler with two queues."""
    values = changed(SITE, "site/scheduler", {"kind": kind, "queues": QUEUES, "walltimes": [{"minutes": 480}], **more})
    return campaigns.site(changed(changed(values, "site/launcher", {"kind": name}), "site/threads", 4))


@pytest.mark.parametrize("code", [0, 1, 2])
def test_without_a_scheduler_it_runs_here_and_its_exit_code_is_ours(place: Place, tmp_path: Path, code: int) -> None:
    (tmp_path / "code").write_text(str(code))
    layout = Layout(tmp_path / "results", "toy")
    assert run_or_render(toy(), layout, place) == (code, [])
    expected = ["bnn", "check", "--device", "cpu", "--ranks", "2", "--launcher", "mpiexec -n 2 -prepend-rank"]
    assert called(tmp_path) == [*expected, "--out", str(tmp_path / "results/toy/check.json")]
    assert (tmp_path / "environment").read_text() == "1 dark blue\n"


@pytest.mark.parametrize(("gpus", "ranks"), [(1, 2), (2, 2), (4, 4), (16, 8)])
def test_a_site_with_gpus_is_tried_on_them(place: Place, tmp_path: Path, gpus: int, ranks: int) -> None:
    hardware = replace(toy().hardware, gpus_per_node=gpus)
    run_or_render(toy(hardware=hardware, threads=3), Layout(tmp_path / "results", "toy"), place)
    words = called(tmp_path)
    assert words[2:6] == ["--device", "cuda", "--ranks", str(ranks)]
    assert words[7].startswith(f"mpiexec -n {ranks} ")
    assert (tmp_path / "environment").read_text().split()[0] == str(min(3, 8 // ranks))  # the node has 8 cores


@pytest.mark.parametrize(
    ("kind", "launcher", "submit", "lines"),
    [
        ("slurm", "srun", "sbatch", ["#SBATCH --nodes=1", "#SBATCH --ntasks-per-node=2", "#SBATCH --time=00:20:00"]),
        ("pbs", "mpiexec", "qsub", ["#PBS -l select=1", "#PBS -l walltime=00:20:00", "#PBS -q short"]),
        ("cobalt", "aprun", "qsub", ["#COBALT -n 1", "#COBALT -t 20", "#COBALT -q short"]),
    ],
)
def test_with_a_scheduler_it_says_how_to_submit(
    place: Place, tmp_path: Path, kind: str, launcher: str, submit: str, lines: list[str]
) -> None:
    layout = Layout(tmp_path / "results", "toy")
    code, said = run_or_render(scheduled(kind, launcher, packing={}), layout, place)
    script = tmp_path / "results/toy/jobs/check.sh"
    assert code == 0
    assert said[0] == f"submit it with: {submit} {script}"
    assert str(tmp_path / "results/toy/check.json") in said[1]
    assert not (tmp_path / "called").exists()
    text = script.read_text()
    assert set(lines) <= set(text.splitlines())
    assert "#BATCH_SCRIPT" not in text
    assert (tmp_path / "results/toy/logs").is_dir()
    subprocess.run(["bash", str(script)], check=True)  # as the scheduler will
    words = called(tmp_path)
    if kind == "cobalt":  # aprun leads to the node, where the ranks are started
        assert words[:10] == ["aprun", "-n", "1", "-N", "1", "-cc", "depth", "-d", "8", "-j"]
        words = words[words.index("bnn") :]
    assert words[:6] == ["bnn", "check", "--device", "cpu", "--ranks", "2"]
    assert shlex.split(words[7])[0] == {"cobalt": "mpiexec"}.get(kind, launcher)


def test_pals_own_mpiexec_starts_the_ranks(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's own comes first on PATH, and knows nothing of PALS."""
    system = tmp_path / "pals bin"
    system.mkdir()
    (system / "mpiexec").write_text("#!/bin/sh\n")
    (system / "mpiexec").chmod(0o755)
    monkeypatch.setenv("PATH", f"{system}:/usr/bin:/bin")
    layout = Layout(tmp_path / "results", "toy")
    run_or_render(scheduled("pbs", "pals"), layout, place)
    subprocess.run(["bash", str(layout.job("check"))], check=True)
    words = shlex.split(called(tmp_path)[7])
    assert words == [str(system / "mpiexec"), *["-n", "2", "--ppn", "2", "--depth", "4", "--cpu-bind", "depth"]]


def test_no_account_and_no_queue_are_refused(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMPAIGN_ACCOUNT", raising=False)
    layout = Layout(tmp_path / "results", "toy")
    with pytest.raises(UserError, match=r"site.yaml: site.scheduler.account: missing"):
        run_or_render(scheduled("slurm", "srun", account_required=True), layout, place)
    monkeypatch.setattr(site_check, "MINUTES", 700)
    with pytest.raises(UserError, match=r"queues: none takes bnn check: 1 nodes for 700 minutes"):
        run_or_render(scheduled("slurm", "srun"), layout, place)
    assert not layout.root.exists()


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("profiles/*/site.yaml")))
def test_every_profile_has_a_script_that_bash_takes(name: str, place: Place, tmp_path: Path) -> None:
    text = check_text(load_site(ROOT / "profiles" / name), Layout(tmp_path / "results", name), place)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert text.startswith("#!/usr/bin/env bash\n")


def test_the_script_outlives_a_plan(place: Place, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "results", "toy")
    run_or_render(toy(), layout, place)
    render_jobs(campaigns.campaign(), layout, place)
    assert layout.job("check").exists()


def test_only_with_run_is_anything_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    monkeypatch.setattr(site_check, "run_or_render", lambda site, layout, place: (7, [f"asked of {layout.root}"]))
    words = ["site", "check", "slurm", "--campaign", str(ROOT / "config.yaml"), "--results", str(results)]
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 1)
    done = CliRunner().invoke(cli, [*words, "--run"], catch_exceptions=False)
    assert (done.exit_code, done.stdout.splitlines()[1]) == (7, f"asked of {results / 'slurm'}")
    assert not results.exists()
