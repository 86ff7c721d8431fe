"""How Horovod is built for GPUs: the toolkit, its links, what the build is told, and the key of its wheel."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

import setup
from bootstrap import cuda, horovod
from bootstrap.console import SetupError
from tests.support.cuda_toolkits import A100, NVCC, OLDER_TORCH, PYPI_TORCH, toolkit_in

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"

pytest_plugins = ["tests.support.cuda_toolkits"]


def test_the_compiler_is_of_the_release_that_torch_names() -> None:
    assert cuda.compiler_requirement(PYPI_TORCH) == "cuda-toolkit[nvcc,cccl,crt,nvvm]==13.0.3"
    with pytest.raises(SetupError, match=r"torch 2\.10\.0 does not say which cuda-toolkit.*BNN_CUDA_HOME=.*cuda-12\.8"):
        cuda.compiler_requirement(OLDER_TORCH)


def test_the_links_are_made_once_and_mended(venv: Path) -> None:
    packages = venv / "lib" / "python3.11" / "site-packages"
    cuda.make_links(packages, 13, with_toolkit=True)
    lib = packages / "nvidia" / "cu13" / "lib"
    (lib / "libcudart.so").unlink()
    (lib / "libcudart.so").symlink_to("libcudart.so.12")  # left by another version
    cuda.make_links(packages, 13, with_toolkit=True)
    assert (packages / "nvidia" / "cu13" / "lib64" / "libcudart.so").resolve() == lib / "libcudart.so.13"
    assert (packages / "nvidia" / "nccl" / "lib" / "libnccl.so").readlink() == Path("libnccl.so.2")
    (packages / "nvidia" / "nccl" / "lib" / "libnccl.so.2").unlink()
    with pytest.raises(SetupError, match=r"libnccl\.so\.2 is missing"):
        cuda.make_links(packages, 13, with_toolkit=True)


def test_the_build_is_told_where_everything_is(venv: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(horovod, "compiler", lambda: ("g++", "g++12.2.0"))
    monkeypatch.setenv("CUDA_HOME", "/somewhere/else")
    link = tmp_path / "link"
    link.symlink_to(venv)
    kit = cuda.toolkit(venv, A100, 13, PYPI_TORCH).seen_from(venv, link)
    env = horovod.build_environment(link, horovod.Mpi("/opt/m/bin/mpicxx", "mpi-1", ("/opt/m/lib",)), kit)
    nvidia = link / "lib" / "python3.11" / "site-packages" / "nvidia"
    wanted = {
        "HOROVOD_GPU": "CUDA",
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_NCCL_LINK": "SHARED",
        "HOROVOD_BUILD_CUDA_CC_LIST": "80,90",
        "HOROVOD_CUDA_HOME": str(nvidia / "cu13"),
        "CUDA_HOME": str(nvidia / "cu13"),
        "HOROVOD_NCCL_HOME": str(nvidia / "nccl"),
        "HOROVOD_WITH_MPI": "1",
        "HOROVOD_CPU_OPERATIONS": "MPI",
    }
    assert {name: env.get(name) for name in wanted} == wanted
    assert env["PATH"].split(":")[:2] == [str(link / "bin"), str(nvidia / "cu13" / "bin")]
    packages = ["$ORIGIN/../../nvidia/nccl/lib", "$ORIGIN/../../nvidia/cu13/lib"]
    assert env["BNN_RPATH"].split(";") == [*horovod.ORIGIN.split(";"), *packages, "/opt/m/lib"]


def test_a_systems_toolkit_is_used_where_it_is(venv: Path, tmp_path: Path) -> None:
    home = toolkit_in(tmp_path / "cuda-12.8")
    kit = cuda.toolkit(venv, cuda.Request((70,), str(home)), 12, OLDER_TORCH)
    assert kit.home == home
    assert kit.options["CUDA_HOME"] == str(home)
    assert kit.library_folders[-1] == f"{home}/lib64"
    assert not (venv / "lib" / "python3.11" / "site-packages" / "nvidia" / "cu13" / "lib64").exists()
    with pytest.raises(SetupError, match=r"nvcc 12\.8 does not compile for 121, only for 50 70 75"):
        cuda.toolkit(venv, cuda.Request((70, 121), str(home)), 12, OLDER_TORCH)


def test_the_key_names_all_that_the_binary_depends_on(
    venv: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(horovod, "_installed_version", lambda venv, package: "2.13.0")
    monkeypatch.setattr(horovod, "compiler", lambda: ("g++", "g++12.2.0"))
    mpi = horovod.Mpi("/opt/m/bin/mpicxx", "mpi-1")
    homes = [str(toolkit_in(tmp_path / name / "cuda", "13.0")) for name in ("one", "two")]

    def key(request: cuda.Request = A100, torch: cuda.Torch = PYPI_TORCH) -> str:
        return horovod.wheel_key(venv, mpi, cuda.toolkit(venv, request, 13, torch))

    first = key()
    assert first.startswith(horovod.wheel_key(venv, mpi) + "-cuda13.0-cc80.90-")
    keys = [first, horovod.wheel_key(venv, mpi), key(cuda.Request((80,)))]
    keys += [key(cuda.Request((80, 90), home)) for home in homes]
    keys.append(key(torch=cuda.Torch("2.13.0", "13.2", PYPI_TORCH.architectures, ())))
    nvidia = venv / "lib" / "python3.11" / "site-packages" / "nvidia"
    (nvidia / "nccl" / "include" / "nccl.h").write_text("#define NCCL_MINOR 30\n")
    keys.append(key())
    (nvidia / "cu13" / "bin" / "nvcc").write_text(NVCC.format(release="13.1", codes="80 90"))
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_another_environment_may_use_the_wheel_made_with_packages_only(venv: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / ".venv"
    shutil.copytree(venv, other, symlinks=True)
    here, there = (cuda.toolkit(folder, A100, 13, PYPI_TORCH) for folder in (venv, other))
    assert here.name == there.name
    assert not [folder for folder in there.library_folders if folder.startswith("/")]


def test_the_ordinary_set_up_is_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wheels that lie in caches already must still be found: change this key only with the recipe."""
    versions = {"torch": "2.13.0+cpu", "mpich": "5.0.2"}
    monkeypatch.setattr(horovod, "_installed_version", lambda venv, package: versions[package])
    monkeypatch.setattr(horovod, "compiler", lambda: ("g++", "g++12.2.0"))
    mpi = horovod.bundled_mpi(tmp_path)
    expected = f"horovod0.28.1-torch2.13.0+cpu-py3.11-{platform.machine()}-mpich5.0.2-g++12.2.0-2459162f"
    assert horovod.wheel_key(tmp_path, mpi) == expected
    env = horovod.build_environment(tmp_path, mpi)
    assert {name for name in env if name.startswith("HOROVOD_")} == horovod.OPTIONS.keys()
    assert env["BNN_RPATH"] == horovod.ORIGIN
    assert setup.requirements(with_mpich=True) == ENVS / "requirements.txt"
