"""Libraries that the set-up compiles for one Python environment: where they lie, and whether they are up to date.

A library is `<environment>/lib/bnn/<name>.so`; beside it `<name>.key` holds the hash of its source in the first line,
then a hash of all else it depends on. The old key goes before the library changes, so that a key never stands beside a
library that it does not describe. Both are written aside and renamed: a process that has the old library loaded
keeps it, and so does another environment whose file was a hard link to the same one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnn.atomic import atomic_file
from bnn.errors import UserError
from bnn.records.files import write_text


def library_path(name: str) -> Path:
    """Where this Python environment has, or would have, the library `name`.so."""
    return Path(sys.prefix) / "lib" / "bnn" / f"{name}.so"


def source_hash(options: object, files: Iterable[Path]) -> str:
    """Hash of what is compiled, and with which options; cheap, since every run asks for it."""
    digest = hashlib.sha256(repr(options).encode())
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def key_of(source: str, *facts: object) -> str:
    """The key of a library of that source hash, built where these facts hold (compiler, releases, machine)."""
    return f"{source}\n{hashlib.sha256(repr((source, *facts)).encode()).hexdigest()}\n"


def is_current(library: Path, key: str) -> bool:
    """Whether the library is there and was built as `key` says."""
    return library.is_file() and _key(library) == key


def built(library: Path, source: str, package: str, words: tuple[str, str]) -> Path:
    """`library`, if it was built from that source.

    Raises UserError when it is not there or of another source, saying what `package` builds in `words`: the beginning
    of the sentence, and its or their.
    """
    found = _key(library).partition("\n")[0]
    if found != source or not library.is_file():
        state = f"older than {words[1]} source" if found else "not built"
        raise UserError(f"{library}: {words[0]} {state}: run python -m {package}.build")
    return library


def install(made: Path, library: Path, key: str) -> None:
    """Put the file `made` in the library's place, then its key. Raises OSError."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(library):
        library.with_suffix(".key").unlink(missing_ok=True)
        with atomic_file(library) as aside:
            shutil.copyfile(made, aside)
        write_key(library, key)


@contextmanager
def one_at_a_time(library: Path) -> Iterator[None]:
    """Keep other processes from installing in the library's folder meanwhile, if it can be locked. Raises OSError."""
    descriptor = os.open(library.parent, os.O_RDONLY)  # the folder's lock leaves no file
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_key(library: Path, key: str) -> None:
    """Say of a library that is now there what it was built from. Raises OSError."""
    write_text(library.with_suffix(".key"), key)


def compile_with(command: list[str], what: str) -> None:
    """Run a compiler. Raises UserError with the first error that it reports."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise UserError(f"{command[0]}: cannot build {what}: {words[0] if words else 'no reason given'}")


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A folder beside `target` to compile in; the file of its name that is there at the end becomes `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as scratch:
        yield Path(scratch)
        (Path(scratch) / target.name).replace(target)


def main(build: Callable[[], Path], package: str) -> None:
    """`python -m <package>.build`: prints the library's path; a user's mistake is one line and exit code 2."""
    try:
        print(build())
    except UserError as error:
        print(f"{package}: {error}", file=sys.stderr)
        sys.exit(2)


def _key(library: Path) -> str:
    try:
        return library.with_suffix(".key").read_text()
    except OSError:
        return ""
