"""A source archive is unpacked safely, and the build's edits apply exactly or not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.console import SetupError
from bootstrap.source import Edit, apply_edits, check_sha256, unpack


def archive(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = folder / "source.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, target, mode
    return member


def test_plain_files_are_unpacked_without_special_permissions(tmp_path: Path) -> None:
    path = archive(tmp_path, (entry("a/run", mode=0o4777), b"#!"), (entry("a/b/text", mode=0o600), b"hello"))
    top = unpack(path, tmp_path / "out")
    assert top == tmp_path / "out" / "a"
    assert (top / "b" / "text").read_bytes() == b"hello"
    assert (top / "run").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "member",
    [
        entry("/etc/owned"),
        entry("a/../../owned"),
        entry("a/link", tarfile.SYMTYPE, "/etc"),
        entry("a/link", tarfile.LNKTYPE, "../owned"),
        entry("a/pipe", tarfile.FIFOTYPE),
        entry("a/device", tarfile.CHRTYPE),
    ],
    ids=["absolute", "parent", "symbolic link", "hard link", "fifo", "device"],
)
def test_anything_else_is_refused_before_a_byte_is_written(member: tarfile.TarInfo, tmp_path: Path) -> None:
    path = archive(tmp_path, (entry("a/first"), b"x"), (member, b""))
    with pytest.raises(SetupError, match="refused"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_top_folders_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, (entry("a/x"), b""), (entry("b/x"), b""))
    with pytest.raises(SetupError, match="one top folder"):
        unpack(path, tmp_path / "out")


def test_another_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, (entry("a/x"), b"x"))
    check_sha256(path, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(SetupError, match="SHA-256"):
        check_sha256(path, "0" * 64)


@given(before=st.text("ab\n", max_size=20), after=st.text("ab\n", max_size=20))
def test_an_edit_replaces_its_text_and_nothing_else(
    before: str, after: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("edit")
    (folder / "file").write_text(f"{before}OLD{after}")
    apply_edits(folder, [Edit("file", "OLD", "NEW")])
    assert (folder / "file").read_text() == f"{before}NEW{after}"


@pytest.mark.parametrize("text", ["", "set(X 15)", "set(X 14)\nset(X 14)"], ids=["empty", "other", "twice"])
def test_an_edit_that_does_not_fit_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(text)
    with pytest.raises(SetupError, match=r"CMakeLists\.txt: expected 'set\(X 14\)' once"):
        apply_edits(tmp_path, [Edit("CMakeLists.txt", "set(X 14)", "set(X 20)")])
    assert (tmp_path / "CMakeLists.txt").read_text() == text


def test_an_edit_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="found it 0 times"):
        apply_edits(tmp_path, [Edit("gone", "a", "b")])
