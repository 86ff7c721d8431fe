"""What the machine must have before anything is installed. Every complaint is one line that says what to install."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

GIB = 1024**3
TOOLS = {"make": "make", "g++": "g++", "git": "git"}
# The environment takes 2 GB with torch's CPU build; a build with CUDA brings 4 GB more (pip then reports a full disk).
VENV_GIB = 3.0
CUDA_GIB = 5.0
SCRATCH_GIB = 1.0


def problems(venv: Path, cache: Path, cuda: bool = False, compiler: bool = True) -> Iterator[str]:
    """One line per missing thing; nothing when the set-up can begin. Without `compiler` nothing will be compiled."""
    yield from python_problems(compiler)
    yield from tool_problems(compiler)
    yield from disk_problems(venv, cache, VENV_GIB + (CUDA_GIB if cuda else 0))


def python_problems(compiler: bool = True) -> Iterator[str]:
    """Python's version, its headers where something is compiled, venv and pip's installer."""
    if sys.version_info[:2] != (3, 11):
        found = f"{sys.version_info[0]}.{sys.version_info[1]}"
        yield (
            f"Python 3.11 is needed, {sys.executable} is {found}: apt-get install python3.11, "
            "or name another one: make PYTHON=/path/to/python3.11"
        )
        return
    if compiler and not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        yield "Python.h is missing (Horovod is compiled against it): apt-get install python3-dev"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        yield "python3-venv is missing: apt-get install python3-venv"


def tool_problems(compiler: bool = True) -> Iterator[str]:
    """Programs on PATH. A C++ compiler named by the environment variable CXX takes the place of g++."""
    for tool, package in TOOLS.items():
        if tool == "g++" and (os.environ.get("CXX") or not compiler):
            continue
        if shutil.which(tool) is None:
            yield f"{tool} is missing: apt-get install {package}"


def disk_problems(venv: Path, cache: Path, venv_gib: float = VENV_GIB) -> Iterator[str]:
    """Free space for the environment and for building, and folders that can be written."""
    scratch = Path(tempfile.gettempdir())
    if any(character.isspace() for character in str(scratch)):
        yield f"TMPDIR={scratch}: Horovod cannot be built in a path with spaces; set TMPDIR to another folder"
    needs: dict[int, tuple[Path, float]] = {}
    for folder, amount in ((venv.parent, venv_gib), (scratch, SCRATCH_GIB), (cache, 0.1)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(existing, os.W_OK):
            yield f"{existing} cannot be written: change its permissions{_other_folder(folder, scratch, cache)}"
            continue
        disk = existing.stat().st_dev
        first, sum_so_far = needs.get(disk, (existing, 0.0))
        needs[disk] = (first, sum_so_far + amount)
    for folder, amount in needs.values():
        free = shutil.disk_usage(folder).free / GIB
        if free < amount:
            yield (
                f"the disk of {folder} has {free:.1f} GB free and {amount:.1f} GB are needed: free some space"
                f"{_other_folder(folder, scratch, cache)}"
            )


def _other_folder(folder: Path, scratch: Path, cache: Path) -> str:
    names = {scratch: "TMPDIR", cache: "XDG_CACHE_HOME"}
    return f", or set {names[folder]} to another disk" if folder in names else ""
