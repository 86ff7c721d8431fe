"""Fetches the collections of networks that a test uses: .venv/bin/python envs/architectures.py.

They lie in `.venv-architectures` beside `.venv`, two wheels, 42 MB, from `envs/architectures.txt`. It is a folder of
packages, no environment: torch is the one of `.venv`. torchvision's wheel asks for one with CUDA by itself, whose 3 GB
nothing here needs (tests/architectures/packages.py). It can be interrupted and run again at any time. Exit codes: 0 it
is ready, 2 something is missing (one line on what to do), 130 interrupted.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import distributions, version
from pathlib import Path

from packaging.requirements import Requirement

from bootstrap.completing import complete
from bootstrap.console import SetupError, run
from bootstrap.venv import clean_environment, fingerprint

ENVS = Path(__file__).resolve().parent
ROOT = ENVS.parent
FOLDER = ROOT / ".venv-architectures"
LOG = ROOT / ".setup-architectures.log"
PINS = ENVS / "architectures.txt"


def wanted_stamp() -> dict[str, str]:
    """The fingerprint of a folder that is as it should be."""
    facts = {"python": sys.version, "torch": torch_version()}
    return {"architectures": fingerprint([PINS, ENVS / "architectures.py"], facts)}


def torch_version() -> str:
    """The release of torch in this environment, without what build it is."""
    return version("torch").partition("+")[0]


def install(lock: int) -> None:
    """Fill the folder. Raises SetupError."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    command: list[str | Path] = [sys.executable, "-m", "pip", "install", "--no-deps", "--retries", "2"]
    try:
        run(
            "fetching torchvision and timm",
            [*command, "--target", FOLDER, "-r", PINS],
            LOG,
            clean_environment(),
            [lock],
        )
    except SetupError as error:
        raise SetupError(f"{error} (they are downloaded once: is there a network?)") from None
    if (wanted := torch_of_torchvision()) != torch_version():
        raise SetupError(f"{PINS}: this torchvision is for torch {wanted}, and .venv has {torch_version()}")


def torch_of_torchvision() -> str | None:
    """The release of torch that the torchvision in the folder says it is made for."""
    for found in distributions(path=[str(FOLDER)]):
        for need in found.requires or [] if found.name == "torchvision" else []:
            requirement = Requirement(need)
            if requirement.name == "torch":
                return next((one.version for one in requirement.specifier if one.operator == "=="), None)
    return None


def main() -> int:
    """Fetch what is not there yet; returns the exit code."""
    return complete("architectures", FOLDER, wanted_stamp(), [LOG], install)


if __name__ == "__main__":
    sys.exit(main())
