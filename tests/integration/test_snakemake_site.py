"""`snakemake --profile`: what is wrong with a site is one line and exit code 2, as the command campaign has it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.ranks import BIN, environment

pytestmark = pytest.mark.snakemake

ROOT = Path(__file__).parents[2]
SLURM = (ROOT / "profiles/slurm/site.yaml").read_text().replace("name: slurm", "name: mysite", 1)
SITES = {
    "missing": (None, "No such file or directory"),
    "empty": ("", "expected keys and values"),
    "tabs": ("site:\n\tname: mysite\n", r"line 2: found character '\\t' that cannot start any token"),
    "pipe": ("pipe", "a named pipe, where a file is expected"),
    "sexagesimal": (
        SLURM.replace("1440", "24:00:00"),
        r"line \d+: site.scheduler.queues\[1\].max_minutes: 24:00:00 is",
    ),
    "copy": (SLURM.replace("mysite", "slurm"), "site.name: slurm is not the name of the profile's folder, mysite"),
    "grid": (SLURM + "  grid: {papr: {nodes: [1]}}\n", "site.grid.papr: the campaign .* is called paper"),
}


@pytest.fixture
def project(tmp_path):
    """The workflow in a folder of its own, and a copy of profiles/slurm elsewhere."""
    for name in ("Snakefile", "workflow", "envs", "config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "profiles/slurm", tmp_path / "elsewhere/mysite")
    return tmp_path


def snakemake(project, *words, **variables):
    command = [str(BIN / "snakemake"), *words]
    return subprocess.run(
        command, cwd=project, env=environment() | variables, capture_output=True, text=True, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def said(done):
    """What it printed, without Snakemake's own first words."""
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if not line.startswith(("Using profile", "host: "))]


@pytest.mark.parametrize("case", SITES)
def test_what_is_wrong_with_a_site_is_one_line_and_code_2(case, project):
    text, message = SITES[case]
    file = project / "elsewhere/mysite/site.yaml"
    file.unlink()
    if text == "pipe":
        os.mkfifo(file)
    elif text is not None:
        file.write_text(text)
    done = snakemake(project, "--profile", "elsewhere/mysite", "-n")
    assert done.returncode == 2, done.stderr
    (line,) = said(done)
    assert re.match(rf"elsewhere/mysite/site.yaml: {message}", line)
    asked = [str(BIN / "campaign"), "site", "check", "./elsewhere/mysite"]
    told = subprocess.run(asked, cwd=project, env=environment(), capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert told.stderr == f"campaign: {line}\n"


def test_other_mistakes_have_the_same_code(project):
    (project / "elsewhere/mysite/site.yaml").write_text(SLURM)
    mine = ["--profile", "elsewhere/mysite", "-n"]
    for words, variables, message in [
        ([], {}, "no site given: use snakemake --profile PROFILE"),
        ([*mine, "--config", "campagne=x"], {}, r"--config campagne: unknown key, did you mean campaign\?"),
        (mine, {"CAMPAIGN_ACCOUNT": "a\ntouch ran #"}, "environment variable CAMPAIGN_ACCOUNT: .* is not a name"),
    ]:
        done = snakemake(project, *words, **variables)
        assert done.returncode == 2, done.stderr
        (line,) = said(done)
        assert re.match(message, line)


def test_a_profile_copied_elsewhere_works_in_the_old_form_too(project):
    profile = project / "elsewhere/mysite"
    (profile / "site.yaml").write_text(SLURM)
    for named in ("config.yaml", "site.yaml"):
        options = (ROOT / "profiles/slurm/config.yaml").read_text()
        (profile / "config.yaml").write_text(options.replace("configfile: config.yaml", f"configfile: {named}", 1))
        done = snakemake(project, "--profile", str(profile), "-n", "plan", "--config", "results=out")
        assert done.returncode == 0, done.stderr
        assert "out/mysite" in done.stdout + done.stderr
        assert not (project / "out").exists(), "a dry run writes nothing"
