"""Builds the kernels with the C++ compiler, once per source, torch and compiler: `python -m bnn.kernels.build`.

The library is kept in the user's cache, as Horovod's wheel is, so that a new environment takes it from there. CXX
chooses another compiler than g++ (it must know GCC's vector extension, as clang does).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bnn import compiled
from bnn.errors import UserError

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
OPERATORS = ("registration", "convolution", "sparse_product", "noise", "optimizer", "ivon")  # that see torch's tensors
PLAIN = ("geometry", "dispatch")  # that need nothing of torch


def library_path() -> Path:
    """Where the library of this Python environment lies."""
    return compiled.library_path("libbnn_kernels")


def _cache(key: str) -> Path:
    """Where the user keeps the library of that key, under the hash in its second line."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "bnn-at-scale" / "kernels" / key.split("\n")[1] / library_path().name


def _source_hash() -> str:
    from importlib.metadata import version

    files = [path for path in sorted(SOURCE.iterdir()) if path.suffix in (".h", ".cpp")]
    return compiled.source_hash((FLAGS, ISA_FLAGS, version("torch")), files)


def library() -> Path:
    """The library built from these sources. Raises UserError when it is not there or older than they are."""
    return compiled.built(library_path(), _source_hash(), "bnn.kernels", ("the kernels are", "their"))


def compiler() -> str:
    """The C++ compiler. Raises UserError when there is none."""
    name = os.environ.get("CXX") or "g++"
    found = shutil.which(name)
    if found is None:
        raise UserError(f"{name}: no such C++ compiler (apt-get install g++, or name another one in CXX)")
    return found


def compile_library(cxx: str, target: Path) -> None:
    """Compile all sources, two at a time, and link them to torch and to its own OpenMP. Raises UserError."""
    import torch

    root = Path(torch.__file__).parent
    includes = [f"-I{root / 'include'}", f"-I{root / 'include' / 'torch' / 'csrc' / 'api' / 'include'}"]
    isas = ISA_FLAGS if platform.machine() == "x86_64" else {"generic": ()}
    with compiled.scratch_beside(target) as scratch:
        jobs = {name: ["-fopenmp", *includes, str(SOURCE / f"{name}.cpp")] for name in OPERATORS}
        jobs |= {name: [str(SOURCE / f"{name}.cpp")] for name in PLAIN}
        for isa, flags in isas.items():
            jobs[isa] = [*flags, f"-DBNN_ISA={isa}", f"-DBNN_TABLE=kernels_{isa}", str(SOURCE / "isa.cpp")]
        objects = {name: str(scratch / f"{name}.o") for name in jobs}
        with ThreadPoolExecutor(max_workers=2) as pool:
            started = [
                pool.submit(compiled.compile_with, [cxx, *FLAGS, *words, "-c", "-o", objects[name]], name)
                for name, words in reversed(jobs.items())  # those that take longest
            ]
            for done in started:
                done.result()
        # torch's own libgomp, by its path: a second OpenMP pool would fight with torch's threads
        openmp = sorted((root / "lib").glob("libgomp*.so*")) or sorted(root.parent.glob("torch.libs/libgomp*.so*"))
        link = [str(openmp[0])] if openmp else ["-fopenmp"]
        libraries = [f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10", *link]
        made = ["-Wl,-z,defs", "-o", str(scratch / target.name)]
        compiled.compile_with([cxx, "-shared", *objects.values(), *libraries, *made], target.name)


def build() -> Path:
    """Build the kernels or take them from the cache, unless they are up to date; their path. Raises UserError."""
    path, cxx = library_path(), compiler()
    version = subprocess.run([cxx, "--version"], capture_output=True, text=True).stdout
    key = compiled.key_of(_source_hash(), version, platform.machine())
    if compiled.is_current(path, key):
        return path
    kept = _cache(key)
    try:
        if not kept.is_file():
            compile_library(cxx, kept)
        compiled.install(kept, path, key)
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror}") from None
    return path


if __name__ == "__main__":
    compiled.main(build, "bnn.kernels")
