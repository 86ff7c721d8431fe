"""What a user is told is one line, whatever it quotes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError


@given(st.text())
def test_an_error_is_one_line_and_can_be_printed(quoted: str) -> None:
    text = str(UserError(f"file.json: {quoted}: unknown"))
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    assert str(UserError(text)) == text


def test_line_breaks_are_written_as_escapes() -> None:
    assert str(UserError("a\nb\x1b[31m\u2028c")) == r"a\nb\x1b[31m\u2028c"
