"""Horovod's wheel, built once per (torch, Python, MPI, compiler, recipe, CUDA) and kept in a cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import astuple, dataclass
from pathlib import Path

from bootstrap import cuda
from bootstrap.console import SetupError, run, say
from bootstrap.lock import locked
from bootstrap.source import Edit, apply_edits, check_sha256, unpack

VERSION = "0.28.1"
SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"

# torch 2.13's headers need C++20; the code itself compiles as such unchanged. The library finds MPI and torch
# relative to itself ($ORIGIN = lib/python3.11/site-packages/horovod/torch), so that the wheel serves any environment.
EDITS = (
    Edit(
        "CMakeLists.txt",
        "set(CMAKE_CXX_STANDARD 14)\n",
        "set(CMAKE_CXX_STANDARD 20)\n"
        'set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -DNDEBUG")\n'
        "set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)\n"
        'set(CMAKE_INSTALL_RPATH "$ENV{BNN_RPATH}")\n'
        'set(MPI_CXX_COMPILER "$ENV{BNN_MPICXX}" CACHE FILEPATH "")\n',
    ),
    Edit("horovod/torch/CMakeLists.txt", "    set(CMAKE_CXX_STANDARD 14)\n", "    set(CMAKE_CXX_STANDARD 20)\n"),
    Edit(
        "third_party/gloo/CMakeLists.txt",
        'set(CMAKE_CXX_FLAGS "${CMAKE_CXX_FLAGS} -std=c++11 -fPIC")',
        'set(CMAKE_CXX_FLAGS "${CMAKE_CXX_FLAGS} -std=c++17 -fPIC")',
    ),
)
OPTIONS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITH_MPI": "1",
    "HOROVOD_WITHOUT_GLOO": "1",
    "HOROVOD_CPU_OPERATIONS": "MPI",
}
ORIGIN = "$ORIGIN/../../../..;$ORIGIN/../../torch/lib"


@dataclass(frozen=True)
class Mpi:
    """The MPI that Horovod is built against: the C++ wrapper, a name for the key, its library folders if a site's."""

    mpicxx: str
    name: str
    library_folders: tuple[str, ...] = ()


def bundled_mpi(venv: Path) -> Mpi:
    """MPICH of the virtual environment (the `mpich` package)."""
    return Mpi(str(venv / "bin" / "mpicxx"), "mpich" + _installed_version(venv, "mpich"))


def site_mpi(mpicc: str) -> Mpi:
    """The site's MPI, from the path of its `mpicc`. Raises SetupError when it cannot be used."""
    path = Path(mpicc)
    if not (path.is_absolute() and os.access(path, os.X_OK)):
        raise SetupError(f"BNN_MPICC={mpicc}: give the full path of an MPI compiler wrapper, e.g. /opt/mpi/bin/mpicc")
    twins = [path.parent / name for name in ("mpicxx", "mpic++", "mpiCC", "CC")]
    mpicxx = next((twin for twin in twins if os.access(twin, os.X_OK)), None)
    if mpicxx is None:
        raise SetupError(f"BNN_MPICC={mpicc}: no C++ wrapper (mpicxx, mpic++) beside it")
    shown = ""
    for option in ("-show", "--showme", "--cray-print-opts=all"):  # MPICH and Intel, Open MPI, Cray
        result = subprocess.run([str(mpicxx), option], capture_output=True, text=True)
        if result.returncode == 0 and result.stdout.strip():
            shown = result.stdout
            break
    folders = tuple(dict.fromkeys(word[2:] for word in shlex.split(shown) if word.startswith("-L/")))
    digest = hashlib.sha256(f"{mpicxx.resolve()}\n{shown}".encode()).hexdigest()[:8]
    return Mpi(str(mpicxx), f"mpi-{digest}", folders)


def _installed_version(venv: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    result = subprocess.run([str(venv / "bin" / "python"), "-c", code], capture_output=True, text=True)
    if result.returncode != 0:
        raise SetupError(f"{package} is not installed in {venv}")
    return result.stdout.strip()


def compiler() -> tuple[str, str]:
    """The C++ compiler and its version as one word. The environment variable CXX chooses another than g++."""
    command = os.environ.get("CXX") or "g++"
    try:
        result = subprocess.run([*shlex.split(command), "--version"], capture_output=True, text=True)
    except OSError as error:
        raise SetupError(f"{command}: cannot run the C++ compiler ({error.strerror}): apt-get install g++") from None
    line = (result.stdout.splitlines() or [""])[0]
    number = re.findall(r"\d+(?:\.\d+)+", line)
    name = re.sub(r"[^A-Za-z0-9+]", "", line.split(" ")[0])
    return command, f"{name}{number[-1] if number else ''}"


def recipe_hash() -> str:
    """Changes whenever the edits, options or flags of the build change."""
    recipe = [VERSION, SHA256, [astuple(edit) for edit in EDITS], OPTIONS, ORIGIN]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]


def wheel_key(venv: Path, mpi: Mpi, toolkit: cuda.Toolkit | None = None) -> str:
    """Name of the wheel's folder in the cache: everything that the binary depends on."""
    torch = _installed_version(venv, "torch")
    python = f"py{sys.version_info.major}.{sys.version_info.minor}-{platform.machine()}"
    gpus = f"-{toolkit.name}" if toolkit else ""
    return f"horovod{VERSION}-torch{torch}-{python}-{mpi.name}-{compiler()[1]}-{recipe_hash()}{gpus}"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/bnn-at-scale/wheels`, by default under ~/.cache."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))  # relative paths are to be ignored, says its specification
    root = named if named.is_absolute() else Path.home() / ".cache"
    return root / "bnn-at-scale" / "wheels"


def cached_wheel(key: str) -> Path | None:
    """The wheel with this key, or None. A wheel is moved in whole, so what is there is complete."""
    return next(iter(sorted((cache_folder() / key).glob("horovod-*.whl"))), None)


def ensure_wheel(venv: Path, mpi: Mpi, log: Path, toolkit: cuda.Toolkit | None = None) -> Path:
    """The wheel from the cache, built first if it is not there; with a toolkit for GPUs. Raises SetupError."""
    key = wheel_key(venv, mpi, toolkit)
    with locked(cache_folder() / f"{key}.lock", "building the same Horovod"):
        wheel = cached_wheel(key)
        if wheel is not None:
            say(f"Horovod {VERSION}: using {wheel}")
            return wheel
        with tempfile.TemporaryDirectory(prefix="bnn-horovod-") as scratch:
            built = _build(venv, mpi, Path(scratch), log, toolkit)
            return _keep(built, cache_folder() / key)


def _keep(wheel: Path, folder: Path) -> Path:
    """Copy the wheel beside its place (another file system, perhaps), then rename."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{wheel.name}.part"
    shutil.copyfile(wheel, aside)
    return aside.replace(folder / wheel.name)


def build_environment(venv: Path, mpi: Mpi, toolkit: cuda.Toolkit | None = None) -> dict[str, str]:
    """The environment of the build: our options, not those that a user's shell or `make` happens to have."""
    foreign = ("HOROVOD_", "CMAKE_", "MAKE", "MFLAGS", "PYTHONPATH", "PYTHONHOME")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    cores = len(os.sched_getaffinity(0))
    programs = [
        str(venv / "bin"),
        *([str(toolkit.home / "bin")] if toolkit and toolkit.home else []),
        env.get("PATH", os.defpath),
    ]
    return env | OPTIONS | (dict(toolkit.options) if toolkit else {}) | {
        "PATH": os.pathsep.join(programs),
        "CXX": compiler()[0],
        "MAKEFLAGS": f"-j{cores}",
        "BNN_MPICXX": mpi.mpicxx,
        "BNN_RPATH": ";".join((ORIGIN, *(toolkit.library_folders if toolkit else ()), *mpi.library_folders)),
    }  # fmt: skip


def _build(venv: Path, mpi: Mpi, scratch: Path, log: Path, toolkit: cuda.Toolkit | None = None) -> Path:
    # Reached by a link in the scratch folder: MPI's wrappers and Horovod's CMake files break on paths with spaces.
    link = scratch / "venv"
    link.symlink_to(venv)
    if Path(mpi.mpicxx).is_relative_to(venv):
        mpi = Mpi(str(link / Path(mpi.mpicxx).relative_to(venv)), mpi.name)
    if toolkit is not None:
        toolkit = toolkit.seen_from(venv, link)
    env = build_environment(link, mpi, toolkit)
    pip = [str(link / "bin" / "python"), "-m", "pip"]
    run(
        f"fetching Horovod {VERSION}'s source",
        [*pip, "download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "-d", scratch / "source",
         f"horovod=={VERSION}"],
        log, env,
    )  # fmt: skip
    archive = scratch / "source" / f"horovod-{VERSION}.tar.gz"
    check_sha256(archive, SHA256)
    source = unpack(archive, scratch / "tree")
    apply_edits(source, (*EDITS, *(toolkit.edits if toolkit else ())))
    with cuda.explained(log) if toolkit else nullcontext():
        run(
            f"building Horovod {VERSION} (about {7 if toolkit and toolkit.home else 4} minutes on 2 cores, once)",
            [*pip, "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", scratch / "wheel", source],
            log, env,
        )  # fmt: skip
    wheels = list((scratch / "wheel").glob("horovod-*.whl"))
    if len(wheels) != 1:
        raise SetupError(f"the build of Horovod left {len(wheels)} wheels; the full log is {log}")
    return wheels[0]
