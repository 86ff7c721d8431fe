"""BNN_CUDA: which torch and toolkit it means, what is refused before and after they are there, the build's variables.

No GPU and no CUDA toolkit is needed: compilers are scripts that answer as nvcc does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import setup
from bootstrap import checks, cuda, horovod
from bootstrap.console import SetupError
from tests.support.cuda_toolkits import A100, OLDER_TORCH, PYPI_TORCH, toolkit_in

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"

pytest_plugins = ["tests.support.cuda_toolkits"]


@pytest.mark.parametrize(
    ("text", "capabilities"),
    [("80,90", (80, 90)), ("9.0, 8.0", (80, 90)), ("70", (70,)), ("120", (120,)), ("12.0,8.6,86", (86, 120))],
)
def test_compute_capabilities_are_read_in_both_notations(text: str, capabilities: tuple[int, ...]) -> None:
    request = cuda.parse(text, "")
    assert request is not None
    assert request.capabilities == capabilities


@pytest.mark.parametrize("text", ["A100", "80;90", "sm_80", "80,", "8", "1234", "80,x"])
def test_other_words_are_refused_in_one_line_with_an_example(text: str) -> None:
    with pytest.raises(SetupError, match=r"BNN_CUDA=.*: give compute capabilities.*80 \(A100\)") as error:
        cuda.parse(text, "")
    assert "\n" not in str(error.value)


def test_a_toolkit_without_gpus_and_a_relative_one_are_refused() -> None:
    with pytest.raises(SetupError, match="BNN_CUDA_HOME=/opt/cuda: say for which GPUs, too: BNN_CUDA="):
        cuda.parse("", "/opt/cuda")
    with pytest.raises(SetupError, match="BNN_CUDA_HOME=cuda: give the full path"):
        cuda.parse("80", "cuda")


def test_nothing_asked_for_is_the_ordinary_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BNN_CUDA", "")
    monkeypatch.delenv("BNN_CUDA_HOME", raising=False)
    assert cuda.chosen(tmp_path) is None


def test_the_environment_remembers_what_it_was_set_up_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BNN_CUDA", "7.0")
    monkeypatch.setenv("BNN_CUDA_HOME", "/opt/cuda-12.8")
    first = cuda.chosen(tmp_path)
    cuda.remember(tmp_path, first)
    monkeypatch.delenv("BNN_CUDA")
    monkeypatch.setenv("BNN_CUDA_HOME", "")
    assert cuda.chosen(tmp_path) == first == cuda.Request((70,), "/opt/cuda-12.8")
    monkeypatch.setenv("BNN_CUDA", "80")
    assert cuda.chosen(tmp_path) == cuda.Request((80,), "/opt/cuda-12.8")
    cuda.remember(tmp_path, None)
    assert not (tmp_path / cuda.CHOICE).exists()


def test_the_toolkit_decides_the_profile(tmp_path: Path) -> None:
    assert cuda.major(A100) == 13
    assert cuda.major(cuda.Request((80,), str(toolkit_in(tmp_path / "12", "12.8")))) == 12
    assert cuda.major(cuda.Request((80,), str(toolkit_in(tmp_path / "13", "13.1")))) == 13
    with pytest.raises(SetupError, match=r"/11: is CUDA 11\.8, not 12 or 13"):
        cuda.major(cuda.Request((80,), str(toolkit_in(tmp_path / "11", "11.8"))))


def test_a_v100_needs_a_toolkit_and_hears_so_before_anything_is_fetched(tmp_path: Path) -> None:
    (line,) = cuda.problems(cuda.Request((70, 80)))
    assert line.startswith("BNN_CUDA=70,80: PyPI's compiler is of CUDA 13, which begins with 75; for 70 give")
    assert "BNN_CUDA_HOME=/usr/local/cuda-12.8" in line
    (line,) = cuda.problems(cuda.Request((70,), str(toolkit_in(tmp_path / "13", "13.0"))))
    assert f"{tmp_path}/13 is CUDA 13, which begins with 75" in line
    assert list(cuda.problems(cuda.Request((70,), str(toolkit_in(tmp_path / "12"))))) == []
    assert list(cuda.problems(A100)) == []


def test_without_any_toolkit_torch_has_cuda_and_horovod_is_for_cpus(
    venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build is then kept from finding some nvcc, by an edit that fits the known source."""
    request = cuda.parse("70", "none")
    assert request is not None
    assert list(cuda.problems(request)) == []
    assert cuda.major(request) == 12
    assert cuda.major(cuda.Request((75, 80), "none")) == 13
    kit = cuda.toolkit(venv, request, 12, OLDER_TORCH)
    env = horovod.build_environment(venv, horovod.Mpi("/opt/m/bin/mpicxx", "mpi-1"), kit)
    assert {name for name in env if name.startswith("HOROVOD_")} == horovod.OPTIONS.keys()
    assert env["BNN_RPATH"] == horovod.ORIGIN
    monkeypatch.setattr(horovod, "_installed_version", lambda venv, package: "2.10.0")
    monkeypatch.setattr(horovod, "compiler", lambda: ("g++", "g++12.2.0"))
    mpi = horovod.Mpi("/opt/m/bin/mpicxx", "mpi-1")
    assert horovod.wheel_key(venv, mpi, kit).startswith(horovod.wheel_key(venv, mpi) + "-nocuda-")
    assert {edit.file for edit in kit.edits} == {"CMakeLists.txt", "cmake/Modules/FindPytorch.cmake"}


def test_a_set_up_for_cpus_is_kept_from_cuda_where_torch_has_some() -> None:
    """PyPI's torch for Linux has: with an nvcc on the PATH Horovod would be built for GPUs, or not at all."""
    kit = cuda.for_cpus(PYPI_TORCH)
    assert kit == cuda.without_cuda()
    assert kit.edits == cuda.WITHOUT_CUDA
    assert kit.home is None
    assert cuda.for_cpus(replace(PYPI_TORCH, cuda=None)) is None  # the recipe, and so the wheel, stays as it is


def test_a_folder_without_nvcc_is_named(tmp_path: Path) -> None:
    (line,) = cuda.problems(cuda.Request((80,), str(tmp_path)))
    assert line == f"{tmp_path}/bin/nvcc: no CUDA compiler to start there (No such file or directory)"
    toolkit_in(tmp_path)
    (tmp_path / "bin" / "nvcc").write_text("#!/bin/sh\necho gcc 12\n")
    (line,) = cuda.problems(cuda.Request((80,), str(tmp_path)))
    assert line == f"{tmp_path}/bin/nvcc: is not the compiler of a CUDA toolkit ('gcc 12')"
    (tmp_path / "bin" / "nvcc").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    (line,) = cuda.problems(cuda.Request((80,), str(tmp_path)))
    assert line == f"{tmp_path}/bin/nvcc --version failed: 'broken'"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"BNN_CUDA": "A100"}, "setup: BNN_CUDA=A100: give compute capabilities"),
        ({"BNN_CUDA_HOME": "/opt/cuda"}, "setup: BNN_CUDA_HOME=/opt/cuda: say for which GPUs"),
        ({"BNN_CUDA": "70"}, "setup: BNN_CUDA=70: PyPI's compiler is of CUDA 13"),
        ({"BNN_CUDA": "70", "BNN_CUDA_HOME": "/nowhere"}, "setup: /nowhere/bin/nvcc: no CUDA compiler"),
    ],
)
def test_the_command_refuses_with_exit_code_2(asked: dict[str, str], said: str, tmp_path: Path) -> None:
    """The real command, in a copy of its files."""
    shutil.copytree(ENVS, tmp_path / "envs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "workflow/executor/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **asked}
    python = str(Path(sys.base_prefix) / "bin" / "python3.11")
    result = subprocess.run([python, tmp_path / "envs" / "setup.py"], capture_output=True, text=True, env=env)
    assert result.returncode == 2, result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith(said)]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_cuda_takes_more_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5 * checks.GIB))
    assert list(checks.problems(tmp_path / ".venv", tmp_path / "cache")) == []
    (line,) = checks.problems(tmp_path / ".venv", tmp_path / "cache", cuda=True)
    assert "has 5.0 GB free and 9.1 GB are needed" in line


@pytest.mark.parametrize("name", ["cuda12.txt", "cuda13.txt"])
def test_a_profile_pins_torch_and_what_follows_from_it(name: str) -> None:
    lines = [line for line in (ENVS / name).read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    pins = cuda.pins(ENVS, int(name[4:6]))
    assert len(pins) == len(lines)
    common = (ENVS / "requirements.txt").read_text() + (ENVS / "build.txt").read_text()
    assert {package for package in pins if f"\n{package}==" in common} == {"torch"}
    assert f"nvidia-nccl-cu{name[4:6]}" in pins
    text = cuda.requirements((ENVS / "requirements.txt").read_text(), pins)
    assert text.count("\ntorch==") == 1
    assert f"\ntorch=={pins['torch']},!={pins['torch']}+cpu\n" in text
    assert "\nmpich==" in text


def test_the_newer_profile_has_the_projects_torch_and_its_compiler() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = cuda.pins(ENVS, 13)
    assert f"torch=={pins['torch']}" in project["dependencies"]
    assert {"cuda-toolkit", "nvidia-cuda-nvcc", "nvidia-cuda-cccl", "nvidia-cuda-crt", "nvidia-nvvm"} <= pins.keys()


def test_a_torch_for_cpus_is_refused_and_the_other_one_told() -> None:
    with pytest.raises(SetupError, match=r"torch 2.13.0\+cpu was installed, which has no CUDA: show pip a build with"):
        cuda.check_torch(cuda.Torch("2.13.0+cpu", None, (), ()), A100, 13)
    with pytest.raises(SetupError, match=r"torch 2.10.0 was installed, which is for CUDA 12.8, not 13"):
        cuda.check_torch(OLDER_TORCH, A100, 13)


@pytest.mark.parametrize(
    ("torch", "capability", "runs"),
    [
        (PYPI_TORCH, 80, True),
        (PYPI_TORCH, 89, True),  # by the code for 8.6
        (PYPI_TORCH, 70, False),
        (PYPI_TORCH, 110, False),
        (OLDER_TORCH, 70, True),
        (OLDER_TORCH, 61, False),
        (cuda.Torch("2", "12.8", ("sm_80", "compute_90"), ()), 120, True),  # compiled when it is loaded
        (cuda.Torch("2", "12.8", ("sm_80", "sm_90a"), ()), 90, False),
    ],
)
def test_capabilities_without_code_in_torch_are_refused(torch: cuda.Torch, capability: int, runs: bool) -> None:
    assert torch.cuda is not None
    request, generation = cuda.Request((capability,)), int(torch.cuda.split(".")[0])
    if runs:
        cuda.check_torch(torch, request, generation)
        return
    with pytest.raises(SetupError, match=f"BNN_CUDA={capability}: torch .* has no code for {capability}, only for sm_"):
        cuda.check_torch(torch, request, generation)


def test_the_installed_torch_is_asked_without_a_gpu() -> None:
    torch = cuda.installed_torch(Path(sys.prefix))
    assert torch.version.startswith("2.")
    assert (torch.cuda is None) == (torch.architectures == ())
    assert any(text.startswith("sympy") for text in torch.requires)


def test_a_torch_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'OSError: libnccl.so.2: no such file' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(SetupError, match=r"torch cannot be loaded: OSError: libnccl\.so\.2"):
        cuda.installed_torch(tmp_path)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "ERROR: No matching distribution found for torch!=2.13.0+cpu,==2.13.0",
            "pip finds no torch 2.13.0 with CUDA: show pip a build with CUDA",
        ),
        ("Could NOT find NCCL (missing: NCCL_LIBRARY)", "libnccl.so was not found beside torch"),
        ("Could NOT find CUDAToolkit (missing: CUDA_CUDART) (found version", "libcudart.so was not found in the CUDA"),
        ("/usr/bin/ld: cannot find -lcudadevrt: No such file", "libcudadevrt.a was not found in lib64"),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_70'", "this nvcc does not compile for compute_70"),
        ("#error -- unsupported GNU version! gcc versions later than 14 are not supported!", "e.g. CXX=g++-14"),
        ("a.h:5:10: fatal error: cusparse.h: No such file or directory", "cusparse.h was not found"),
        ("CUDACachingAllocator.h:3: fatal error: cuda_runtime_api.h: No such file", "cuda_runtime_api.h was not found"),
    ],
)
def test_typical_errors_are_said_in_words(log: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"[ 10%] Building\n{log}\nmake: *** [all] Error 2\n")
    with pytest.raises(SetupError) as error, cuda.explained(tmp_path / "log"):
        raise SetupError("building failed (exit code 1)")
    assert said in str(error.value)
    assert str(error.value).endswith(f"the full log is {tmp_path / 'log'}")
    assert "\n" not in str(error.value)


def test_an_unknown_error_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("internal compiler error\n")
    for log in (tmp_path / "log", tmp_path / "none"):
        with pytest.raises(SetupError, match=r"^building failed$"), cuda.explained(log):
            raise SetupError("building failed")


def test_the_steps_of_a_set_up_for_gpus(venv: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In order: torch with CUDA, its compiler, Horovod with the toolkit; at last Horovod is asked for NCCL."""
    commands: list[tuple[str, list[str]]] = []
    toolkits: list[cuda.Toolkit | None] = []

    def ensure_wheel(venv: Path, mpi: object, log: Path, toolkit: cuda.Toolkit | None) -> Path:
        toolkits.append(toolkit)
        return tmp_path / "horovod.whl"

    monkeypatch.setattr(setup, "run", lambda title, words, *rest, **named: commands.append((title, list(words))))
    monkeypatch.setattr(setup, "prepare", lambda venv, log: None)
    monkeypatch.setattr(setup, "VENV", venv)
    monkeypatch.setattr(setup.cuda, "installed_torch", lambda venv: PYPI_TORCH)
    monkeypatch.setattr(setup.horovod, "bundled_mpi", lambda venv: None)
    monkeypatch.setattr(setup.horovod, "ensure_wheel", ensure_wheel)
    setup.install(dev=False, mpicc="", lock=0, gpus=A100)
    titles = [title for title, _ in commands]
    assert titles[:2] == ["installing build tools, torch and MPI", "installing the CUDA compiler"]
    assert titles[-2:] == ["trying Horovod on 2 ranks", "asking horovod for NCCL"]
    assert "cuda-toolkit[nvcc,cccl,crt,nvvm]==13.0.3" in commands[1][1]
    assert "nccl_built()" in commands[-1][1][-1]
    assert [toolkit.name for toolkit in toolkits if toolkit] == [cuda.toolkit(venv, A100, 13, PYPI_TORCH).name]
    assert cuda.chosen(venv) == A100
    assert "torch==2.13.0,!=2.13.0+cpu\n" in (venv / "requirements.txt").read_text()


def test_the_stamp_knows_the_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stamps = [setup.wanted_stamp(False, "", gpus) for gpus in (None, A100, cuda.Request((80,)))]
    stamps.append(setup.wanted_stamp(False, "", cuda.Request((80,), "/opt/cuda")))
    assert len({json.dumps(stamp) for stamp in stamps}) == 4
