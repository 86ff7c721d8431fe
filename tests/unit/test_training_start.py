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
    file, run = tmp_path / "settings.json", tmp_path / "run"
    file.write_text(json.dumps({**SMALL, "model": "fc", "max_steps": 3, "estimator": estimator}))
    command = [sys.executable, "-c", CODE, "train", "--settings", str(file), "--out", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert (run / "summary.json").exists(), done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
