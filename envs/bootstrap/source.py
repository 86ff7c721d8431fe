"""A source distribution: unpacked safely, edited exactly."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bootstrap.console import SetupError


@dataclass(frozen=True)
class Edit:
    """Replace `old`, which must occur exactly once in `file`, by `new`."""

    file: str
    old: str
    new: str


def check_sha256(archive: Path, expected: str) -> None:
    """Raises SetupError when the archive is not the one that the build recipe was written for."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != expected:
        raise SetupError(f"{archive}: SHA-256 is {found}, expected {expected}: damaged, or not the known release")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a .tar.gz into an empty folder and return its single top folder.

    Only plain files and folders with paths inside `folder` are accepted, checked before anything is written
    (`tarfile`'s own filters came with Python 3.11.4; Debian 12 has 3.11.2). Raises SetupError otherwise.
    """
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        for member in members:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                raise SetupError(f"{archive}: refused, {member.name!r} is not a plain file or folder inside it")
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.uid, member.gid, member.uname, member.gname = 0, 0, "", ""
        tops = {PurePosixPath(member.name).parts[0] for member in members if PurePosixPath(member.name).parts}
        if len(tops) != 1:
            raise SetupError(f"{archive}: expected one top folder, found {len(tops)}")
        for member in members:
            tar.extract(member, folder, set_attrs=True, numeric_owner=False)
    return folder / tops.pop()


def apply_edits(folder: Path, edits: Iterable[Edit]) -> None:
    """Apply the edits in order. Raises SetupError naming the file where a text is missing or not unique."""
    for edit in edits:
        path = folder / edit.file
        text = path.read_text() if path.is_file() else ""
        if text.count(edit.old) != 1:
            raise SetupError(f"{path}: expected {edit.old!r} once, found it {text.count(edit.old)} times")
        path.write_text(text.replace(edit.old, edit.new))
