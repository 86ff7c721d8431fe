"""How the kernels are built: when, by what, from the cache, and what comes of a compiler that fails."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bnn import kernels
from bnn.errors import UserError
from bnn.kernels import build
from tests.support.kernels import need_kernels

Environment = Callable[[str], Path]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Makes a Python environment of that name the one to build for; all share one cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def enter(name: str) -> Path:
        monkeypatch.setattr(sys, "prefix", str(tmp_path / name))
        return tmp_path / name / "lib" / "bnn"

    return enter


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a script in the compiler's place that logs its words and writes what -o names; returns the log."""

    def put(version: str = "1.0", body: str = "") -> Path:
        script, log = tmp_path / "cxx", tmp_path / "log"
        script.write_text(
            f"""#!/bin/sh
if [ "$1" = --version ]; then echo {version}; exit; fi
echo "$*" >> {log}
{body}
while [ "$1" != -o ]; do shift; done
echo made > "$2"
"""
        )
        script.chmod(0o755)
        log.write_text("")
        monkeypatch.setenv("CXX", str(script))
        return log

    return put


def test_no_library_or_one_of_another_source_is_refused(environment: Environment) -> None:
    folder = environment("one")
    with pytest.raises(UserError, match=r"kernels are not built: run python -m bnn\.kernels\.build"):
        build.library()
    folder.mkdir(parents=True)
    build.library_path().write_bytes(b"")
    key = build.library_path().with_suffix(".key")
    key.write_text("of another source\nand compiler\n")
    with pytest.raises(UserError, match="older than their source"):
        build.library()
    key.write_text(f"{build._source_hash()}\nand compiler\n")
    assert build.library() == build.library_path()
    build.library_path().unlink()
    with pytest.raises(UserError, match="run python"):
        build.library()


def test_whatever_is_compiled_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "src"
    shutil.copytree(build.SOURCE, copy)
    files = sorted(copy.iterdir())
    hashes = {build._source_hash()}
    monkeypatch.setattr(build, "SOURCE", copy)
    assert {build._source_hash()} == hashes
    for path in files:
        with path.open("a") as source:
            source.write("\n")
        hashes.add(build._source_hash())
    (copy / "more.h").write_text("")
    hashes.add(build._source_hash())
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    hashes.add(build._source_hash())
    assert len(hashes) == 3 + len(files)


def test_no_compiler_is_one_line(environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = environment("one")
    monkeypatch.setenv("CXX", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"nothing: no such C\+\+ compiler"):
        build.build()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^g\+\+: no such C\+\+ compiler \(apt-get install g\+\+"):
        build.build()
    assert not folder.exists()


def test_the_second_environment_takes_what_the_first_built(
    environment: Environment, compiler: Callable[..., Path]
) -> None:
    log = compiler()
    folder = environment("one")
    path = build.build()
    assert path.read_text() == "made\n"
    assert build.library() == path
    once = log.read_text()
    assert build.build() == path
    environment("two")
    assert build.build() != path
    assert build.library().read_text() == "made\n"
    assert log.read_text() == once  # nothing was compiled again
    # another compiler, or a library that was lost, asks for a new one
    log = compiler("2.0")
    build.build()
    assert log.read_text() != ""
    environment("one")
    path.unlink()
    build.build()
    assert path.is_file()
    assert sorted(p.name for p in folder.iterdir()) == ["libbnn_kernels.key", "libbnn_kernels.so"]


def test_every_width_is_compiled_and_the_narrowest_linked_first(
    environment: Environment, compiler: Callable[..., Path]
) -> None:
    log = compiler()
    environment("one")
    build.build()
    *compiled, linked = log.read_text().splitlines()
    assert "-shared" in linked
    widths = ["generic", "avx2", "avx512"] if platform.machine() == "x86_64" else ["generic"]
    objects = [Path(word).stem for word in linked.split() if word.endswith(".o")]
    assert objects[-len(widths) :] == widths
    assert len(compiled) == len(objects)
    assert not [line for line in compiled if "-march=native" in line]
    for line in compiled:  # wide instructions are for the kernels of that width alone
        wide = next((width for width in ("avx512", "avx2") if f"-m{width}" in line), "generic")
        assert f"-DBNN_ISA={wide}" in line or (wide == "generic" and "BNN_ISA" not in line)


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(
    environment: Environment, compiler: Callable[..., Path], tmp_path: Path
) -> None:
    compiler(body="echo 'In file' >&2; echo 'vec.h:1: error: no space left' >&2; exit 1")
    folder = environment("one")
    with pytest.raises(UserError, match=r"cannot build \w+: vec\.h:1: error: no space left$"):
        build.build()
    compiler(body="exit 1")
    with pytest.raises(UserError, match="no reason given"):
        build.build()
    left = [path for top in (folder, tmp_path / "cache") for path in top.rglob("*") if not path.is_dir()]
    assert left == []
    assert not list((tmp_path / "cache").rglob(".build-*"))


def test_a_cache_that_cannot_be_written_is_one_line(
    environment: Environment, compiler: Callable[..., Path], tmp_path: Path
) -> None:
    compiler()
    environment("one")
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match=r"cache.*: Not a directory"):
        build.build()


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    env = {"CXX": str(tmp_path / "nothing"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    words = [sys.executable, "-m", "bnn.kernels.build"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=build.SOURCE.parents[2])
    assert done.returncode == 2
    assert done.stderr.startswith("bnn.kernels: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("width", ["avx2", "avx512"])
def test_wide_objects_share_no_template_with_the_rest(tmp_path: Path, width: str) -> None:
    """Of a function that several objects define the linker keeps one: a wide one would crash on older machines."""
    if platform.machine() != "x86_64" or shutil.which("nm") is None:
        pytest.skip("no such machine, or no nm")
    need_kernels()
    made = tmp_path / "isa.o"
    words = [f"-DBNN_ISA={width}", f"-DBNN_TABLE=kernels_{width}", str(build.SOURCE / "isa.cpp")]
    subprocess.run([build.compiler(), *build.FLAGS, *build.ISA_FLAGS[width], *words, "-c", "-o", str(made)], check=True)
    lines = subprocess.run(["nm", "-C", str(made)], capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = [line[17:].split(" ", 1) for line in lines if line[17] not in "Ur"]  # defined, and no local constants
    assert ["D", f"bnn::kernels_{width}"] in symbols
    shared = [name for kind, name in symbols if kind in "WVuwv" and f"bnn::{width}::" not in name]
    assert shared == []
    assert [name for kind, name in symbols if kind in "TBD"] == [f"bnn::kernels_{width}"]


def test_the_library_runs_on_torchs_openmp_alone() -> None:
    need_kernels()
    code = """
import torch
from bnn import kernels
kernels.load()
torch.ops.bnn_kernels.normal(0, 100_000)
mapped = {line.split()[-1] for line in open("/proc/self/maps") if "omp" in line and ".so" in line}
print(*sorted(path for path in mapped if "gomp" in path or "iomp" in path or "libomp" in path))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=build.SOURCE.parents[2])
    assert done.returncode == 0, done.stderr
    (pool,) = done.stdout.split()
    assert "/torch" in pool


def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNN_KERNELS_ISA", "avx1024")
    with pytest.raises(UserError, match="BNN_KERNELS_ISA=avx1024: unknown; there are generic, avx2, avx512"):
        kernels.load.__wrapped__()
