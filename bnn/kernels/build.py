"""Builds the kernels with the C++ compiler, once per source, torch and compiler: `python -m bnn.kernels.build`.

The library is kept in the user's cache, as Horovod's wheel is, so that a new environment takes it from there. CXX
chooses another compiler than g++ (it must know GCC's vector extension, as clang does).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bnn.errors import UserError
from bnn.records.files import write_text

SOURCE = Path(__file__).parent / "src"
FLAGS = ("-std=c++20", "-O3", "-fPIC", "-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
         "-Wno-unused-parameter", "-Wno-maybe-uninitialized", "-Wno-uninitialized", "-Wno-psabi")  # fmt: skip
# One build serves all machines of an architecture: the kernels are compiled for each and chosen when they run. The
# narrowest come first: of a template that several objects define, the linker keeps the first, and all machines run it.
ISA_FLAGS = {
    "generic": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"),
}
PLAIN = ("geometry.cpp", "dispatch.cpp")  # that need nothing of torch


def library_path() -> Path:
    """Where the library of this Python environment lies."""
    return Path(sys.prefix) / "lib" / "bnn" / "libbnn_kernels.so"


def _key_path() -> Path:
    return library_path().with_suffix(".key")


def _cache(key: str) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "bnn-at-scale" / "kernels" / key / library_path().name


def _source_hash() -> str:
    """Hash of what is compiled and how; cheap, since every run asks for it."""
    from importlib.metadata import version

    digest = hashlib.sha256(repr((FLAGS, ISA_FLAGS, version("torch"))).encode())
    for path in sorted(SOURCE.iterdir()):
        if path.suffix in (".h", ".cpp"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def library() -> Path:
    """The library built from these sources. Raises UserError when it is not there or older than they are."""
    try:
        built = _key_path().read_text().split("\n")[0]
    except OSError:
        built = ""
    if built != _source_hash() or not library_path().is_file():
        state = "older than their source" if built else "not built"
        raise UserError(f"{library_path()}: the kernels are {state}: run python -m bnn.kernels.build")
    return library_path()


def compiler() -> str:
    """The C++ compiler. Raises UserError when there is none."""
    name = os.environ.get("CXX") or "g++"
    found = shutil.which(name)
    if found is None:
        raise UserError(f"{name}: no such C++ compiler (apt-get install g++, or name another one in CXX)")
    return found


def _run(command: list[str], what: str) -> None:
    """Run the compiler. Raises UserError with its first error."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise UserError(f"{command[0]}: cannot build {what}: {words[0] if words else 'no reason given'}")


def compile_library(cxx: str, target: Path) -> None:
    """Compile all sources, two at a time, and link them to torch and to its own OpenMP. Raises UserError."""
    import torch

    root = Path(torch.__file__).parent
    includes = [f"-I{root / 'include'}", f"-I{root / 'include' / 'torch' / 'csrc' / 'api' / 'include'}"]
    isas = ISA_FLAGS if platform.machine() == "x86_64" else {"generic": ()}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as scratch:
        jobs = {"ops": ["-fopenmp", *includes, str(SOURCE / "ops.cpp")]}
        jobs |= {name: [str(SOURCE / name)] for name in PLAIN}
        for isa, flags in isas.items():
            jobs[isa] = [*flags, f"-DBNN_ISA={isa}", f"-DBNN_TABLE=kernels_{isa}", str(SOURCE / "isa.cpp")]
        objects = {name: str(Path(scratch) / f"{name}.o") for name in jobs}
        with ThreadPoolExecutor(max_workers=2) as pool:
            started = [
                pool.submit(_run, [cxx, *FLAGS, *words, "-c", "-o", objects[name]], name)
                for name, words in reversed(jobs.items())  # those that take longest
            ]
            for done in started:
                done.result()
        # torch's libgomp by its place: a second OpenMP pool would fight with torch's threads
        openmp = sorted((root / "lib").glob("libgomp*.so*")) or sorted(root.parent.glob("torch.libs/libgomp*.so*"))
        link = [str(openmp[0])] if openmp else ["-fopenmp"]
        made = Path(scratch) / target.name
        libraries = [f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10", *link]
        _run([cxx, "-shared", *objects.values(), *libraries, "-Wl,-z,defs", "-o", str(made)], target.name)
        made.replace(target)


def build() -> Path:
    """Build the kernels or take them from the cache, unless they are up to date; their path. Raises UserError."""
    path, source = library_path(), _source_hash()
    cxx = compiler()
    version = subprocess.run([cxx, "--version"], capture_output=True, text=True).stdout
    key = hashlib.sha256(f"{source} {version} {platform.machine()}".encode()).hexdigest()
    wanted = f"{source}\n{key}\n"
    try:
        if path.is_file() and _key_path().read_text() == wanted:
            return path
    except OSError:
        pass
    kept = _cache(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            compile_library(cxx, kept)
        aside = path.with_suffix(f".{os.getpid()}")
        shutil.copyfile(kept, aside)
        aside.replace(path)
        write_text(_key_path(), wanted)
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror}") from None
    return path


if __name__ == "__main__":
    try:
        print(build())
    except UserError as error:
        print(f"bnn.kernels: {error}", file=sys.stderr)
        sys.exit(2)
