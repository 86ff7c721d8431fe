"""What `BNN_CUDA` asks for: the torch that fits the GPUs and the toolkit that Horovod's NCCL operations are built with.

There are two profiles, one per major version of CUDA. Their lists (`cuda13.txt`, `cuda12.txt`) pin torch and what
follows from it; everything else is as in requirements.txt.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from bootstrap.console import SetupError
from bootstrap.source import Edit

CHOICE = "cuda.txt"  # in .venv: what it was set up for
NO_TOOLKIT = "none"  # as BNN_CUDA_HOME: torch with CUDA, and Horovod without
PYPI_MAJOR = 13  # PyPI has nvcc since CUDA 13
PYPI_LOWEST = 75  # what that nvcc, and torch's builds for CUDA 13, begin with
MAJORS = (12, 13)  # one profile each
COMPILER = ("nvcc", "cccl", "crt", "nvvm")  # the parts of cuda-toolkit that compile; torch brings the libraries
EXAMPLES = "80 (A100), 90 (H100), 70 (V100), as nvidia-smi --query-gpu=compute_cap --format=csv shows"
OTHER_TORCH = (
    "show pip a build with CUDA (PyPI's for Linux is one; look at pip config list, PIP_INDEX_URL and PIP_FIND_LINKS)"
)
# What torch was built for, also on a machine without a GPU.
ASK_TORCH = (
    "import json, torch; from importlib.metadata import requires, version; "
    "flags = getattr(torch._C, '_cuda_getArchFlags', str); "  # a build for CPUs has none
    "known = torch.cuda.get_arch_list() or (flags() or '').split(); "
    "print(json.dumps([version('torch'), torch.version.cuda, known, requires('torch')]))"
)
# Where torch has CUDA and some nvcc is about, a build for CPUs would become one with CUDA and without NCCL, or fail.
WITHOUT_CUDA = (
    Edit("CMakeLists.txt", "check_language(CUDA)\nif(NOT CMAKE_CUDA_COMPILER)", "if(FALSE)"),
    Edit(
        "cmake/Modules/FindPytorch.cmake",
        "print(True if ((torch.version.cuda is not None) and (CUDA_HOME is not None)) else False)",
        "print(False)",
    ),
)
# Errors of pip and of the build, and what they mean.
EXPLANATIONS = (
    (r"No matching distribution found for torch\S*?(?<!!)==([\d.]+)",
     "pip finds no torch {0} with CUDA: " + OTHER_TORCH),
    (r"missing: .*NCCL_LIBRARY", "libnccl.so was not found beside torch: run it again, it makes the link anew"),
    (r"missing: .*CUDA_CUDART", "libcudart.so was not found in the CUDA toolkit: its development files are missing"),
    (r"cannot find -lcudadevrt", "libcudadevrt.a was not found in lib64 of the CUDA toolkit: it is incomplete"),
    (r"Unsupported gpu architecture '(\w+)'", "this nvcc does not compile for {0}: see the table in envs/README.md"),
    (
        r"unsupported GNU version! gcc versions later than (\d+)",
        "this nvcc accepts g++ up to {0}: name such a one, e.g. CXX=g++-{0}",
    ),
    (r"fatal error: (\S*(?:cuda|cublas|cusparse|cusolver|nv|thrust|cub)\S*): No such file",
     "{0} was not found: the CUDA toolkit is incomplete"),
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What the user asks for: compute capabilities (80 for 8.0); a toolkit's folder, "" for PyPI's, or "none"."""

    capabilities: tuple[int, ...]
    home: str = ""

    @property
    def listed(self) -> str:
        """As Horovod's build and BNN_CUDA write them."""
        return ",".join(map(str, self.capabilities))


@dataclass(frozen=True)
class Toolkit:
    """What Horovod's GPU operations are compiled with: a name for the wheel's key, variables, folders of libraries."""

    name: str
    home: Path | None
    options: Mapping[str, str]
    library_folders: tuple[str, ...]
    edits: tuple[Edit, ...] = ()

    def seen_from(self, venv: Path, link: Path) -> Toolkit:
        """The same, with paths in `venv` that go through a link to it."""

        def moved(text: str) -> str:
            inside = text.startswith("/") and Path(text).is_relative_to(venv)
            return str(link / Path(text).relative_to(venv)) if inside else text

        options = {name: moved(value) for name, value in self.options.items()}
        home = None if self.home is None else Path(moved(str(self.home)))
        return replace(self, home=home, options=options)


def parse(capabilities: str, home: str) -> Request | None:
    """The request in BNN_CUDA and BNN_CUDA_HOME, None when both are empty. Raises SetupError."""
    if not capabilities:
        if home:
            raise SetupError(f"BNN_CUDA_HOME={home}: say for which GPUs, too: BNN_CUDA={EXAMPLES}")
        return None
    found = re.split(r"[, ]+", capabilities)
    if not all(re.fullmatch(r"\d\d\d?|\d\d?\.\d", word) for word in found):
        raise SetupError(f"BNN_CUDA={capabilities}: give compute capabilities, with commas between: {EXAMPLES}")
    if home and home != NO_TOOLKIT and not Path(home).is_absolute():
        raise SetupError(
            f"BNN_CUDA_HOME={home}: give the full path of a CUDA toolkit, e.g. /usr/local/cuda-12.8, or none"
        )
    return Request(tuple(sorted({int(word.replace(".", "")) for word in found})), home)


def chosen(venv: Path) -> Request | None:
    """BNN_CUDA and BNN_CUDA_HOME, each else as this environment was set up with. Raises SetupError."""
    try:
        remembered = [*(venv / CHOICE).read_text().split("\n"), ""]
    except OSError:
        remembered = ["", ""]
    return parse(os.environ.get("BNN_CUDA") or remembered[0], os.environ.get("BNN_CUDA_HOME") or remembered[1])


def remember(venv: Path, request: Request | None) -> None:
    """Keep the choice in the environment."""
    if request is None:
        (venv / CHOICE).unlink(missing_ok=True)
    else:
        (venv / CHOICE).write_text(f"{request.listed}\n{request.home}\n")


def nvcc_version(home: Path) -> tuple[int, int]:
    """(major, minor) of the toolkit in `home`. Raises SetupError when there is no compiler that starts."""
    words = _nvcc(home, "--version")
    found = re.search(r"release (\d+)\.(\d+)", words)
    if found is None:
        raise SetupError(f"{home}/bin/nvcc: is not the compiler of a CUDA toolkit ({words.strip()[:60]!r})")
    return int(found[1]), int(found[2])


def _nvcc(home: Path, option: str) -> str:
    program = home / "bin" / "nvcc"
    try:
        result = subprocess.run([program, option], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise SetupError(f"{program}: no CUDA compiler to start there ({error.strerror})") from None
    if result.returncode != 0:
        raise SetupError(f"{program} {option} failed: {(result.stderr or result.stdout).strip()[-100:]!r}")
    return result.stdout


def major(request: Request) -> int:
    """The CUDA of the profile that serves the request: its toolkit's, else PyPI's. Raises SetupError."""
    if request.home == NO_TOOLKIT:
        return PYPI_MAJOR if min(request.capabilities) >= PYPI_LOWEST else PYPI_MAJOR - 1
    if request.home:
        version = nvcc_version(Path(request.home))
        if version[0] not in MAJORS:
            raise SetupError(f"BNN_CUDA_HOME={request.home}: is CUDA {version[0]}.{version[1]}, not 12 or 13")
        return version[0]
    return PYPI_MAJOR


def problems(request: Request) -> Iterator[str]:
    """What can be said of a request before anything is fetched; one line each."""
    try:
        cuda = major(request)
    except SetupError as error:
        yield str(error)
        return
    too_old = [capability for capability in request.capabilities if capability < PYPI_LOWEST]
    if cuda >= PYPI_MAJOR and too_old:
        where = f"{request.home} is CUDA {cuda}" if request.home else "PyPI's compiler is of CUDA 13"
        yield (
            f"BNN_CUDA={request.listed}: {where}, which begins with {PYPI_LOWEST}; for {too_old[0]} give the folder of "
            "a CUDA 12.8 toolkit, BNN_CUDA_HOME=/usr/local/cuda-12.8, or BNN_CUDA_HOME=none for engine torch only"
        )


def pins(folder: Path, cuda: int) -> dict[str, str]:
    """Name and version of everything that the profile pins; `folder` is that of the lists."""
    lines = [line.strip() for line in (folder / f"cuda{cuda}.txt").read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def requirements(common: str, profile: Mapping[str, str]) -> str:
    """The list `common` with the profile's pins in place of its own, and never torch's build for CPUs."""
    kept = [line for line in common.splitlines() if line.split("==")[0] not in profile]
    own = [f"{name}=={version}" for name, version in profile.items()]
    own = [f"{line},!={profile['torch']}+cpu" if line.startswith("torch==") else line for line in own]
    return "\n".join([*kept, *own]) + "\n"


@dataclass(frozen=True)
class Torch:
    """The torch that was installed: its version, its CUDA (13.0), the architectures it has code for, its needs."""

    version: str
    cuda: str | None
    architectures: tuple[str, ...]
    requires: tuple[str, ...]

    def runs_on(self, capability: int) -> bool:
        """Code of the same generation, not newer, runs as it is; compute_XY is compiled when it is loaded."""
        for word in self.architectures:
            found = re.fullmatch(r"(sm|compute)_(\d+)", word)  # sm_90a is for 9.0 only, and never without sm_90
            same = found and (found[1] == "compute" or int(found[2]) // 10 == capability // 10)
            if found and same and int(found[2]) <= capability:
                return True
        return False


def installed_torch(venv: Path) -> Torch:
    """Asks the torch in the environment. Raises SetupError when it cannot be loaded."""
    python = venv / "bin" / "python"
    result = subprocess.run([python, "-W", "ignore", "-c", ASK_TORCH], capture_output=True, text=True)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SetupError(f"torch cannot be loaded: {last}")
    version, cuda, architectures, requires = json.loads(result.stdout.splitlines()[-1])
    return Torch(version, cuda, tuple(architectures), tuple(requires or ()))


def check_torch(torch: Torch, request: Request, cuda: int) -> None:
    """Whether this torch can use the GPUs. Raises SetupError."""
    if torch.cuda is None:
        raise SetupError(f"torch {torch.version} was installed, which has no CUDA: {OTHER_TORCH}")
    if int(torch.cuda.split(".")[0]) != cuda:
        raise SetupError(
            f"torch {torch.version} was installed, which is for CUDA {torch.cuda}, not {cuda}: {OTHER_TORCH}"
        )
    for capability in request.capabilities:
        if not torch.runs_on(capability):
            raise SetupError(
                f"BNN_CUDA={request.listed}: torch {torch.version} has no code for {capability}, only for "
                f"{' '.join(torch.architectures)}"
            )


def compiler_requirement(torch: Torch) -> str:
    """What pip is to install so that there is an nvcc of the same release as torch's CUDA. Raises SetupError."""
    for text in torch.requires:
        found = re.match(r"cuda-toolkit(?:\[[^]]*\])?\s*==\s*([\d.]+)", text)
        if found:
            return f"cuda-toolkit[{','.join(COMPILER)}]=={found[1]}"
    raise SetupError(
        f"torch {torch.version} does not say which cuda-toolkit it needs (a build that is not PyPI's): give the folder "
        f"of a CUDA {torch.cuda} toolkit, BNN_CUDA_HOME=/usr/local/cuda-{torch.cuda}"
    )


def make_links(packages: Path, cuda: int, with_toolkit: bool) -> None:
    """The names without versions that a build looks for: the wheels ship none. Raises SetupError."""
    links = {"nccl/lib/libnccl.so": "libnccl.so.2"}
    if with_toolkit:
        links |= {f"cu{cuda}/lib64": "lib", f"cu{cuda}/lib/libcudart.so": f"libcudart.so.{cuda}"}
    for name, target in links.items():
        link = packages / "nvidia" / name
        if not (link.parent / target).exists():
            raise SetupError(f"{link.parent / target} is missing: torch's package did not bring it")
        if link.is_symlink():
            link.unlink()
        if not link.exists():
            link.symlink_to(target)


def _digest(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def for_cpus(torch: Torch) -> Toolkit | None:
    """What Horovod's build is told in a set-up for CPUs: no CUDA, where torch has some (PyPI's for Linux does).

    Else an nvcc that happens to be on the PATH, as on login nodes, would make the build one with CUDA, or end it.
    """
    return without_cuda() if torch.cuda else None


def without_cuda() -> Toolkit:
    """The build of Horovod does not look for CUDA."""
    return Toolkit(f"nocuda-{_digest([astuple(edit) for edit in WITHOUT_CUDA])}", None, {}, (), WITHOUT_CUDA)


def toolkit(venv: Path, request: Request, cuda: int, torch: Torch) -> Toolkit:
    """Everything that the build of Horovod needs to know, checked. Raises SetupError."""
    if request.home == NO_TOOLKIT:
        return without_cuda()
    packages = next(venv.glob("lib/python3*/site-packages"))
    home = Path(request.home) if request.home else packages / "nvidia" / f"cu{cuda}"
    make_links(packages, cuda, with_toolkit=not request.home)
    version = ".".join(map(str, nvcc_version(home)))
    known = sorted(int(word) for word in re.findall(r"^sm_(\d+)$", _nvcc(home, "--list-gpu-code"), re.MULTILINE))
    for capability in request.capabilities:
        if capability not in known:
            raise SetupError(
                f"BNN_CUDA={request.listed}: {home}/bin/nvcc {version} does not compile for {capability}, only for "
                f"{' '.join(map(str, known))}"
            )
    nccl = packages / "nvidia" / "nccl"
    # Relative to the library (horovod/torch): as long as only packages are named, the wheel serves any environment.
    inside = f"$ORIGIN/../../nvidia/cu{cuda}/lib" if cuda >= PYPI_MAJOR else "$ORIGIN/../../nvidia/cuda_runtime/lib"
    folders = ["$ORIGIN/../../nvidia/nccl/lib", inside, *([f"{home}/lib64"] if request.home else [])]
    options = {
        "HOROVOD_GPU": "CUDA",
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_NCCL_LINK": "SHARED",
        "HOROVOD_BUILD_CUDA_CC_LIST": request.listed,
    }
    places = {"HOROVOD_CUDA_HOME": str(home), "CUDA_HOME": str(home), "HOROVOD_NCCL_HOME": str(nccl)}
    header = hashlib.sha256((nccl / "include" / "nccl.h").read_bytes()).hexdigest()
    facts = [options, folders, request.home, version, torch.cuda, header]
    name = f"cuda{version}-cc{request.listed.replace(',', '.')}-{_digest(facts)}"
    return Toolkit(name, home, options | places, tuple(folders))


def explain(log: Path) -> str | None:
    """What a failed command means, where its log has one of the typical errors."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    for pattern, meaning in EXPLANATIONS:
        found = re.search(pattern, text)
        if found:
            return f"{meaning.format(*found.groups())}; the full log is {log}"
    return None


@contextmanager
def explained(log: Path) -> Iterator[None]:
    """What fails inside says what its log means, if that is known. Raises SetupError."""
    try:
        yield
    except SetupError as error:
        meaning = explain(log)
        if meaning is None:
            raise
        raise SetupError(meaning) from error
