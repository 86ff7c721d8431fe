"""What a rank loads to train: not torch's compiler, which takes seconds of every rank's start."""

import json
import subprocess
import sys

import pytest

from tests.support.ranks import SMALL, environment

CODE = """
import sys
from bnn.cli import main
try:
    main()
finally:
    print(sorted({"torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""


@pytest.mark.parametrize("estimator", ["flipout", "ivon"])
def test_a_run_without_a_posterior_loads_no_compiler(tmp_path, estimator):
    settings = {**SMALL, "model": "fc", "max_steps": 3, "estimator": estimator, "save_posterior": False}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    command = [
        sys.executable,
        "-c",
        CODE,
        "train",
        "--settings",
        str(tmp_path / "settings.json"),
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert (tmp_path / "run/summary.json").exists(), done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
