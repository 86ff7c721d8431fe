"""The machine's own peak, measured in a process of its own, so that it weighs on no implementation's memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from bnn.bench.pool import ROOT
from bnn.errors import UserError

CODE = (
    "import json, sys; sys.path.append(sys.argv[2]); from bnn.flops.peak import gemm_peak; "
    "print(json.dumps(gemm_peak(int(sys.argv[1])).record()))"
)


def measure_peak(threads: int) -> dict[str, Any]:
    """bnn.flops.peak.Peak.record() with this many threads. Raises UserError when the process fails."""
    command = [sys.executable, "-c", CODE, str(threads), str(ROOT)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise UserError(f"measuring the machine's peak failed (--no-peak leaves it out): {lines[-1] if lines else '?'}")
    record: dict[str, Any] = json.loads(done.stdout)
    return record
