"""The set-up's checks: one line per missing thing, which says what to install."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bootstrap import checks

ROOT = Path(__file__).resolve().parents[2]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def free_space(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, int(gib * checks.GIB)))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a program look absent from PATH, all others present."""

    def hide(missing: str) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}")

    return hide


@pytest.mark.parametrize("tool", ["make", "g++", "git"])
def test_a_missing_program_is_named_with_its_package(
    tool: str, without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    without(tool)
    assert list(checks.tool_problems()) == [f"{tool} is missing: apt-get install {tool}"]


def test_another_compiler_takes_the_place_of_gxx(
    without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("g++")
    monkeypatch.setenv("CXX", "clang++")
    assert list(checks.tool_problems()) == []


@pytest.mark.parametrize("version", [(3, 10, 4), (3, 12, 0)])
def test_a_wrong_python_is_the_only_complaint_about_python(
    version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    (line,) = checks.python_problems()
    assert line.startswith("Python 3.11 is needed")
    assert f"is {version[0]}.{version[1]}:" in line
    assert "apt-get install python3.11" in line


def test_missing_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    (line,) = checks.python_problems()
    assert "Python.h is missing" in line
    assert line.endswith("apt-get install python3-dev")


def test_missing_venv(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else real(name))
    assert list(checks.python_problems()) == ["python3-venv is missing: apt-get install python3-venv"]


def test_a_full_disk_says_how_much_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    free_space(monkeypatch, 2.5)
    (line,) = checks.disk_problems(tmp_path / "repository" / ".venv", tmp_path / "cache")
    assert "has 2.5 GB free and 4.1 GB are needed: free some space" in line


def test_enough_space_is_no_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    free_space(monkeypatch, 4.2)
    assert list(checks.disk_problems(tmp_path / ".venv", tmp_path / "cache")) == []


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
    free_space(monkeypatch, 100)
    (line,) = checks.disk_problems(tmp_path / ".venv", closed / "wheels")
    assert line == f"{closed} cannot be written: change its permissions, or set XDG_CACHE_HOME to another disk"


def test_a_scratch_folder_with_spaces_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spaced = tmp_path / "my files"
    spaced.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(spaced))
    free_space(monkeypatch, 100)
    (line,) = checks.disk_problems(tmp_path / ".venv", tmp_path / "cache")
    assert line.startswith(f"TMPDIR={spaced}:")


def test_the_command_prints_every_problem_and_exits_with_2(tmp_path: Path) -> None:
    """The real command, in a copy of its files, with nothing on PATH."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "workflow/executor/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    env = {"PATH": str(tmp_path / "empty"), "HOME": str(tmp_path)}
    python = str(Path(sys.base_prefix) / "bin" / "python3.11")
    result = subprocess.run([python, tmp_path / "envs" / "setup.py"], capture_output=True, text=True, env=env)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"setup: {tool} is missing: apt-get install {tool}" for tool in ("make", "g++", "git")
    ]
    assert not (tmp_path / ".venv").exists()


def test_without_a_compiler_neither_it_nor_headers_are_missed(
    without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    without("g++")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert list(checks.tool_problems(compiler=False)) == list(checks.python_problems(compiler=False)) == []
