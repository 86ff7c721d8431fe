"""What a user is told is one line, whatever it quotes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.commands.saying import errors_said
from bnn.errors import UserError


@given(st.text())
def test_an_error_is_one_line_and_can_be_printed(quoted: str) -> None:
    text = str(UserError(f"file.json: {quoted}: unknown"))
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    assert str(UserError(text)) == text


@pytest.mark.parametrize("statement", ["import sys; sys.exit(0)", "exit()", "raise SystemExit", "quit(3)"])
def test_code_that_is_not_ours_ends_no_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], statement: str
) -> None:
    file = tmp_path / "own.py"
    code = compile(f"\n{statement}\n", str(file), "exec")
    with pytest.raises(SystemExit) as caught, errors_said():
        exec(code, {})  # noqa: S102
    assert caught.value.code == 2
    assert f"bnn: {file}:2: ended the program, by exit code" in capsys.readouterr().err


def test_line_breaks_are_written_as_escapes() -> None:
    assert str(UserError("a\nb\x1b[31m\u2028c")) == r"a\nb\x1b[31m\u2028c"
