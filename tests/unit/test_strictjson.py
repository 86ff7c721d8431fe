"""JSON that people write: what is read is what all readers would read, and all else is refused in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from bnn.strictjson import parse_json, parse_object, read_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def refused(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_json(text, "--labels")
    said = str(caught.value)
    assert said.startswith("--labels: ")
    assert "\n" not in said
    return said


@given(VALUES, st.booleans())
def test_what_is_json_is_read(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    if any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False)):
        assert "surrogate" in refused(text)
    else:
        assert parse_json(text, "x") == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' is given twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ("-Infinity", "-Infinity is no number"),
        ("[1e999]", "1e999 is no finite number"),
        ("1" * 10_000, "too many digits"),
        ("[" * 200_000, "nested too deep"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ("{", "not JSON"),
        ("", "not JSON"),
        ("{} {}", "not JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_readers_take_for_different_things_is_refused(text: str, words: str) -> None:
    assert words in refused(text)


def test_an_object_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--options: expected a JSON object"):
        parse_object("[1]", "--options")
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match=r"x\.json: not UTF-8 text"):
        read_object(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="a named pipe"):
        read_object(tmp_path / "pipe")
