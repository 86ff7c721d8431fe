"""Every narrower vector width that this machine has gives right results, too: the same tests, in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnn import kernels
from tests.support.kernels import WIDTHS, need_kernels

need_kernels()

FOLDER = Path(__file__).parent
FILES = ("conv", "functions", "kl", "models", "noise")
RUN = """
import sys, pytest
from bnn import kernels
assert kernels.isa() == sys.argv[1], f"{kernels.isa()}, not {sys.argv[1]}"
assert kernels.available()
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_a_width_that_is_asked_for(width: str) -> None:
    if WIDTHS.index(width) <= WIDTHS.index(kernels.isa()):
        pytest.skip(f"{kernels.isa()} is what the other tests take")
    files = [str(FOLDER / f"test_kernels_{name}.py") for name in FILES]
    files.append(str(FOLDER / "test_optim.py"))
    env = {**os.environ, "BNN_KERNELS_ISA": width}
    words = [sys.executable, "-c", RUN, width, *files]
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=FOLDER.parents[1])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
