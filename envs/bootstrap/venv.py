"""The virtual environment: made, mended after an interruption, and stamped when it is complete."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bootstrap.console import SetupError, run, say

STAMP = "bnn-setup.json"


def fingerprint(files: Iterable[Path], facts: dict[str, str]) -> str:
    """Changes whenever one of the files or facts that the environment is made from changes."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for file in sorted(files):
        digest.update(f"\n{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def holds_stamp(folder: Path, wanted: dict[str, str]) -> bool:
    """Whether a folder was completed with these fingerprints (parts that nobody asked for may be there too)."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and wanted.items() <= stamp.items()


def stamped(venv: Path, wanted: dict[str, str]) -> bool:
    """Whether the environment was completed with these fingerprints, and has its Python."""
    return holds_stamp(venv, wanted) and (venv / "bin" / "python").exists()


def stamp(venv: Path, values: dict[str, str]) -> None:
    """Say that the environment is complete; last of all, and whole or not at all."""
    aside = venv / f"{STAMP}.part"
    aside.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
    aside.replace(venv / STAMP)


def prepare(venv: Path, log: Path) -> None:
    """Make the environment, or keep the one that is there if its Python and pip work. Raises SetupError."""
    (venv / STAMP).unlink(missing_ok=True)
    drop_half_installed(venv)
    if not _works(venv):
        if venv.is_symlink() or (venv.exists() and not venv.is_dir()):
            raise SetupError(f"{venv} is not a folder: remove it")
        if venv.exists():
            say(f"{venv} is incomplete or was moved: making it anew")
        # Not sys.executable: that is the one to be cleared when the environment is active.
        python = getattr(sys, "_base_executable", sys.executable)
        run("making the virtual environment", [python, "-m", "venv", "--clear", venv], log, clean_environment())


def _works(venv: Path) -> bool:
    """Its Python is the one that runs us, it is where it was made, and pip can be imported."""
    python = venv / "bin" / "python"
    code = "import sys, pip; print(sys.prefix, sys.base_prefix, '%d.%d.%d' % sys.version_info[:3], sep='\\n')"
    try:
        result = subprocess.run([python, "-c", code], capture_output=True, text=True, env=clean_environment())
        activate = (venv / "bin" / "activate").read_text()
    except OSError:
        return False
    expected = [str(venv), sys.base_prefix, "{}.{}.{}".format(*sys.version_info[:3])]
    return result.returncode == 0 and result.stdout.splitlines() == expected and str(venv) in activate


def drop_half_installed(venv: Path) -> None:
    """Remove the metadata of packages whose installation was cut short (pip writes RECORD last): pip redoes them."""
    for folder in venv.glob("lib/python3*/site-packages/*.dist-info"):
        if not (folder / "RECORD").is_file():
            say(f"{folder.name} was half installed: installing it again")
            shutil.rmtree(folder)


def clean_environment() -> dict[str, str]:
    """Our environment without what would mix in another Python's packages; pip's other settings stay the user's."""
    foreign = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX"}
    env = {name: value for name, value in os.environ.items() if name not in foreign}
    return env | {"PIP_USER": "0"}
