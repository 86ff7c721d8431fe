"""Horovod's wheel: its key in the cache, the site's MPI, the environment of the build. Nothing is built here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bootstrap import horovod
from bootstrap.console import SetupError

TORCH_AND_MPICH = {"torch": "2.13.0+cpu", "mpich": "5.0.2"}


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(horovod, "_installed_version", lambda venv, package: TORCH_AND_MPICH[package])
    monkeypatch.setattr(horovod, "compiler", lambda: ("g++", "g++12.2.0"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def wrapper(path: Path, shown: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{shown}'\n")
    path.chmod(0o755)
    return path


def test_the_key_names_all_that_the_binary_depends_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = horovod.wheel_key(tmp_path, horovod.bundled_mpi(tmp_path))
    assert key.startswith("horovod0.28.1-torch2.13.0+cpu-py3.11-")
    assert "-mpich5.0.2-g++12.2.0-" in key
    monkeypatch.setattr(horovod, "compiler", lambda: ("clang++", "clang++19.1.0"))
    other_compiler = horovod.wheel_key(tmp_path, horovod.bundled_mpi(tmp_path))
    monkeypatch.setitem(TORCH_AND_MPICH, "torch", "2.14.0")
    other_torch = horovod.wheel_key(tmp_path, horovod.bundled_mpi(tmp_path))
    monkeypatch.setitem(horovod.OPTIONS, "HOROVOD_WITHOUT_GLOO", "0")
    other_recipe = horovod.wheel_key(tmp_path, horovod.bundled_mpi(tmp_path))
    assert len({key, other_compiler, other_torch, other_recipe}) == 4


def test_the_sites_mpi_is_read_from_its_wrappers(tmp_path: Path) -> None:
    mpicc = wrapper(tmp_path / "bin" / "mpicc", "")
    wrapper(tmp_path / "bin" / "mpicxx", "g++ -I/opt/m/include -L/opt/m/lib -L/opt/fabric -L/opt/m/lib -lmpi")
    mpi = horovod.site_mpi(str(mpicc))
    assert mpi.mpicxx == str(tmp_path / "bin" / "mpicxx")
    assert mpi.library_folders == ("/opt/m/lib", "/opt/fabric")
    wrapper(tmp_path / "bin" / "mpicxx", "g++ -L/opt/newer/lib -lmpi")
    assert horovod.site_mpi(str(mpicc)).name != mpi.name


@pytest.mark.parametrize("mpicc", ["mpicc", "/nowhere/bin/mpicc"])
def test_a_wrong_path_of_mpicc_is_one_clear_line(mpicc: str) -> None:
    with pytest.raises(SetupError, match=f"BNN_MPICC={mpicc}: give the full path"):
        horovod.site_mpi(mpicc)


def test_a_missing_cxx_wrapper_is_one_clear_line(tmp_path: Path) -> None:
    mpicc = wrapper(tmp_path / "mpicc", "")
    with pytest.raises(SetupError, match="no C\\+\\+ wrapper"):
        horovod.site_mpi(str(mpicc))


def test_the_build_has_its_own_options_and_finds_libraries_beside_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAKEFLAGS", " --jobserver-auth=3,4")
    monkeypatch.setenv("HOROVOD_GPU_OPERATIONS", "NCCL")
    monkeypatch.setenv("PIP_CERT", "/etc/ca.pem")
    env = horovod.build_environment(tmp_path, horovod.Mpi("/opt/m/bin/mpicxx", "mpi-1", ("/opt/m/lib",)))
    assert env["MAKEFLAGS"].removeprefix("-j").isdigit()
    assert "HOROVOD_GPU_OPERATIONS" not in env
    assert env["HOROVOD_WITH_MPI"] == "1"
    assert env["PIP_CERT"] == "/etc/ca.pem"
    assert env["BNN_RPATH"].split(";") == ["$ORIGIN/../../../..", "$ORIGIN/../../torch/lib", "/opt/m/lib"]
    assert env["PATH"].startswith(str(tmp_path / "bin"))


def test_a_wheel_in_the_cache_is_used_and_a_half_copied_one_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mpi = horovod.bundled_mpi(tmp_path)
    folder = horovod.cache_folder() / horovod.wheel_key(tmp_path, mpi)
    folder.mkdir(parents=True)
    (folder / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl.part").write_bytes(b"half")
    built = []

    def build(venv: Path, mpi: horovod.Mpi, scratch: Path, log: Path, toolkit: None) -> Path:
        wheel = scratch / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
        wheel.write_bytes(b"whole")
        built.append(scratch)
        return wheel

    monkeypatch.setattr(horovod, "_build", build)
    first = horovod.ensure_wheel(tmp_path, mpi, tmp_path / "log")
    second = horovod.ensure_wheel(tmp_path, mpi, tmp_path / "log")
    assert first == second == folder / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
    assert first.read_bytes() == b"whole"
    assert len(built) == 1
    assert not built[0].exists()


def test_a_relative_cache_folder_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert horovod.cache_folder() == tmp_path / ".cache" / "bnn-at-scale" / "wheels"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_compilers_version_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("CXX", raising=False)
    command, name = horovod.compiler()
    assert command == "g++"
    assert name.startswith("g++")
    assert name.removeprefix("g++")[0].isdigit()
