"""The set-up's step for the kernels: it builds them, a failure stops nothing, their sources are part of the stamp."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

import setup

ROOT = Path(__file__).resolve().parents[2]


def test_kernels_that_cannot_be_built_are_one_line_and_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "LOG", tmp_path / "log")
    setup.build_kernels(Path(sys.executable), {**os.environ, "CXX": "/nowhere/g++", "PYTHONPATH": str(ROOT)})
    said = [line for line in capsys.readouterr().out.splitlines() if "in plain torch" in line]
    assert len(said) == 1
    assert "/nowhere/g++: no such C++ compiler" in said[0]


def test_they_are_built_after_the_interposer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(setup, "run", lambda title, *words, **options: titles.append(title))
    monkeypatch.setattr(setup, "prepare", lambda venv, log: None)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup.horovod, "bundled_mpi", lambda venv: None)
    monkeypatch.setattr(setup.cuda, "installed_torch", lambda venv: setup.cuda.Torch("2.13.0", None, (), ()))
    monkeypatch.setattr(setup.horovod, "ensure_wheel", lambda venv, mpi, log, toolkit: tmp_path / "horovod.whl")
    setup.install(dev=False, mpicc="", lock=0)
    assert titles.index("building the kernels") > titles.index("building the MPI interposer")


@pytest.mark.parametrize("name", ["build.py", "src/convolution.cpp", "src/vec.h"])
def test_a_changed_source_asks_for_a_new_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "root"
    for package in ("mpi_trace", "kernels"):
        shutil.copytree(ROOT / "bnn" / package, copy / "bnn" / package)
    shutil.copy(ROOT / "pyproject.toml", copy)
    monkeypatch.setattr(setup, "ROOT", copy)
    before = setup.wanted_stamp(False, "")
    assert setup.wanted_stamp(False, "") == before
    with (copy / "bnn" / "kernels" / name).open("a") as source:
        source.write("\n")
    assert setup.wanted_stamp(False, "") != before


def test_an_installed_package_brings_all_sources() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["bnn.kernels"]
    folder = ROOT / "bnn" / "kernels"
    packed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert packed == {path for path in (folder / "src").iterdir() if path.is_file()}
    assert packed
