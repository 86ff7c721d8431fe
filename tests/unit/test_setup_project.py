"""What the set-up promises of the project itself: complete pins, explained targets, light imports."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lock

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"
LISTS = ("requirements.txt", "requirements-dev.txt", "build.txt")


def pinned(name: str) -> dict[str, str]:
    lines = [line.strip() for line in (ENVS / name).read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_lists_pin_everything_that_is_needed_in_the_installed_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
        *project["build-system"]["requires"],
    ]
    names = {name for name in lock.closure(wanted) - lock.BUILT if not lock.WITH_CUDA.fullmatch(name)}
    together = {name: version for file in LISTS for name, version in pinned(file).items()}
    gpus = lock.profile(Path(sys.prefix))
    if gpus is not None:  # then torch and what comes with it are pinned there
        assert lock.profile_pins() == "".join(f"{name}=={version}\n" for name, version in sorted(pinned(gpus).items()))
        together |= {"torch": pinned(gpus)["torch"]}
    assert sum(len(pinned(file)) for file in LISTS) == len(together), "a package is in two lists"
    assert lock.pins(names) == lock.pins(together)
    assert lock.pins(together) == "".join(f"{name}=={together[name]}\n" for name in sorted(together))


def test_what_pyproject_asks_for_allows_the_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = pinned("requirements.txt")
    for text in project["project"]["dependencies"]:
        requirement = Requirement(text)
        if requirement.name not in lock.BUILT:
            assert requirement.specifier.contains(pins[requirement.name]), text


def test_help_explains_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()) - {"setup-dev"}
    result = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True)
    explained = {line.split()[0] for line in result.stdout.splitlines() if re.match(r"  [a-z_]+ +\w", line)}
    assert explained == targets


@pytest.mark.parametrize(
    "module",
    [
        "bnn",
        "bnn.cli",
        "bnn.errors",
        "bnn.metrics",
        "bnn.models.describe",
        "bnn.records",
        "bnn.settings",
        "campaign.names.cell",
        "campaign.tell.cli",
    ],
)
def test_light_modules_load_neither_torch_nor_horovod(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'horovod'}} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"
