"""Files and folders appear whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from bnn.atomic import atomic_file, atomic_folder
from bnn.records.files import write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "made.txt"
    target.write_text("older")
    with atomic_file(target) as aside:
        aside.write_text("new")
        assert target.read_text() == "older"
        assert aside.parent == tmp_path, "renaming is atomic within a file system only"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["made.txt"]


@pytest.mark.parametrize("failure", [ValueError("bug"), OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_what_fails_leaves_the_older_file_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "made.txt"
    write_text(target, "older")

    def fail() -> None:
        with atomic_file(target) as aside:
            aside.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        fail()
    assert target.read_text() == "older"
    assert names(tmp_path) == ["made.txt"]


def test_the_first_failure_is_the_one_that_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere"), atomic_file(tmp_path / "nowhere" / "made.txt") as aside:
        aside.write_text("text")


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / "older").write_text("")
    with atomic_folder(target) as aside:
        (aside / "new").write_text("")
        assert names(target) == ["older"]
    assert names(target) == ["new"]
    assert names(tmp_path) == ["made"]


def test_a_folder_that_cannot_be_filled_leaves_the_older_one(tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()

    def fail() -> None:
        with atomic_folder(target) as aside:
            (aside / "new").write_text("")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(target) == []
    assert names(tmp_path) == ["made"]


def test_a_folder_that_cannot_take_its_place_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / "older").write_text("")
    rename = Path.rename

    def refusing(self: Path, to: Path) -> Path:
        if ".partial-" in self.name:
            raise PermissionError(errno.EACCES, "refused")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(PermissionError), atomic_folder(target) as aside:
        (aside / "new").write_text("")
    assert names(target) == ["older"]
    assert names(tmp_path) == ["made"]


def test_a_link_stays_one_and_the_folder_it_leads_to_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    (real / "older").write_text("")
    link.symlink_to(real)
    with atomic_folder(link) as aside:
        (aside / "new").write_text("")
    assert link.is_symlink()
    assert names(real) == ["new"]
    assert names(tmp_path) == ["link", "real"]


@pytest.mark.parametrize("target", ["file", ".", "..", "link-to-file", "loop"])
def test_what_no_folder_can_replace_is_refused_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("kept")
    (inner / "link-to-file").symlink_to("file")
    (inner / "loop").symlink_to("loop")
    monkeypatch.chdir(inner)
    filled = []
    with pytest.raises(OSError, match=r"Not a directory|current folder"), atomic_folder(Path(target)) as aside:
        filled.append(aside)
    assert not filled
    assert names(inner) == ["file", "link-to-file", "loop"]
    assert (inner / "file").read_text() == "kept"
    assert names(tmp_path) == ["outer"]
    assert names(tmp_path / "outer") == ["inner"]


def test_processes_of_two_hosts_write_to_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for host in ("node-1", "node-2"):
        monkeypatch.setattr("os.uname", lambda host=host: SimpleNamespace(nodename=host))
        with atomic_file(tmp_path / "made") as aside:
            seen.add(aside)
            aside.write_text("")
        with atomic_folder(tmp_path / "folder") as aside:
            seen.add(aside)
    assert len(seen) == 4


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    """A device, say, by somebody who may."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path):
        with pytest.raises(OSError, match="no regular file"), atomic_file(place):
            pytest.fail("nothing is written")
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "folder" / "target"
    target.parent.mkdir()
    link.symlink_to(target)
    for text in ("new", "newer"):  # it may lead to nothing yet
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
