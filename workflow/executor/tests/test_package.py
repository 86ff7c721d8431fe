"""The plugin as its users get it: built, installed into an empty environment, and a script run by a tiny Slurm."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SLURM = ROOT / "tests" / "programs" / "slurm.py"
SNAKEFILE = """\
rule one:
    output: "one.out"
    resources: batch_script="one.sh"
    shell: "bash {resources.batch_script}"
"""


def run(*words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        words, cwd=cwd, env=environment | variables, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def python_of(folder: Path) -> Path:
    venv.create(folder, with_pip=True, symlinks=True)
    return folder / "bin" / "python"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_runs_a_script_from_an_empty_environment(tmp_path: Path) -> None:
    builder = python_of(tmp_path / "builder")
    got = run(builder, "-m", "pip", "install", "-q", "build", cwd=tmp_path)
    if got.returncode:
        pytest.skip(f"nothing can be installed here: {got.stderr.strip().splitlines()[-1]}")
    source = shutil.copytree(ROOT, tmp_path / "source", ignore=shutil.ignore_patterns("*.egg-info", "build", ".*"))
    built = run(builder, "-m", "build", "--outdir", tmp_path / "dist", source, cwd=tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    names = sorted(path.name for path in (tmp_path / "dist").iterdir())
    assert [name.rpartition(".")[2] for name in names] == ["whl", "gz"]

    python = python_of(tmp_path / "user")
    snakemake = f"snakemake=={importlib.metadata.version('snakemake')}"
    installed = run(python, "-m", "pip", "install", "-q", tmp_path / "dist" / names[0], snakemake, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    where = run(python, "-c", "import snakemake_executor_plugin_batch_script as p; print(p.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(tmp_path / "user")), where.stderr

    folder = tmp_path / "campaign"
    for name in ("bin", "slurm"):
        (folder / name).mkdir(parents=True)
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "one.sh").write_text(f"#!/bin/bash\n#SBATCH --output={folder}/one.log\ncd {folder}\necho x >one.out\n")
    for program in ("sbatch", "squeue", "scontrol", "scancel"):
        path = folder / "bin" / program
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {SLURM} {program} "$@"\n')
        path.chmod(0o755)
    command = ["-m", "snakemake", "--executor", "batch-script", "--batch-script-scheduler", "slurm",
               "--batch-script-poll", "0.3", "--jobs", "unlimited", "--cores", "1"]  # fmt: skip
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = run(python, *command, cwd=folder, PATH=path, FAKE_SLURM=str(folder / "slurm"))
    assert done.returncode == 0, done.stderr
    assert (folder / "one.out").read_text() == "x\n"
    assert "Jobs: 1 done" in done.stderr
