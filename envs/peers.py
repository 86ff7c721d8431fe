"""Sets up the environment of the peers that `bnn bench` compares with: python3 envs/peers.py; `bnn bench` calls it too.

It is `.venv-peers` beside `.venv`, 3 GB, filled once from `envs/peers.txt`. It can be interrupted and run again at any
time. Exit codes: 0 it is ready, 2 something is missing (one line on what to do), 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bootstrap.completing import complete
from bootstrap.console import SetupError, run
from bootstrap.venv import clean_environment, fingerprint, prepare, stamped

ENVS = Path(__file__).resolve().parent
ROOT = ENVS.parent
VENV = ROOT / ".venv-peers"
LOG = ROOT / ".setup-peers.log"
PINS = ENVS / "peers.txt"
# All of them in one process: that they live together is the one thing that the pins cannot promise.
TRY = (
    "import bayesian_torch.layers.flipout_layers.conv_flipout, torch, tensorflow, "
    "tensorflow_probability.python.layers; print(torch.__version__, tensorflow.__version__)"
)


def wanted_stamp() -> dict[str, str]:
    """The fingerprint of an environment that is as it should be."""
    return {"peers": fingerprint([PINS, ENVS / "peers.py"], {"python": sys.version, "venv": str(VENV)})}


def install(lock: int) -> None:
    """Fill the environment. Raises SetupError."""
    python, env = VENV / "bin" / "python", clean_environment()
    prepare(VENV, LOG)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--no-deps", "--retries", "2"]
    try:
        run("installing bayesian-torch, TensorFlow and TFP", [*pip, "-r", PINS], LOG, env, holds=[lock])
    except SetupError as error:
        raise SetupError(f"{error} (the peers are downloaded once: is there a network?)") from None
    run("loading the peers", [python, "-c", TRY], LOG, env | {"TF_USE_LEGACY_KERAS": "1"}, holds=[lock])


def main() -> int:
    """Set up what is not there yet; returns the exit code."""
    return complete("peers", VENV, wanted_stamp(), [LOG], install, done=stamped)


if __name__ == "__main__":
    sys.exit(main())
