"""A real busy loop beside a short training: it is seen, named with its number, and kept by phase and rank."""

import os
import subprocess
import sys

import pytest

from bnn.records import SUMMARY, Summary, read_table
from bnn.records.neighbours import NEIGHBOURS, NEIGHBOURS_FILE


def train(out, *options):
    command = [
        sys.executable, "-m", "bnn.cli", "train", "--model", "fc", "--width", "0.5", "--epochs", "100",
        "--threads", "1", "--max-steps", "200", "--engine", "single", "--save-posterior", "false",
        "--out", str(out), *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, Summary.model_validate_json((out / SUMMARY).read_text())


def test_a_busy_loop_beside_a_training_is_a_warning_with_its_number(tmp_path):
    cpus = len(os.sched_getaffinity(0))
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cpus)]
    try:
        said, summary = train(tmp_path / "cell")
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    steady = summary.neighbours["steady"]
    # the training has one thread and as many rivals as there are CPUs: they get all but about one share
    assert cpus * (cpus / (cpus + 1) - 0.3) < steady.foreign_cores <= cpus * 1.05
    reason = next(text for text in summary.verdict.reasons if text.startswith("other programs used "))
    assert f"{steady.foreign_cores:.2f}" in reason
    assert summary.verdict.status == "WARN"
    assert reason in said
    rows = read_table(tmp_path / "cell" / NEIGHBOURS_FILE, NEIGHBOURS).set_index("phase")
    assert {"startup", "warmup", "steady"} <= set(rows.index)
    assert rows.loc["steady", "foreign_cores"] == pytest.approx(steady.foreign_cores)
    assert rows.loc["steady", "cpu_seconds"] > 0
    assert NEIGHBOURS_FILE in summary.manifest


def test_a_limit_that_is_not_reached_warns_of_nothing(tmp_path):
    _, summary = train(tmp_path / "cell", "--foreign-limit", "1.5")
    assert not [text for text in summary.verdict.reasons if "other programs" in text]
