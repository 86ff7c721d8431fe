"""`bnn infer` on real ranks, and on a posterior whose Python code is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnn.posterior.save import save_network
from tests.support.posteriors import paper_network
from tests.support.ranks import BIN, environment, need_horovod

pytestmark = pytest.mark.mpi
MODEL = """
from torch import nn


def tiny(input_shape, classes):
    first = nn.Conv2d(input_shape[0], 4, 3, stride=2)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes))
"""


def run(ranks: int, posterior: Path, out: Path, *more: str, command: str = "infer") -> subprocess.CompletedProcess[str]:
    launcher = ["mpiexec", "-n", str(ranks)] if ranks else []
    words = [
        *launcher,
        str(BIN / "bnn"),
        command,
        str(posterior),
        "--dataset",
        "mnist-sample",
        "--images",
        "50",
        "--threads",
        "1",
    ]
    return subprocess.run(
        [*words, "--out", str(out), *more], capture_output=True, text=True, timeout=240, env=environment(), check=False
    )


@pytest.mark.parametrize("mixed", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_any_number_of_ranks_gives_the_same_bytes(tmp_path: Path, mixed: bool) -> None:
    need_horovod()
    save_network(paper_network("conv", 1 / 32), tmp_path / "p")
    save_network(paper_network("fc", 1 / 32), tmp_path / "q")
    others = [str(tmp_path / "q")] if mixed else []
    results = []
    for ranks in (0, 2, 3):
        out = tmp_path / f"ranks-{ranks}"
        engine = ["--engine", "horovod"] if ranks else []
        done = run(ranks, tmp_path / "p", out, *others, "--draws", "40", "--draws-at-once", "3", *engine)
        assert done.returncode == 0, done.stderr
        with np.load(out / "draws.npz") as found:
            summary = json.loads((out / "inference.json").read_text())
            results.append((found["probabilities"].tobytes(), summary["accuracy"], summary["nll"], summary["brier"]))
            assert summary["ranks"] == max(1, ranks)
    assert results[1] == results[0]
    assert results[2] == results[0]


def test_all_ranks_take_the_temperature_that_one_has_fitted(tmp_path: Path) -> None:
    need_horovod()
    save_network(paper_network("fc", 1 / 16), tmp_path / "p")
    fit, found = ("--temperature", "fit", "--temperature-images", "60", "--draws", "8", "--draws-at-once", "2"), []
    for ranks in (0, 2):
        out = tmp_path / f"ranks-{ranks}"
        done = run(ranks, tmp_path / "p", out, *fit, *(["--engine", "horovod"] if ranks else []))
        assert done.returncode == 0, done.stderr
        summary = json.loads((out / "inference.json").read_text())
        with np.load(out / "draws.npz") as arrays:
            found.append((arrays["probabilities"].tobytes(), summary["temperature"], summary["temperature_fit"]))
    assert found[0] == found[1]
    many = ("--temperature", "fit", "--temperature-images", "999999", "--engine", "horovod")
    failed = run(2, tmp_path / "p", tmp_path / "none", *many)
    assert failed.returncode != 0
    assert "--temperature-images: 999999 asked for" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_error_on_ranks_is_one_line_and_ends_all(tmp_path: Path) -> None:
    need_horovod()
    save_network(paper_network("fc", 1 / 16), tmp_path / "p")
    done = run(2, tmp_path / "p", tmp_path / "out", "--mode", "best", "--engine", "horovod")
    assert done.returncode != 0
    assert "mode best: unknown" in done.stderr
    assert "Traceback" not in done.stderr
    lone = run(2, tmp_path / "p", tmp_path / "out", "--engine", "single")
    assert lone.returncode != 0
    assert "started on several ranks" in lone.stderr


def test_a_posterior_outlives_the_code_of_its_model(tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text(MODEL)
    train = [str(BIN / "bnn"), "train", "--model", "mine:tiny", "--dataset", "mnist-sample", "--engine", "single",
             "--max-steps", "20", "--rho-init", "-4", "--out", "cell"]  # fmt: skip
    done = subprocess.run(
        train, capture_output=True, text=True, timeout=240, env=environment(), cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    module.unlink()
    for cache in tmp_path.rglob("*.pyc"):
        cache.unlink()
    gone = subprocess.run([sys.executable, "-c", "import mine"], cwd=tmp_path, capture_output=True, check=False)
    assert gone.returncode != 0
    assert run(0, tmp_path / "cell", tmp_path / "inferred", "--draws", "5").returncode == 0
    pruned = run(0, tmp_path / "cell", tmp_path / "pruned", "--draws", "5", "--percent", "50", command="prune")
    assert pruned.returncode == 0, pruned.stderr
    assert (tmp_path / "pruned" / "level-0" / "posterior" / "graph.json").exists()
