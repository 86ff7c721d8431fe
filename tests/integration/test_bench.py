"""`bnn bench` for real: our implementations in processes of their own, and the peers where they are set up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn.bench.implementations import DEFAULT, OURS, PEERS, implementation
from bnn.bench.pool import Pool
from bnn.bench.protocol import Spec
from bnn.bench.run import PEERS_PYTHON, python_of
from bnn.models.describe import describe
from bnn.records import read_table
from bnn.records.bench import BENCH, BenchHeader, header_path

TINY = ("--model", "fc", "--shape", "1,8,8", "--width", "0.1", "--threads", "1", "--warmup", "1")


def bench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bnn.cli", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", ["bnn-flipout-reference", "bnn-ivon"])
def test_training_steps_of_a_bnn_and_the_base_are_recorded(tmp_path: Path, name: str) -> None:
    out = tmp_path / "step.parquet"
    words = ("--batch", "4", "--rounds", "2", "--steps", "2", "--no-peak", "--implementations", name)
    done = bench("step", *TINY, *words, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = read_table(out, BENCH)
    header = BenchHeader.model_validate_json(header_path(out).read_text())
    assert set(rows["implementation"]) == set(header.workers) == {"cnn", "cnn-again", name}
    assert rows.groupby(["implementation", "round"]).size().tolist() == [2] * 6
    assert (rows["seconds"] > 0).all()
    assert (rows["seconds_noise_kl_optimizer"] > 0).all()
    assert (rows["peak_memory_bytes"] > 50 << 20).all()
    total = describe("fc", "bnn", (1, 8, 8), 10, 0.1).parameters
    assert rows.set_index("implementation")["parameters_total"][name].unique().tolist() == [total]
    assert "torch" in header.workers["cnn"].versions
    assert "noise floor (cnn measured twice)" in done.stdout


def test_draws_of_a_reparameterised_bnn_are_recorded(tmp_path: Path) -> None:
    out = tmp_path / "inference.parquet"
    words = ("--images", "1,3", "--draws", "5", "--rounds", "1", "--implementations", "bnn-reparameterization")
    done = bench("inference", *TINY, *words, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = read_table(out, BENCH)
    assert rows.groupby("images")["samples"].unique().map(list).to_dict() == {1: [5], 3: [15]}
    assert set(rows["implementation"]) == {"cnn", "cnn-again", "bnn-reparameterization"}
    assert (rows["draws"] == 5).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("step", "--implementations", "cnn-worst"), "cnn-worst is unknown"),
        (
            ("inference", "--implementations", "bnn-ivon"),
            "bnn-ivon is a way to train; draws of its posterior are bnn-exact's",
        ),
        (("step", "--peers", "pyro"), "pyro is unknown"),
        (("step", "--shape", "8,8"), "give channels, height and width"),
        (("step", "--model", "tests.support.models:small", "--peers", "tfp"), "peers have the built-in models only"),
        (("inference", "--images", "1,none"), "is not a list of whole numbers"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = bench(*words, "--out", tmp_path / "bench.parquet")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", list(PEERS))
@pytest.mark.parametrize("model", ["vgg16", "resnet18"])
def test_peers_build_our_networks_and_compute_with_them(tmp_path: Path, name: str, model: str) -> None:
    """At full width for the count of parameters; BatchNorm's statistics are in it, as in the paper's tables."""
    if not PEERS_PYTHON.exists():
        pytest.skip("the peers' environment is not set up (python envs/peers.py)")
    spec = Spec(name, model, 1.0, (3, 32, 32), 10, 2, 1, 0, 50_000, {})
    with Pool(tmp_path, python_of) as pool:
        worker = pool.start(implementation(name), spec)
        facts = worker.hello()
        ours = describe(model, "bnn").parameters
        assert ours == {"vgg16": 18_829_066, "resnet18": 9_814_026}[model]
        if name == "tfp":
            assert facts.parameters_total == ours
        else:  # its biases have an uncertainty of their own
            assert facts.notes[0].startswith(f"{ours:,} parameters as ours")
        step = worker.ask("in a test", do="step", times=2)
        assert len(step["seconds"]) == 2
        drawn = worker.ask("in a test", do="draws", images=3, draws=2, times=1)
        np.testing.assert_allclose(drawn["value"], 0.1, rtol=1e-4)  # mean of a distribution over ten classes


def test_default_names_are_those_that_exist() -> None:
    settings: list[dict[str, Any]] = [OURS[name].settings for names in DEFAULT.values() for name in names]
    assert all(one["kind"] in ("bnn", "cnn") for one in settings)
