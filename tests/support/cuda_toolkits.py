"""Torches and CUDA toolkits for tests of the set-up: compilers are scripts that answer as nvcc does."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import cuda

NVCC = """#!/bin/sh
case "$1" in
  --version) echo 'Cuda compilation tools, release {release}, V{release}.93' ;;
  --list-gpu-code) printf 'sm_%s\\n' {codes} ;;
esac
"""
A100 = cuda.Request((80, 90))
PYPI_TORCH = cuda.Torch(
    "2.13.0",
    "13.0",
    ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
    ("filelock", "cuda-toolkit[cublas,cudart]==13.0.3; platform_system == 'Linux'"),
)
OLDER_TORCH = cuda.Torch("2.10.0", "12.8", ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"), ())


def toolkit_in(home: Path, release: str = "12.8", codes: str = "50 70 75 80 86 89 90 100 120") -> Path:
    nvcc = home / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(NVCC.format(release=release, codes=codes))
    nvcc.chmod(0o755)
    return home


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A virtual environment as pip leaves it: libraries with versions in their names only."""
    nvidia = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages" / "nvidia"
    for name in ("nccl/lib/libnccl.so.2", "nccl/include/nccl.h", "cu13/lib/libcudart.so.13"):
        (nvidia / name).parent.mkdir(parents=True, exist_ok=True)
        (nvidia / name).write_text("")
    toolkit_in(nvidia / "cu13", "13.0", "75 80 86 89 90 100 120")
    return tmp_path / ".venv"
