"""Rewrites the pinned requirements from the environment that runs it: `.venv/bin/python envs/lock.py`.

pyproject.toml names what the project uses directly; this pins that and all it needs, in the versions installed here.
In an environment for GPUs (BNN_CUDA) it writes that profile's list and leaves the others as they are.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ENVS = Path(__file__).resolve().parent
# Built here, not fetched as a wheel (bootstrap/horovod.py pins it); its own requirements are pinned like all others.
BUILT = {"horovod"}
# What torch needs only in a build with CUDA. It is not in the common lists, whichever build is installed here.
WITH_CUDA = re.compile(r"(nvidia|cuda)-.*|triton")


def closure(requirements: Iterable[str]) -> set[str]:
    """Canonical names of the distributions that the requirements need, themselves included."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        extras = frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        for text in distribution(name).requires or []:
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                todo.append(inner)
    return found


def pins(names: Iterable[str]) -> str:
    """One `name==version` per line, without local versions (torch's +cpu): pip takes the build that it is given."""
    lines = [f"{name}=={Version(distribution(name).version).public}" for name in sorted(names)]
    return "\n".join(lines) + "\n"


def profile(prefix: Path) -> str | None:
    """Name of the list for the GPUs that the environment was set up for, e.g. cuda13.txt; None without BNN_CUDA."""
    if not (prefix / "cuda.txt").is_file():
        return None
    major = next(name for name in closure(["torch"]) if name.startswith("nvidia-nccl-cu")).removeprefix(
        "nvidia-nccl-cu"
    )
    return f"cuda{major}.txt"


def profile_pins() -> str:
    """torch and what only a build with CUDA needs, the compiler too where it is a package."""
    installed = {canonicalize_name(found.name) for found in distributions()}
    return pins({"torch"} | {name for name in installed if WITH_CUDA.fullmatch(name)})


def main() -> None:
    """Write requirements.txt, requirements-dev.txt and build.txt, or the list of a profile for GPUs."""
    gpus = profile(Path(sys.prefix))
    if gpus is not None:
        comments = [line for line in (ENVS / gpus).read_text().splitlines(keepends=True) if line.startswith("#")]
        (ENVS / gpus).write_text("".join(comments) + profile_pins())
        return
    project = tomllib.loads((ENVS.parent / "pyproject.toml").read_text())
    runtime = {name for name in closure(project["project"]["dependencies"]) if not WITH_CUDA.fullmatch(name)}
    dev = closure(project["project"]["optional-dependencies"]["dev"])
    build = closure(project["build-system"]["requires"])
    files = {
        "requirements.txt": ("What the project runs with", runtime - BUILT - build),
        "requirements-dev.txt": ("What tests and linters need besides", dev - runtime - build),
        "build.txt": ("What builds Horovod and the project's own extensions", build),
    }
    for file, (what, names) in files.items():
        (ENVS / file).write_text(f"# {what}, pinned. Made by envs/lock.py from pyproject.toml.\n{pins(names)}")


if __name__ == "__main__":
    main()
