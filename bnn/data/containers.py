"""What holds a data set's files: a folder, a tar archive or a zip archive, none of which is ever unpacked."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bnn.data.members import LARGEST_FILE, Container, Entry, Found, clean, readable
from bnn.errors import UserError
from bnn.regular import kind_of, open_regular

TAR_ENDINGS, GZIP_ENDINGS, ZIP_ENDINGS = (".tar",), (".tar.gz", ".tgz"), (".zip",)
UTF8_FLAG, ENCRYPTED_FLAG = 0x800, 0x1  # of a member of a zip archive
LARGEST_HEADERS = 1 << 20  # bytes of all headers of a member of a tar archive


def open_container(path: Path) -> Container:
    """What `path` is, by its ending. Raises UserError for a path that leads to nothing, or to something else."""
    if path.is_dir():
        return Folder(path)
    for endings, make in ((GZIP_ENDINGS + TAR_ENDINGS, Tar), (ZIP_ENDINGS, Zip)):
        if path.name.lower().endswith(endings):
            return make(path)
    with open_regular(path):
        raise UserError(f"{path}: neither a folder nor a .tar, .tar.gz, .tgz or .zip file")


def signature(path: Path) -> str:
    """Changes when a file, or what is in a folder, is written again: sizes and times, by name."""
    if not path.is_dir():
        facts = path.stat()
        return f"{facts.st_size}-{facts.st_mtime_ns}"
    digest = hashlib.sha256()
    for found in sorted(_walk(path, ""), key=lambda found: os.fsencode(found[0])):
        digest.update(os.fsencode(found[0]) + f"\0{found[1].st_size} {found[1].st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def _walk(folder: Path, above: str) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a folder, by its name from there. Links are not followed."""
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        facts = entry.stat(follow_symlinks=False)
        yield above + entry.name, facts
        if stat.S_ISDIR(facts.st_mode):
            yield from _walk(folder / entry.name, f"{above}{entry.name}/")


@dataclass(frozen=True)
class Folder:
    """Files on the disk."""

    path: Path

    def entries(self) -> Iterator[Entry]:
        for name, facts in _walk(self.path, ""):
            folder, regular = stat.S_ISDIR(facts.st_mode), stat.S_ISREG(facts.st_mode)
            yield Entry(name, facts.st_size, folder, "" if folder or regular else kind_of(facts.st_mode))

    def contents(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for found, _ in _walk(self.path, ""):
            name = clean(found)
            if name in wanted:
                with open_regular(self.path / found) as stream:
                    yield name, _whole(stream, None, f"{self.path}: {name!r}")


@dataclass(frozen=True)
class Tar:
    """A tar archive, compressed by gzip or not."""

    path: Path

    def entries(self) -> Iterator[Entry]:
        with self._opened() as archive:
            for member in self._members(archive):
                refused = "" if member.isdir() or (member.isreg() and not member.issparse()) else tar_kind(member)
                yield Entry(member.name, member.size, member.isdir(), refused)

    def contents(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        with self._opened() as archive:
            for member in self._members(archive):
                if member.isreg() and (name := clean(member.name)) in wanted:
                    stream = archive.extractfile(member)
                    assert stream is not None
                    yield name, _whole(stream, member.size, f"{self.path}: {name!r}")

    @contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        with open_regular(self.path) as raw:
            packed = self.path.name.lower().endswith(GZIP_ENDINGS)
            stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
            with tarfile.TarFile(fileobj=_Bounded(stream), encoding="utf-8") as archive:
                yield archive

    def _members(self, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        """In the archive's order. tarfile ends without a word at a damaged header; a whole archive ends in zeros."""
        assert isinstance(archive.fileobj, _Bounded)
        while (member := archive.fileobj.one_header(archive.next)) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # or all headers stay in memory
            yield member
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it has no end")


class _Bounded(io.RawIOBase):
    """A stream of which no more is read at once than a file may have, and of a member's headers not even that: they may
    announce names of any length, may follow upon each other, and tarfile asks on where the file has ended."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        # Bytes of a member's headers, while these are read: of the first one as the archive is opened.
        self._left: int | None = LARGEST_HEADERS

    def one_header(self, read: Callable[[], Found]) -> Found:
        """What `read` makes of a member's headers. Raises ReadError where it asks for more than these may have."""
        self._left = LARGEST_HEADERS
        try:
            return read()
        finally:
            self._left = None

    def read(self, size: int = -1) -> bytes:
        most = LARGEST_FILE if self._left is None else self._left
        if not 0 <= size <= most + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"more than {LARGEST_HEADERS:,} bytes of headers, or of a file {LARGEST_FILE:,}")
        if self._left is not None:
            self._left -= size
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def tar_kind(member: tarfile.TarInfo) -> str:
    """What a member is that is no file and no folder."""
    kinds = {
        tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a link", tarfile.FIFOTYPE: "a named pipe",
        tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.GNUTYPE_SPARSE: "a file with holes",
    }  # fmt: skip
    return kinds.get(member.type, "a file with holes" if member.issparse() else "something unknown")


@dataclass(frozen=True)
class Zip:
    """A zip archive."""

    path: Path

    def entries(self) -> Iterator[Entry]:
        with open_regular(self.path) as raw, zipfile.ZipFile(raw) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                special = stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
                refused = kind_of(mode) if special else ""
                if member.flag_bits & ENCRYPTED_FLAG:
                    refused = "an encrypted file"
                yield Entry(zip_name(member), member.file_size, member.is_dir(), refused)

    def contents(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        with open_regular(self.path) as raw, zipfile.ZipFile(raw) as archive:
            for member in archive.infolist():
                if not member.is_dir() and (name := clean(zip_name(member))) in wanted:
                    with archive.open(member) as stream:
                        yield name, _whole(stream, member.file_size, f"{self.path}: {name!r}")


def zip_name(member: zipfile.ZipInfo) -> str:
    """A member's name. Without the flag for UTF-8 zipfile takes it for code page 437: what is UTF-8 is read as that.

    What is neither ASCII nor UTF-8 is given as surrogates, as tarfile does. A zero, which ends it for zipfile, stays.
    """
    name = member.orig_filename
    if member.flag_bits & UTF8_FLAG or name.isascii():
        return name
    return name.encode("cp437").decode("utf-8", errors="surrogateescape")


def _whole(stream: IO[bytes], size: int | None, what: str) -> bytes:
    """All of a file, which has this size where an archive says one."""
    content = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE or size not in (None, len(content)):
        raise UserError(f"{what}: truncated, or larger than was listed")
    return content


def read_members(container: Container, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted files' contents, each once, in the container's order.

    Raises UserError for a damaged container, and where it has changed since it was listed.
    """
    missing = set(wanted)
    for name, content in readable(container.path, container.contents(wanted)):
        missing.discard(name)
        yield name, content
    if missing:
        raise UserError(f"{container.path}: {min(missing)!r} has gone since it was listed")
