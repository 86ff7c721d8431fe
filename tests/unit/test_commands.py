"""The frame of all commands: options that become settings, records that appear whole, what is said at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel, Field

from bnn.commands.envelope import envelope
from bnn.commands.output import errors_named, make_ready, staged
from bnn.commands.progress import counted, described
from bnn.commands.saying import errors_said
from bnn.commands.settings import given, parse
from bnn.errors import UserError

RECORDS = ("a.parquet", "b.parquet", "summary.json")


class Example(BaseModel):
    size_of: int = Field(3, ge=1, description="how many")
    shares: tuple[float, ...] | None = Field(None, description="several")
    labels: dict[str, Any] = Field(default_factory=dict, description="the rest")


def test_what_was_given_is_read_by_the_type_of_its_field() -> None:
    options = {"size_of": "4", "shares": "1,2.5", "labels": '{"x": 1}'}
    assert given(Example, options) == {"size_of": "4", "shares": [1.0, 2.5], "labels": {"x": 1}}
    assert given(Example, dict.fromkeys(options)) == {}
    assert parse(Example, given(Example, options)).shares == (1.0, 2.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size_of": "0"}, "--size-of: Input should be greater than or equal to 1"),
        ({"shares": "1,x"}, "--shares: '1,x' is not a list of numbers, as in 0,50,90"),
        ({"labels": "[1]"}, "--labels: expected a JSON object"),
        ({"labels": "{"}, "--labels: not JSON"),
    ],
)
def test_what_is_wrong_is_said_by_the_name_of_its_option(options: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(Example, given(Example, options))
    assert str(caught.value).startswith(said)


def write(folder: Path, names: tuple[str, ...], text: str) -> None:
    for name in names:
        (folder / name).write_text(text)


def test_records_appear_together_and_only_once_all_of_them_are_written(tmp_path: Path) -> None:
    write(tmp_path, RECORDS, "old")
    with staged(tmp_path, RECORDS) as staging:
        write(staging, RECORDS, "new")
        assert {(tmp_path / name).read_text() for name in RECORDS} == {"old"}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(RECORDS, "new")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_records_of_a_command_that_is_interrupted_never_appear(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with staged(tmp_path, RECORDS) as staging:
            write(staging, RECORDS[:2], "new")
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_last_record_is_published_last(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(tmp_path, RECORDS) as staging:
        write(staging, ("a.parquet", "summary.json"), "new")  # one is missing
    assert not (tmp_path / "summary.json").exists()


def test_a_folder_is_made_ready_but_for_the_work_that_goes_on(tmp_path: Path) -> None:
    work, other = tmp_path / ".work" / "mine", tmp_path / ".work" / "other"
    for folder in (work, other, tmp_path / ".partial-1", tmp_path / "level-0", tmp_path / "kept"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    write(tmp_path, RECORDS, "old")
    make_ready(tmp_path, RECORDS, work, [tmp_path / "level-0"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".work", "kept"]
    assert [path.name for path in (tmp_path / ".work").iterdir()] == ["mine"]
    assert (work / "file").exists()


def test_an_error_of_the_file_system_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    with pytest.raises(UserError, match=f"^{out}: Not a directory$"), errors_named(out):
        make_ready(out, RECORDS, out / ".work")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("file.json: no such key"), 2, "bnn: file.json: no such key"),
        (click.UsageError("no\nsuch option"), 2, "bnn: no such option"),
        (KeyboardInterrupt(), 130, "bnn: interrupted"),
        (click.Abort(), 130, "bnn: interrupted"),
    ],
)
def test_an_error_that_a_user_can_cause_is_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, errors_said():
        raise error
    assert caught.value.code == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_bug_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_said():
        raise ZeroDivisionError


def test_progress_goes_to_stderr_and_can_be_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (True, False):
        with counted("pruning", 4, "draws", shown=shown) as drawn:
            for _ in range(4):
                drawn(1)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("4/4" in err) is shown
    with described("bench") as tell:
        tell("round 1", 0.5)
    assert capsys.readouterr().err.endswith(" 50%] round 1\n")


def test_the_envelope_says_when_and_by_what_a_record_was_made() -> None:
    found = envelope(5.0)
    assert (found["started_at"], found["command"]) == (5.0, sys.argv)
    assert found["stopped_at"] > 1e9
    assert set(found) == {"command", "started_at", "stopped_at", "git_revision", "git_dirty"}
