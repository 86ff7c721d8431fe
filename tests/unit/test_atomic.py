"""Files and folders appear whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import errno
from pathlib import Path

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
